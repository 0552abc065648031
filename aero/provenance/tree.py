"""Draws a lineage as a tree of text lines, for people."""

from collections.abc import Iterator

from aero.provenance.graph import Lineage
from aero.types import Json

_SHORT = 12


def tree_lines(lineage: Lineage) -> Iterator[str]:
    """Yield a lineage line by line: its root first, below it what it leads to.

    Upwards the leaves are the sources, each with its URL and the full SHA-256 of the
    bytes that came from there. A version that several paths lead to is drawn in full
    once; elsewhere its line ends in "(above)". Downwards a version that was only
    made again is marked "(reproduced)". Of one that its reader may not see there is
    a line, and nothing else.
    """
    children = _children(lineage)
    drawn: set[str] = set()
    # A stack, not recursion: a chain of versions may be longer than Python's.
    waiting = [(lineage.root, "", "", "")]
    while waiting:
        version_id, own, below, mark = waiting.pop()
        node = lineage.nodes[version_id]
        if version_id in drawn:
            yield f"{own}{_line(node)}{mark} (above)"
            continue
        drawn.add(version_id)
        yield f"{own}{_line(node)}{mark}"
        found = children.get(version_id, {})
        sources = node.get("sources", []) if lineage.direction == "up" else []
        for index, source in enumerate(sources, 1):
            last = index == len(sources) and not found
            yield from _source_lines(source, below, last=last)
        for index, child in enumerate(reversed(found)):
            branch, gap = ("└── ", "    ") if index == 0 else ("├── ", "│   ")
            waiting.append((child, below + branch, below + gap, found[child]))


def _children(lineage: Lineage) -> dict[str, dict[str, str]]:
    """Return what is drawn below each version, with its mark, in order."""
    found: dict[str, dict[str, str]] = {}
    up = lineage.direction == "up"
    marked = [(pair, "") for pair in lineage.edges]
    if not up:
        marked += [(pair, " (reproduced)") for pair in lineage.reproductions]
    for (made, used), mark in marked:
        here, there = (made, used) if up else (used, made)
        if there in lineage.nodes:
            found.setdefault(here, {}).setdefault(there, mark)
    return found


def _line(node: Json) -> str:
    if "hidden" in node:
        return f"(hidden)  version {node['id'][:_SHORT]}"
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
