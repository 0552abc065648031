"""Commands about provenance: lineage, provenance."""

from typing import TYPE_CHECKING, Literal

import click

from aero.cli.output import json_option, print_fields, print_object, when
from aero.cli.workspace import workspace
from aero.types import Json

if TYPE_CHECKING:
    from aero.provenance.graph import Lineage


@click.command("lineage")
@click.argument("data")
@click.option("--up", is_flag=True, help="What it was made from (default).")
@click.option("--down", is_flag=True, help="What was made from it.")
@click.option("--depth", type=click.IntRange(min=0), help="How many steps at most.")
@click.option("--dot", is_flag=True, help="Print the graph for Graphviz.")
@json_option
def lineage_(  # noqa: PLR0917 -- click gives them by name
    data: str, up: bool, down: bool, depth: int | None, dot: bool, as_json: bool
) -> None:
    """Show where DATA, or a version of it as DATA@VERSION, came from.

    A tree: a version that several paths lead to is shown in full once.
    """
    if up and down:
        raise click.UsageError("Give either --up or --down")
    if dot and as_json:
        raise click.UsageError("Give either --dot or --json")
    direction: Literal["up", "down"] = "down" if down else "up"
    with workspace() as app:
        found = app.lineage(data, direction, depth)
    if as_json:
        print_object(found.record())
    elif dot:
        click.echo(_dot(found))
    else:
        _print_tree(found)


def _print_tree(found: "Lineage") -> None:
    from aero.provenance.tree import tree_lines

    for line in tree_lines(found):
        click.echo(line)


def _dot(found: "Lineage") -> str:
    """Return the graph as Graphviz text; arrows point the way the data went."""
    lines = ["digraph lineage {", "  node [shape=box];"]
    for node in found.nodes.values():
        lines.append(f"  {_quoted(node['id'])} [label={_quoted(*_label(node))}];")
        for source in node.get("sources", []):
            url = _quoted(source["url"])
            lines.append(f"  {url} [shape=ellipse];")
            lines.append(f"  {url} -> {_quoted(node['id'])};")
    lines += [f"  {_quoted(p)} -> {_quoted(c)};" for c, p in found.edges]
    lines += [
        f"  {_quoted(p)} -> {_quoted(c)} [style=dashed];"
        for c, p in found.reproductions
    ]
    return "\n".join([*lines, "}"])


def _label(node: Json) -> list[str]:
    if "hidden" in node:
        return ["(hidden)"]
    label = [f"{node['name']}@{node['version']}"]
    if node["sha256"]:
        label.append(node["sha256"][:12])
    if node["function"]:
        label.append(node["function"]["name"])
    return label


def _quoted(*lines: str) -> str:
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'


@click.command("provenance")
@click.argument("record")
@json_option
def provenance_(record: str, as_json: bool) -> None:
    """Show the RECORD of a committed run, by its own id or the run's."""
    with workspace() as app:
        found = app.get_provenance(record)
    if as_json:
        print_object(found)
    else:
        _print_provenance(found)


def _print_provenance(found: Json) -> None:
    code = found["function"] or {}
    print_fields(
        {
            "record": found["id"],
            "run": found["run_id"],
            "flow": found["flow_id"],
            "function": code.get("name"),
            "source sha256": code.get("source_sha256"),
            "kwargs": found["kwargs"] or None,
            "trigger": found["trigger_key"],
            "endpoint": found["endpoint"],
            "agent": found["agent"],
            "started": when(found["started_at"]),
            "finished": when(found["finished_at"]),
            "python": found["environment"].get("python"),
        }
    )
    for source in found["sources"]:
        click.echo(f"downloaded  {source['url']}  sha256 {source['sha256']}")
    for version in found["derived_from"]:
        click.echo(f"used        {_version(version)}")
    for version in found["contributed_to"]:
        verb = "made" if version.get("is_new", True) else "reproduced"
        click.echo(f"{verb:<10}  {_version(version)}")


def _version(version: Json) -> str:
    if "hidden" in version:
        return f"(hidden)  version {version['id']}"
    return f"{version['name']}@{version['version']}  sha256 {version['checksum']}"
