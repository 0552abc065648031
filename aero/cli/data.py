"""Commands about data: list, search, get."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfileobj
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import TYPE_CHECKING

import click

from aero.cli.output import (
    Cell,
    json_option,
    print_object,
    print_records,
    short,
    size,
    when,
)
from aero.cli.runs import limit_option
from aero.cli.workspace import say_what_waits, workspace
from aero.types import Json

if TYPE_CHECKING:
    from aero.api import Workspace

LONG = 64_000_000
"""Bytes from which on a copy shows its progress."""


def _made(record: Json) -> str:
    made = record["contributed_to"]
    return ", ".join(
        "(hidden)" if "hidden" in v else f"{v['name']}@{v['version']}" for v in made
    )


def _names(data: list[Json]) -> str:
    return ", ".join(d.get("name", "(hidden)") for d in data)


_COLUMNS: dict[str, dict[str, Cell]] = {
    "data": {
        "id": lambda r: short(r["id"]),
        "name": lambda r: r["name"],
        "versions": lambda r: r["available_versions"],
        "created": lambda r: when(r["created_at"]),
        "url": lambda r: r["url"],
        "description": lambda r: r["description"],
    },
    "flow": {
        "id": lambda r: short(r["id"]),
        "policy": lambda r: r["policy_name"],
        "function": lambda r: r["function_name"],
        "from": lambda r: _names(r["derived_from"]),
        "makes": lambda r: _names(r["contributed_to"]),
        "state": lambda r: "on" if r["enabled"] else "paused",
        "executed": lambda r: when(r["last_executed"]),
        "due": lambda r: when(r["next_due"]),
    },
    "prov": {
        "id": lambda r: short(r["id"]),
        "flow": lambda r: short(r["flow_id"]),
        "function": lambda r: (r["function"] or {}).get("name"),
        "made": _made,
        "finished": lambda r: when(r["finished_at"]),
    },
    "version": {
        "version": lambda r: r["version"],
        "file": lambda r: r["data_file"]["file_name"],
        "size": lambda r: size(r["data_file"]["file_size"]),
        "created": lambda r: when(r["created_at"]),
        "checksum": lambda r: r["checksum"],
    },
}


@click.command("list")
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(["data", "flow", "prov"]),
    help="What to list; default: data.",
)
@click.option("-i", "--id", "data_id", help="List the versions of this data.")
@limit_option
@json_option
def list_(
    kind: str | None, data_id: str | None, limit: int | None, as_json: bool
) -> None:
    """List data, flows or the records of committed runs, newest first."""
    if kind is not None and data_id is not None:
        raise click.UsageError("Give either --type or --id")
    with workspace() as app:
        found: Iterable[Json]
        if data_id is not None:
            kind, found = "version", app.list_versions(data_id)
        else:
            kind = kind or "data"
            found = app.list_metadata(kind)
        print_records(
            found,
            _COLUMNS[kind],
            as_json=as_json,
            none="There is nothing yet: 'aero create' and 'aero register' make it.",
            limit=limit,
        )
        say_what_waits(app)


@click.command("search")
@click.argument("query")
@json_option
def search_(query: str, as_json: bool) -> None:
    """Find the data in whose name, description, URL or tags every word occurs."""
    with workspace() as app:
        print_records(
            app.search_sources(query),
            _COLUMNS["data"],
            as_json=as_json,
            none=f"Nothing was found for {query!r}.",
            limit=0,
        )


@click.command("get")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, allow_dash=True),
    help="The file or folder to write to, '-' for stdout; default: the file's name.",
)
@json_option
def get_(data: str, output: Path | None, as_json: bool) -> None:
    """Get the bytes of DATA, or of one version of it as DATA@VERSION, verified."""
    if output == Path("-"):
        if as_json:
            raise click.UsageError("Give either --json or --output -")
        with (
            workspace() as app,
            _fetched(app, app.get_version(data)) as file,
            file.open("rb") as stream,
        ):
            copyfileobj(stream, sys.stdout.buffer)
        return
    with workspace() as app:
        version = app.get_version(data)
        target = _target(version, output)
        with _fetched(app, version, target.parent) as file:
            file.replace(target)
    if as_json:
        print_object({**version, "path": str(target)})
    else:
        click.echo(str(target))


@contextmanager
def _fetched(
    app: "Workspace", version: Json, beside: Path | None = None
) -> Iterator[Path]:
    """Give a verified copy of a version in a folder that is removed afterwards."""
    with TemporaryDirectory(prefix=".aero-", dir=beside) as folder:
        file = Path(folder, "bytes")
        with _progress(Path(folder), version):
            # By number: one that was committed meanwhile is not the one asked for.
            app.fetch_version(version["data_id"], file, version["version"])
        yield file


def _target(version: Json, output: Path | None) -> Path:
    name = Path(version["data_file"]["file_name"]).name
    if output is None:
        target = Path.cwd() / name
        if target.exists():
            raise click.UsageError(f"{name} is here already: say where with --output")
        return target
    target = output / name if output.is_dir() else output
    if not target.absolute().parent.is_dir():
        raise click.UsageError(f"There is no folder {str(target.parent)!r}")
    return target.absolute()


@contextmanager
def _progress(folder: Path, version: Json) -> Iterator[None]:
    """Show on a terminal how far the copy into `folder` is, if it is a long one."""
    total = version["data_file"]["file_size"] or 0
    if total < LONG or not sys.stderr.isatty():
        yield
        return
    done = Event()
    watcher = Thread(target=_watch, args=(folder, total, version["name"], done))
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(folder: Path, total: int, name: str, done: Event) -> None:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        while not done.wait(0.1):
            bar.update(task, completed=_written(folder))


def _written(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())
