"""Ancestry and impact of a version: one recursive query over integer keys."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Subquery, case, or_, select

from aero.clock import isoformat
from aero.db.models import (
    Data,
    DataVersion,
    Function,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    ProvenanceSource,
    VersionEdge,
)
from aero.error import InvalidValueError
from aero.types import Json

Direction = Literal["up", "down"]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """A graph of versions around `root`.

    `nodes` holds one record per version by id, nearest first; `edges` are pairs
    (child id, parent id), `reproductions` those edges by which an existing version
    was reproduced.
    """

    root: str
    direction: Direction
    nodes: dict[str, Json] = field(default_factory=dict)
    edges: Sequence[tuple[str, str]] = ()
    reproductions: Sequence[tuple[str, str]] = ()

    def neighbours(self, version_id: str) -> list[str]:
        """Return what the version was made from, or downwards what it went into."""
        if self.direction == "up":
            return [parent for child, parent in self.edges if child == version_id]
        pairs = [*self.edges, *self.reproductions]
        found = [child for child, parent in pairs if parent == version_id]
        return list(dict.fromkeys(found))

    def record(self) -> Json:
        """Return the graph as JSON."""
        return {
            "root": self.root,
            "direction": self.direction,
            "nodes": list(self.nodes.values()),
            "edges": [{"child": c, "parent": p} for c, p in self.edges],
            "reproductions": [{"child": c, "parent": p} for c, p in self.reproductions],
        }


def reachable(roots: Mapping[int, int], direction: Direction, depth: int | None) -> Any:
    """Return the recursive query of all that is reached from `roots` (key -> depth).

    Without a limit the recursion carries keys alone, so that a version that many
    paths lead to is visited once.
    """
    edge = VersionEdge.__table__
    here, there = (
        (edge.c.child, edge.c.parent)
        if direction == "up"
        else (edge.c.parent, edge.c.child)
    )
    key = DataVersion.__table__.c.key
    first: Any = select(key).where(key.in_(roots))
    if depth is not None:
        first = first.add_columns(case(dict(roots), value=key).label("depth"))
    seen = first.cte("seen", recursive=True)
    if depth is None:
        return seen.union(select(there).join(seen, here == seen.c.key))
    return seen.union(
        select(there, seen.c.depth + 1)
        .join(seen, here == seen.c.key)
        .where(seen.c.depth < depth)
    )


def lineage(
    tx: Connection,
    version: Any,
    direction: Direction = "up",
    depth: int | None = None,
) -> Lineage:
    """Return the whole ancestry, or impact, of a version.

    Upwards it follows records with `is_new`; downwards it follows all and marks
    reproductions.

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
    roots = {version.key: 0}
    reproductions: list[tuple[str, str]] = []
    if direction == "down":
        reproductions = _follow_reproductions(tx, roots, depth)
    seen = reachable(roots, direction, depth)
    keys = select(seen.c.key).distinct().subquery("keys")
    return Lineage(
        root=version.id,
        direction=direction,
        nodes=_nodes(tx, keys, version.key, direction),
        edges=_edges(tx, keys),
        reproductions=reproductions,
    )


def _follow_reproductions(
    tx: Connection, roots: dict[int, int], depth: int | None
) -> list[tuple[str, str]]:
    """Add to `roots` what was only reproduced from what they reach; return the pairs.

    A reproduction has no edge, so what hangs on it is reached from it as a new root.
    """
    while True:
        seen = reachable(roots, "down", depth)
        rows = tx.execute(_reproduced(seen, depth)).all()
        known = dict(roots)
        for row in rows:
            level = 0 if depth is None else row.depth + 1
            roots[row.key] = min(level, roots.get(row.key, level))
        if roots == known:
            return list(dict.fromkeys((row.child, row.parent) for row in rows))


def _reproduced(seen: Any, depth: int | None) -> Any:
    used = DataVersion.__table__.alias("used")
    child = DataVersion.__table__.alias("child")
    statement = (
        select(child.c.key, child.c.id.label("child"), used.c.id.label("parent"))
        .select_from(seen)
        .join(used, used.c.key == seen.c.key)
        .join(ProvenanceDerivation, ProvenanceDerivation.version_id == used.c.id)
        .join(
            ProvenanceContribution,
            ProvenanceContribution.provenance_id == ProvenanceDerivation.provenance_id,
        )
        .join(child, child.c.id == ProvenanceContribution.version_id)
        .where(ProvenanceContribution.is_new.is_(False))
        .order_by(child.c.key)
    )
    if depth is None:
        return statement
    return statement.add_columns(seen.c.depth).where(seen.c.depth < depth)


