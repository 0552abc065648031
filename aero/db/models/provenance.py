"""The permanent record of committed runs, in the terms of W3C PROV."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, Sha256


class Provenance(Base):
    """An Activity: one committed run. It outlives the run's own row."""

    __tablename__ = "provenance"
    __table_args__ = (Index(None, "flow_id", "task"), Index(None, "finished_at", "id"))

    id: Mapped[IdKey]
    run_id: Mapped[Id] = mapped_column(unique=True)
    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"))
    task: Mapped[int]
    function_id: Mapped[Id | None] = mapped_column(ForeignKey("function.id"))
    source_sha256: Mapped[Sha256 | None]
    kwargs: Mapped[dict[str, Any]]
    trigger_key: Mapped[str]
    endpoint: Mapped[str]
    environment: Mapped[dict[str, Any]]
    steps: Mapped[Any] = mapped_column(nullable=False)
    agent: Mapped[str]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]


class ProvenanceDerivation(Base):
    """A version that was used, by input name.

    `flow_id`, `task` and `version` repeat what the joined rows say, so that the
    greatest consumed version is the end of an index, however long the history.
    """

    __tablename__ = "provenance_derivation"
    __table_args__ = (Index(None, "flow_id", "task", "name", "version"),)

    provenance_id: Mapped[Id] = mapped_column(
        ForeignKey("provenance.id"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[Id] = mapped_column(ForeignKey("data_version.id"), index=True)
    flow_id: Mapped[Id]
    task: Mapped[int]
    version: Mapped[int]


class ProvenanceContribution(Base):
    """A version that came out; without `is_new` it was reproduced."""

    __tablename__ = "provenance_contribution"

    provenance_id: Mapped[Id] = mapped_column(
        ForeignKey("provenance.id"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[Id] = mapped_column(ForeignKey("data_version.id"), index=True)
    is_new: Mapped[bool]


class ProvenanceSource(Base):
    """What was downloaded, with the raw bytes where a function changed them."""

    __tablename__ = "provenance_source"
    __table_args__ = (Index(None, "sha256"),)

    provenance_id: Mapped[Id] = mapped_column(
        ForeignKey("provenance.id"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    final_url: Mapped[str]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    sha256: Mapped[Sha256]
    size: Mapped[int] = mapped_column(BigInteger)
    uri: Mapped[str | None]
    retrieved_at: Mapped[datetime]
