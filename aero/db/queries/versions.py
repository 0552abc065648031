"""Data versions, the edges between them, and what is known of sources."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    func,
    insert,
    select,
    tuple_,
    update,
)

from aero.db.models import (
    Data,
    DataVersion,
    ProvenanceSource,
    SourceState,
    VersionEdge,
)
from aero.db.queries.common import insert_ignore, upsert


def newest_number(tx: Connection, data_id: str) -> int:
    """Return the greatest version number of Data, 0 where there is none."""
    found: int | None = tx.execute(_NEWEST, {"data": data_id}).scalar_one()
    return found or 0


_NEWEST = select(func.max(DataVersion.version)).where(
    DataVersion.data_id == bindparam("data")
)
_LATEST = (
    select(
        DataVersion.key,
        DataVersion.id,
        DataVersion.version,
        DataVersion.sha256,
        DataVersion.etag,
    )
    .where(
        DataVersion.data_id == bindparam("data"),
        DataVersion.task == bindparam("task"),
        DataVersion.source_key == bindparam("key"),
    )
    .order_by(DataVersion.version.desc())
    .limit(1)
)
_ADD = insert(DataVersion).returning(DataVersion.key)


def newest_numbers(tx: Connection, data_ids: Collection[str]) -> dict[str, int]:
    """Return the greatest version number of each Data that has one."""
    newest = (
        select(func.max(DataVersion.version))
        .where(DataVersion.data_id == Data.id)
        .scalar_subquery()
    )
    rows = tx.execute(select(Data.id, newest).where(Data.id.in_(list(data_ids))))
    return {data_id: number for data_id, number in rows if number is not None}


def latest_of(tx: Connection, data_id: str, task: int, source_key: str) -> Any:
    """Return the latest version that this task made from this object."""
    key = {"data": data_id, "task": task, "key": source_key}
    return tx.execute(_LATEST, key).one_or_none()


def add(tx: Connection, row: Mapping[str, Any]) -> int:
    """Insert a version; return its integer key."""
    key: int = tx.execute(_ADD, dict(row)).scalar_one()
    return key


def add_edges(
    tx: Connection,
    children: Iterable[int],
    parents: Sequence[int],
    *,
    reproduced: bool,
) -> None:
    """Say that `children` were made, or made again, from `parents`."""
    rows = [
        {"child": c, "parent": p, "reproduced": reproduced}
        for c in children
        for p in parents
    ]
    if rows:
        tx.execute(insert_ignore(tx, VersionEdge), rows)


def get(tx: Connection, data_id: str, version: int) -> Row[Any] | None:
    """Return one version's whole row."""
    return tx.execute(
        select(*DataVersion.__table__.c).where(
            DataVersion.data_id == data_id, DataVersion.version == version
        )
    ).one_or_none()


def get_these(
    tx: Connection, wanted: Collection[tuple[str, int]]
) -> dict[tuple[str, int], Row[Any]]:
    """Return versions by (Data, number), those that there are."""
    named = tuple_(DataVersion.data_id, DataVersion.version)
    rows = tx.execute(select(*DataVersion.__table__.c).where(named.in_(list(wanted))))
    return {(row.data_id, row.version): row for row in rows}


def referenced(tx: Connection, sha256s: Collection[str]) -> set[str]:
    """Return those addresses that a version or a kept download refers to."""
    wanted = list(sha256s)
    versions = tx.execute(
        select(DataVersion.sha256).where(DataVersion.sha256.in_(wanted))
    ).scalars()
    raw = tx.execute(
        select(ProvenanceSource.sha256).where(ProvenanceSource.sha256.in_(wanted))
    ).scalars()
    return {*(v for v in versions if v is not None), *raw}


def source_states(
    tx: Connection, data_ids: Collection[str], task: int, source_key: str
) -> dict[str, Any]:
    """Return what the task's last good poll left behind, by Data."""
    rows = tx.execute(
        _STATES, {"ids": list(data_ids), "task_number": task, "key": source_key}
    )
    return {row.data_id: row for row in rows}


_STATES = select(*SourceState.__table__.c).where(
    SourceState.data_id.in_(bindparam("ids", expanding=True)),
    SourceState.task == bindparam("task_number"),
    SourceState.source_key == bindparam("key"),
)


def save_source_states(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Keep what a poll left behind."""
    upsert(tx, SourceState, rows, keys=["data_id", "task", "source_key"])


def distrust(tx: Connection, data_ids: Sequence[str]) -> None:
    """Let the next poll of these Data bring the bytes, were they the same."""
    tx.execute(_DISTRUST, {"ids": data_ids})


_DISTRUST = (
    update(SourceState)
    .where(SourceState.data_id.in_(bindparam("ids", expanding=True)))
    .values(etag=None, last_modified=None, raw_sha256=None)
)