def _edges(tx: Connection, keys: Subquery) -> list[tuple[str, str]]:
    child, parent = keys.alias("child"), keys.alias("parent")
    a, b = DataVersion.__table__.alias("a"), DataVersion.__table__.alias("b")
    rows = tx.execute(
        select(a.c.id, b.c.id)
        .select_from(child)
        .join(VersionEdge, VersionEdge.child == child.c.key)
        .join(parent, parent.c.key == VersionEdge.parent)
        .join(a, a.c.key == VersionEdge.child)
        .join(b, b.c.key == VersionEdge.parent)
        .order_by(VersionEdge.child, VersionEdge.parent)
    )
    return [(made, used) for made, used in rows]


def _nodes(
    tx: Connection, keys: Subquery, root: int, direction: Direction
) -> dict[str, Json]:
    key = DataVersion.key
    rows = tx.execute(
        select(*DataVersion.__table__.c, Data.name)
        .join(keys, keys.c.key == key)
        .join(Data, Data.id == DataVersion.data_id)
        .order_by(key.desc() if direction == "up" else key)
    ).all()
    made = {
        row.version_id: row
        for row in tx.execute(
            select(
                ProvenanceContribution.version_id,
                ProvenanceContribution.name.label("output"),
                Provenance.id,
                Provenance.run_id,
                Provenance.flow_id,
                Function.id.label("function_id"),
                Function.name.label("function_name"),
                Function.source_sha256,
            )
            .join(DataVersion, DataVersion.id == ProvenanceContribution.version_id)
            .join(keys, keys.c.key == key)
            .join(Provenance, Provenance.id == ProvenanceContribution.provenance_id)
            .outerjoin(Function, Function.id == Provenance.function_id)
            .where(ProvenanceContribution.is_new.is_(True))
        )
    }
    downloads = _downloads(tx, keys)
    ordered = sorted(rows, key=lambda row: row.key != root)
    return {
        row.id: _node(row, made.get(row.id), downloads.get(row.id, []))
        for row in ordered
    }


def _downloads(tx: Connection, keys: Subquery) -> dict[str, list[Any]]:
    """Return version id -> what was downloaded to make it, its own source first.

    A function was given everything that its run downloaded; without one, each output
    is its own download.
    """
    own = ProvenanceSource.name == ProvenanceContribution.name
    rows = tx.execute(
        select(*ProvenanceSource.__table__.c, ProvenanceContribution.version_id)
        .join(
            ProvenanceContribution,
            ProvenanceContribution.provenance_id == ProvenanceSource.provenance_id,
        )
        .join(Provenance, Provenance.id == ProvenanceSource.provenance_id)
        .join(DataVersion, DataVersion.id == ProvenanceContribution.version_id)
        .join(keys, keys.c.key == DataVersion.key)
        .where(
            ProvenanceContribution.is_new.is_(True),
            or_(own, Provenance.function_id.is_not(None)),
        )
        .order_by(case((own, 0), else_=1), ProvenanceSource.name)
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.version_id, []).append(row)
    return found


def _node(row: Any, maker: Any, downloads: Sequence[Any]) -> Json:
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
        node["function"] = {
            "id": maker.function_id,
            "name": maker.function_name,
            "sha256": maker.source_sha256,
        }
    return node


def _source(download: Any) -> Json:
    return {
        "url": download.url,
        "final_url": download.final_url,
        "etag": download.etag,
        "sha256": download.sha256,
        "size": download.size,
        "retrieved_at": isoformat(download.retrieved_at),
    }


def provenance_of(tx: Connection, version_id: str) -> list[str]:
    """Return the records that made or reproduced a version, oldest first."""
    return list(
        tx.execute(
            select(Provenance.id)
            .join(
                ProvenanceContribution,
                ProvenanceContribution.provenance_id == Provenance.id,
            )
            .where(ProvenanceContribution.version_id == version_id)
            .order_by(Provenance.finished_at, Provenance.id)
        ).scalars()
    )
