"""Registered functions."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, Sha256
from aero.db.models.shared import Shared, conditions


class Function(Shared, Base):
    """A registered user function, or one known only by its Globus id."""

    __tablename__ = "function"
    __table_args__ = (UniqueConstraint("owner", "source_sha256"), *conditions())

    id: Mapped[IdKey]
    name: Mapped[str]
    source: Mapped[str | None]
    source_sha256: Mapped[Sha256 | None]
    description: Mapped[str]
    python_version: Mapped[str | None]
    created_at: Mapped[datetime]


class FunctionRegistration(Base):
    """The id a function has at a compute service."""

    __tablename__ = "function_registration"

    function_id: Mapped[Id] = mapped_column(ForeignKey("function.id"), primary_key=True)
    service: Mapped[str] = mapped_column(primary_key=True)
    remote_id: Mapped[str]
