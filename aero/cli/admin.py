"""Commands about the installation: status, gc, db, configure, logout."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aero.cli.failing import say
from aero.cli.output import (
    json_option,
    print_fields,
    print_object,
    print_table,
    size,
    when,
)
from aero.cli.progress import progress_shown
from aero.cli.workspace import workspace
from aero.types import Json

if TYPE_CHECKING:
    from aero.config import ClientConf
    from aero.db.session import Database


@click.command("status")
@json_option
def status_(as_json: bool) -> None:
    """Show where things are, how the runs stand, and whether anybody works."""
    with workspace() as app:
        report = app.status()
    if as_json:
        print_object(report)
        return
    print_fields(_described(report))
    if report["note"]:
        say(report["note"])


def _described(report: Json) -> dict[str, Any]:
    workers = report["workers_alive"]
    runs = [f"{n} {s.lower()}" for s, n in report["runs"].items() if n]
    flow = report["next_due_flow"]
    objects, stored = report["store_objects"], size(report["store_bytes"])
    return {
        "profile": report["profile"],
        "configuration": report["config_file"] or "none",
        "database": f"{report['database']} ({size(report['database_bytes'])})",
        "store": f"{report['store']} ({objects} objects, {stored})",
        "trash": size(report["trash_bytes"]) if report["trash_bytes"] else None,
        "workers": f"{workers} alive" if workers else "none alive",
        "runs": ", ".join(runs) or "none",
        "next due": flow and f"{when(report['next_due'])}, flow {flow}",
        "notices": _notices(report),
        "aero": report["version"],
    }


def _notices(report: Json) -> str | None:
    waiting, failed = report["notices_waiting"], report["notices_undelivered"]
    if failed:
        return f"{failed} not delivered: 'aero explain FLOW' says why"
    return f"{waiting} to be sent" if waiting else None


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Change nothing, say what would be done.")
@json_option
def gc_(dry_run: bool, as_json: bool) -> None:
    """Free the space of what nothing refers to, and prune runs long over.

    What is unreferenced moves to the trash first; the next gc deletes it.
    """
    with workspace() as app:
        report = app.gc(dry_run=dry_run)
    if as_json:
        print_object(report)
        return
    would = "would be " if dry_run else ""
    freed, moved = size(report["bytes"]), size(report["trash_bytes"])
    click.echo(f"{report['removed']} objects ({freed}) {would}deleted from the trash")
    click.echo(f"{report['trashed']} objects ({moved}) {would}moved to the trash")
    click.echo(f"{report['restored']} objects {would}restored from it")
    leftovers = report["temp_files"] + report["leftovers"]
    click.echo(f"{leftovers} leftovers of killed processes {would}removed")
    click.echo(f"{report['pruned_runs']} runs long over {would}pruned")


@click.group("db")
def db_() -> None:
    """Look after the database: its schema, and where it is."""


@db_.command("upgrade")
@json_option
def upgrade(as_json: bool) -> None:
    """Bring the database's schema to the revision that this aero needs."""
    from aero.config import load_conf, refuse_network_filesystem
    from aero.db import schema

    db = _database(load_conf())
    try:
        if db.path is not None:
            db.path.parent.mkdir(parents=True, exist_ok=True)
            refuse_network_filesystem(db.path.parent)
        revision = schema.upgrade(db)
    finally:
        db.dispose()
    _print_revision(revision, as_json=as_json)


@db_.command("current")
@json_option
def current(as_json: bool) -> None:
    """Show the revision that the database's schema is at."""
    from aero.config import load_conf
    from aero.db import schema

    db = _database(load_conf())
    try:
        # To ask an SQLite database that is not there would create it.
        there = db.path is None or db.path.is_file()
        revision = schema.current(db) if there else None
    finally:
        db.dispose()
    _print_revision(revision, as_json=as_json)


@db_.command("copy")
@click.option(
    "--from", "source", metavar="URL", required=True, help="The workspace's database."
)
@click.option(
    "--to", "target", metavar="URL", required=True, help="A database that is empty."
)
@json_option
def copy(source: str, target: str, as_json: bool) -> None:
    """Copy a workspace's database into another one, and compare every row.

    From SQLite to PostgreSQL, back, or to another of the same kind. Nobody may work on
    the workspace meanwhile. A copy that was interrupted goes on when it is begun again
    with the same URLs. The store stays where it is: both databases refer to it.
    """
    from aero import copying

    with progress_shown() as tell:
        report = copying.copy(source, target, tell)
    if as_json:
        print_object(report)
        return
    rows = [[name, str(count)] for name, count in report["tables"].items()]
    print_table(["table", "rows"], [*rows, ["all", str(report["rows"])]])
    say(
        f"{report['copied']} rows were copied, and all compared: use the copy with "
        f"AERO_DATABASE_URL, and this one no more ({report['source']})."
    )


def _database(conf: "ClientConf") -> "Database":
    from aero.db.session import Database

    return Database(conf.database_url)


def _print_revision(revision: str | None, *, as_json: bool) -> None:
    from aero.db.base import REVISION

    if as_json:
        print_object({"revision": revision, "needed": REVISION})
    elif revision is None:
        say("There is no database yet: it is made when it is first used.")
    else:
        click.echo(f"{revision} (this aero needs {REVISION})")


@click.command("configure")
@click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    help="The TOML file to install settings from.",
)
@click.option("-p", "--profile", help="The profile to install them as.")
@json_option
def configure_(file: Path, profile: str | None, as_json: bool) -> None:
    """Install settings from a file, and show what then holds."""
    from aero.config import load_conf

    conf = load_conf(file, update=True, profile=profile)
    shown = conf.shown()
    if as_json:
        print_object(shown)
    else:
        print_fields(shown)


@click.command("logout")
@json_option
def logout_(as_json: bool) -> None:
    """Forget the Globus tokens of this profile."""
    from aero.api import globus_logout

    removed = globus_logout()
    if as_json:
        print_object({"removed": None if removed is None else str(removed)})
    elif removed is None:
        click.echo("Nobody was logged in.")
    else:
        click.echo(f"Logged out: {removed} is gone.")
