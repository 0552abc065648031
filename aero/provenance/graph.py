"""The graph of versions that lineage answers with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

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

    @classmethod
    def of(cls, record: Json) -> Self:
        """Return the graph that `record` made JSON of."""
        return cls(
            root=record["root"],
            direction=record["direction"],
            nodes={node["id"]: node for node in record["nodes"]},
            edges=[(e["child"], e["parent"]) for e in record["edges"]],
            reproductions=[(e["child"], e["parent"]) for e in record["reproductions"]],
        )

    def record(self) -> Json:
        """Return the graph as JSON."""
        return {
            "root": self.root,
            "direction": self.direction,
            "nodes": list(self.nodes.values()),
            "edges": [{"child": c, "parent": p} for c, p in self.edges],
            "reproductions": [{"child": c, "parent": p} for c, p in self.reproductions],
        }
