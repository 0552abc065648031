"""Ancestry and impact of a version: one recursive query over integer keys."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, get_args

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    case,
    exists,
    literal,
    not_,
    or_,
    select,
    true,
)

from aero.clock import isoformat
from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    Function,
    Provenance,
    ProvenanceContribution,
    ProvenanceSource,
    VersionEdge,
)
from aero.db.sight import HIDDEN, columns_of, hidden, sees, visible
from aero.error import InvalidValueError
from aero.provenance.graph import Direction, Lineage
from aero.types import Json

_BATCH = 5_000


def walk(
    tx: Connection, root: int, direction: Direction, depth: int | None = None
) -> list[int]:
    """Return the keys of all versions that are reached from `root`, itself included.

    Upwards only what a version was made from counts, downwards also what was merely
    made again.
    """
    return list(tx.execute(_walking(direction, depth), {"root": root}).scalars())


@lru_cache(maxsize=64)
def _walking(direction: Direction, depth: int | None) -> Any:
    edge = VersionEdge.__table__
    up = direction == "up"
    here, there = (edge.c.child, edge.c.parent)[:: 1 if up else -1]
    first: Any = select(bindparam("root", type_=here.type).label("key"))
    if depth is None:
        # Keys alone: a version that many paths lead to is visited once.
        seen = first.cte("seen", recursive=True)
        step = select(there).join(seen, here == seen.c.key).where(_made(seen, up))
        return select(seen.union(step).c.key)
    seen = first.add_columns(literal(0).label("depth")).cte("seen", recursive=True)
    step = (
        select(there, seen.c.depth + 1)
        .join(seen, here == seen.c.key)
        .where(_made(seen, up), seen.c.depth < depth)
    )
    return select(seen.union(step).c.key).distinct()


def _made(seen: CTE, up: bool) -> ColumnElement[bool]:
    # No key is NULL. Compared with a constant, SQLite would filter the whole table
    # before the first step.
    return VersionEdge.reproduced == seen.c.key.is_(None) if up else true()


def lineage(
    tx: Connection,
    version: Any,
    direction: Direction = "up",
    depth: int | None = None,
) -> Lineage:
    """Return the whole ancestry, or impact, of a version.

    Upwards it follows records with `is_new`; downwards it follows all and marks
    reproductions. It is whole whoever asks: of a version that the viewer does not see
    there is a node, too, which says nothing but that it is `hidden`.

    Args:
        tx: The transaction to read in.
        version: The version's row.
        direction: `up` to what it was made from, `down` to what it went into.
        depth: How many steps at most; None for all.

    Raises:
        InvalidValueError: There is no such direction.
    """
    if direction not in get_args(Direction):
        raise InvalidValueError(
            f"There is no direction {direction!r}: write 'up' or 'down'."
        )
    keys = sorted(walk(tx, version.key, direction, depth), reverse=direction == "up")
    ids: dict[int, str] = {}
    nodes: dict[str, Json] = {}
    pairs: list[Any] = []
    for part in _batches(keys):
        for key, node in _nodes(tx, part):
            ids[key] = node["id"]
            nodes[node["id"]] = node
        pairs += tx.execute(_EDGES, {"keys": part})
    pairs.sort()
    made, again = (
        [
            (ids[child], ids[parent])
            for child, parent, reproduced in pairs
            if reproduced is kind and parent in ids
        ]
        for kind in (False, True)
    )
    first = nodes.pop(version.id)
    return Lineage(
        root=version.id,
        direction=direction,
        nodes={version.id: first, **nodes},
        edges=made,
        reproductions=again if direction == "down" else [],
    )


def _batches(keys: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]


def _nodes(tx: Connection, keys: Sequence[int]) -> Iterator[tuple[int, Json]]:
    """Yield (key, record) of these versions, in the order of `keys`."""
    given = {"keys": keys}
    rows = {row.key: row for row in tx.execute(_VERSIONS, given)}
    makers = {row.key: row for row in tx.execute(_MAKERS, given)}
    downloads: dict[int, list[Any]] = {}
    for row in tx.execute(_seen_downloads(tx), given):
        downloads.setdefault(row.key, []).append(row)
    for key in keys:
        if not sees(tx, rows[key]):
            yield key, hidden(rows[key].id)
            continue
        maker = makers.get(key)
        # The record of the run that made it is its flow's.
        if maker is not None and not sees(tx, maker, "flow_"):
            yield key, _node(tx, rows[key], None, [])
        else:
            yield key, _node(tx, rows[key], maker, downloads.get(key, []))


_KEYS: Any = bindparam("keys", expanding=True)
_EDGES = select(VersionEdge.child, VersionEdge.parent, VersionEdge.reproduced).where(
    VersionEdge.child.in_(_KEYS)
)
_VERSIONS = (
    select(*DataVersion.__table__.c, Data.name, *columns_of(Data, ""))
    .join(Data, Data.id == DataVersion.data_id)
    .where(DataVersion.key.in_(_KEYS))
)
_MADE = (
    ProvenanceContribution.version_id == DataVersion.id,
    ProvenanceContribution.is_new.is_(True),
)
_MAKERS = (
    select(
        DataVersion.key,
        Provenance.id,
        Provenance.run_id,
        Provenance.flow_id,
        Function.id.label("function_id"),
        Function.name.label("function_name"),
        Function.source_sha256,
        *columns_of(Function, "function_"),
        *columns_of(Flow, "flow_"),
    )
    .join(ProvenanceContribution, and_(*_MADE))
    .join(Provenance, Provenance.id == ProvenanceContribution.provenance_id)
    .join(Flow, Flow.id == Provenance.flow_id)
    .outerjoin(Function, Function.id == Provenance.function_id)
    .where(DataVersion.key.in_(_KEYS))
)


def _downloading() -> Any:
    # A function was given everything that its run downloaded, its own source first;
    # without one, each output is its own download.
    own = ProvenanceSource.name == ProvenanceContribution.name
    return (
        select(*ProvenanceSource.__table__.c, DataVersion.key)
        .join(ProvenanceContribution, and_(*_MADE))
        .join(Provenance, Provenance.id == ProvenanceContribution.provenance_id)
        .join(ProvenanceSource, ProvenanceSource.provenance_id == Provenance.id)
        .where(
            DataVersion.key.in_(_KEYS), or_(own, Provenance.function_id.is_not(None))
        )
        .order_by(case((own, 0), else_=1), ProvenanceSource.name)
        .select_from(DataVersion)
    )


_DOWNLOADS = _downloading()


def _seen_downloads(tx: Connection) -> Any:
    """Leave out what a run downloaded for outputs that the viewer does not see."""
    seen = visible(tx, Data)
    if not seen:
        return _DOWNLOADS
    other = ProvenanceContribution.__table__.alias("other")
    made = DataVersion.__table__.alias("made")
    unseen = (
        select(other.c.name)
        .join(made, made.c.id == other.c.version_id)
        .join(Data, Data.id == made.c.data_id)
        .where(
            other.c.provenance_id == ProvenanceSource.provenance_id,
            other.c.name == ProvenanceSource.name,
            not_(and_(*seen)),
        )
    )
    return _DOWNLOADS.where(~exists(unseen))


def _node(tx: Connection, row: Any, maker: Any, downloads: Sequence[Any]) -> Json:
    sources = [_source(download) for download in downloads]
    node: Json = {
        "id": row.id,
        "data_id": row.data_id,
        "name": row.name,
        "version": row.version,
        "sha256": row.sha256,
        "size": row.size,
        "file_name": row.file_name,
        "created_at": isoformat(row.created_at),
        "run_id": None,
        "flow_id": None,
        "provenance_id": None,
        "function": None,
        "source": sources[0] if sources else None,
        "sources": sources,
    }
    if maker is None:
        return node
    node |= {
        "run_id": maker.run_id,
        "flow_id": maker.flow_id,
        "provenance_id": maker.id,
    }
    if maker.function_id is not None:
        node["function"] = _function(maker, seen=sees(tx, maker, "function_"))
    return node


def _function(maker: Any, *, seen: bool) -> Json:
    return {
        "id": maker.function_id if seen else None,
        "name": maker.function_name if seen else HIDDEN,
        "sha256": maker.source_sha256 if seen else None,
    }


def _source(download: Any) -> Json:
    return {
        "url": download.url,
        "final_url": download.final_url,
        "etag": download.etag,
        "sha256": download.sha256,
        "size": download.size,
        "retrieved_at": isoformat(download.retrieved_at),
    }
