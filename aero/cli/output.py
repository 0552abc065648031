"""What commands print: tables and sentences for people, JSON for machines."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import click

from aero.cli.failing import say
from aero.types import Json

SCREENFUL = 50
SHORT = 8

_COLOURS = {
    "PENDING": "cyan",
    "RUNNING": "blue",
    "SUCCEEDED": "green",
    "UNCHANGED": "bright_black",
    "FAILED": "red",
    "CANCELLED": "yellow",
    "SKIPPED": "yellow",
}

Cell = Callable[[Json], Any]

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON and nothing else."
)


def on_terminal() -> bool:
    """Whether a person sees what is printed as it is printed."""
    return sys.stdout.isatty()


def print_object(record: Mapping[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(_json(record))


def print_array(records: Iterable[Json]) -> None:
    """Print one JSON array, record after record."""
    separator = "["
    for record in records:
        click.echo(f"{separator}\n{_json(record)}", nl=False)
        separator = ","
    click.echo("[]" if separator == "[" else "\n]")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def print_records(
    records: Iterable[Json],
    columns: Mapping[str, Cell],
    *,
    as_json: bool,
    none: str,
    limit: int | None = None,
) -> None:
    """Print a list of records.

    Args:
        records: What to print; read only as far as is printed.
        columns: How the cell under each heading is made of a record.
        as_json: Print them as one JSON array instead.
        none: What to say on stderr if there are none.
        limit: How many at most; None: all, on a terminal a screenful.
    """
    wanted = SCREENFUL if limit is None and on_terminal() and not as_json else limit
    shown = iter(records)
    found: Iterable[Json] = shown if not wanted else islice(shown, wanted)
    if as_json:
        print_array(found)
        return
    rows = [[_text(cell(record)) for cell in columns.values()] for record in found]
    if not rows:
        say(none)
        return
    print_table(list(columns), rows)
    if wanted and limit is None and next(shown, None) is not None:
        say(f"These are the first {wanted}; --limit 0 shows all.")


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: drawn on a terminal, else a line of columns per row."""
    if on_terminal():
        _draw(headings, rows)
        return
    lines = [[heading.upper() for heading in headings], *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (c.ljust(w) for c, w in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(c, style=_COLOURS.get(c, "")) for c in row))
    Console().print(table)


def print_fields(fields: Mapping[str, Any]) -> None:
    """Print names and values, a line each; what is None is left out."""
    shown = {name: _text(v) for name, v in fields.items() if v is not None}
    width = max(map(len, shown), default=0)
    for name, value in shown.items():
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {value}")


def coloured(status: str) -> str:
    """Return a run's status in its colour."""
    return click.style(status, fg=_COLOURS.get(status))


def short(identifier: str | None) -> str:
    """Return an id as a person needs it: its first characters on a terminal."""
    if identifier is None:
        return ""
    return identifier[:SHORT] if on_terminal() else identifier


def when(moment: str | None) -> str:
    """Return an ISO 8601 time in UTC without its fractions."""
    if moment is None:
        return ""
    return f"{moment[:10]} {moment[11:19]}Z"


def size(count: int | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return ""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.3g} {units[0]}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    # A record stays one line, whatever a description holds.
    return " ".join(str(value).split())
