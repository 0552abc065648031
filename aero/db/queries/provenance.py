"""The append-only record."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select

from aero.db.models import (
    Data,
    DataVersion,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    ProvenanceSource,
)
from aero.db.queries.common import insert_all
from aero.db.sight import columns_of


def add(
    tx: Connection,
    record: Mapping[str, Any],
    *,
    derivations: Sequence[Mapping[str, Any]],
    contributions: Sequence[Mapping[str, Any]],
    sources: Sequence[Mapping[str, Any]],
) -> None:
    """Insert a record and what hangs on it."""
    insert_all(tx, Provenance, [record])
    insert_all(tx, ProvenanceDerivation, derivations)
    insert_all(tx, ProvenanceContribution, contributions)
    insert_all(tx, ProvenanceSource, sources)


def has_any(tx: Connection, flow_id: str, task: int) -> bool:
    """Whether a run of this flow and task ever committed."""
    return tx.execute(_ANY, {"flow": flow_id, "task": task}).first() is not None


_ANY = (
    select(Provenance.id)
    .where(
        Provenance.flow_id == bindparam("flow"), Provenance.task == bindparam("task")
    )
    .limit(1)
)


def of_run(tx: Connection, run_id: str) -> Row[Any] | None:
    """Return a run's record."""
    return tx.execute(
        select(*Provenance.__table__.c).where(Provenance.run_id == run_id)
    ).one_or_none()


def used_versions(tx: Connection, ids: Collection[str]) -> list[Row[Any]]:
    """Return the versions that records used, and whose, by record and input name."""
    return list(
        tx.execute(
            select(
                ProvenanceDerivation.provenance_id,
                ProvenanceDerivation.name,
                *DataVersion.__table__.c,
                *columns_of(Data, ""),
            )
            .join(DataVersion, DataVersion.id == ProvenanceDerivation.version_id)
            .join(Data, Data.id == DataVersion.data_id)
            .where(ProvenanceDerivation.provenance_id.in_(list(ids)))
            .order_by(ProvenanceDerivation.provenance_id, ProvenanceDerivation.name)
        )
    )


def made_versions(tx: Connection, ids: Collection[str]) -> list[Row[Any]]:
    """Return the versions that records made, and whose, by record and output name."""
    return list(
        tx.execute(
            select(
                ProvenanceContribution.provenance_id,
                ProvenanceContribution.name,
                ProvenanceContribution.is_new,
                *DataVersion.__table__.c,
                *columns_of(Data, ""),
            )
            .join(DataVersion, DataVersion.id == ProvenanceContribution.version_id)
            .join(Data, Data.id == DataVersion.data_id)
            .where(ProvenanceContribution.provenance_id.in_(list(ids)))
            .order_by(ProvenanceContribution.provenance_id, ProvenanceContribution.name)
        )
    )


def sources(tx: Connection, ids: Collection[str]) -> list[Row[Any]]:
    """Return what records downloaded."""
    return list(
        tx.execute(
            select(*ProvenanceSource.__table__.c).where(
                ProvenanceSource.provenance_id.in_(list(ids))
            )
        )
    )
