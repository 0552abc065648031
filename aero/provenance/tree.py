"""Draws a lineage as a tree of text lines, for people."""

from collections.abc import Iterator

from aero.provenance.lineage import Lineage
from aero.types import Json

_SHORT = 12


def tree_lines(lineage: Lineage) -> Iterator[str]:
    """Yield a lineage line by line: its root first, below it what it leads to.

    Upwards the leaves are the sources, each with its URL and the full SHA-256 of the
    bytes that came from there. A version that several paths lead to is drawn in full
    once; elsewhere its line ends in "(above)".
    """
    drawn: set[str] = set()
    # A stack, not recursion: a chain of versions may be longer than Python's.
    waiting = [(lineage.root, "", "")]
    while waiting:
        version_id, own, below = waiting.pop()
        node = lineage.nodes[version_id]
        again = version_id in drawn
        drawn.add(version_id)
        yield own + _line(node) + (" (above)" if again else "")
        if again:
            continue
        children = [v for v in lineage.neighbours(version_id) if v in lineage.nodes]
        if lineage.direction == "up" and node["source"]:
            yield from _source_lines(node["source"], below, last=not children)
        for index, child in enumerate(reversed(children)):
            branch, gap = ("└── ", "    ") if index == 0 else ("├── ", "│   ")
            waiting.append((child, below + branch, below + gap))


def _line(node: Json) -> str:
    line = f"{node['name']}@{node['version']}"
    if node["sha256"]:
        line += f"  sha256 {node['sha256'][:_SHORT]}"
    if node["function"]:
        line += f"  by {node['function']['name']}"
    return line


def _source_lines(source: Json, indent: str, *, last: bool) -> Iterator[str]:
    branch, gap = ("└── ", "    ") if last else ("├── ", "│   ")
    yield f"{indent}{branch}{source['url']}"
    yield f"{indent}{gap}sha256 {source['sha256']}"
