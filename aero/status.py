"""`aero status`: where things are, how they stand, and whether anybody works."""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import Connection

from aero.clock import isoformat
from aero.config import ClientConf
from aero.config.settings import masked
from aero.db import schema
from aero.db.base import REVISION
from aero.db.queries import notices as notice_queries
from aero.db.queries import overview as queries
from aero.db.queries import runs as run_queries
from aero.db.session import Database
from aero.runs import presence
from aero.storage import Listed, Storage
from aero.types import LOCAL, Json, RunStatus

NO_WORKSPACE = "no workspace yet"


def status(
    db: Database, storage: Storage, settings: ClientConf, *, running: bool = False
) -> Json:
    """Return how a workspace stands; creates nothing where there is none.

    Args:
        db: The workspace's database, of whatever revision.
        storage: Its store, which is listed: a million objects take seconds.
        settings: Its configuration.
        running: Whether this process executes runs in the background.

    Returns:
        `version`, `profile`, `config_file`, `home`, `database` (its password
        masked), `database_bytes`, `store`, `store_objects`, `store_bytes`,
        `trash_bytes` (all three as listed), `workers_alive`, `runs` by status,
        `next_due` (ISO 8601) and `next_due_flow`, `notices_waiting` (that are to be
        sent), `notices_undelivered` (whose last attempt failed, also those given
        up), `revision` and `note`: what to know or to do, else None.
    """
    from aero import __version__

    objects, size = _sum(storage.objects())
    report: Json = {
        "version": __version__,
        "profile": settings.profile,
        "config_file": _text(settings.config_file),
        "home": str(settings.home),
        "database": masked(settings.database_url),
        "database_bytes": 0,
        "store": str(settings.store),
        "store_objects": objects,
        "store_bytes": size,
        "trash_bytes": _sum(storage.trashed())[1],
        "workers_alive": 0,
        "runs": dict.fromkeys(map(str, RunStatus), 0),
        "next_due": None,
        "next_due_flow": None,
        "notices_waiting": 0,
        "notices_undelivered": 0,
        "revision": None,
        "note": NO_WORKSPACE,
    }
    found = _revision(db)
    if found is None:
        return report
    report["revision"] = found
    report["note"] = _mismatch(found)
    with db.read() as tx:
        report["database_bytes"] = _bytes(db, tx)
        if found == REVISION:
            report["runs"] |= run_queries.counts(tx)
            report |= _next(tx)
            waiting, undelivered = notice_queries.counts(tx)
            report["notices_waiting"] = waiting
            report["notices_undelivered"] = undelivered
            report["workers_alive"] = presence.alive(tx, db.now(tx))
            report["note"] = None if running else _note(db, tx)
    return report


def waiting_note(db: Database, *, running: bool = False) -> str | None:
    """Return a sentence if something could be done and nobody is there to do it.

    Args:
        db: The workspace's database; it is not created.
        running: Whether this process executes runs in the background.
    """
    if running or _revision(db) != REVISION:
        return None
    return db.look(lambda tx: _note(db, tx))


def _note(db: Database, tx: Connection) -> str | None:
    now = db.now(tx)
    count, what = queries.waiting(tx, now, [LOCAL]), "run"
    if not count:
        count, what = notice_queries.counts(tx)[0], "notice"
    if not count or presence.alive(tx, now):
        return None
    return f"{count} {what}{' waits' if count == 1 else 's wait'}; run 'aero work'"


def _revision(db: Database) -> str | None:
    # To open an SQLite database that is not there would create it.
    if db.path is not None and not db.path.is_file():
        return None
    return schema.current(db)


def _mismatch(found: str) -> str | None:
    if found == REVISION:
        return None
    cure = "run 'aero db upgrade'" if found < REVISION else "install the newer aero"
    return f"The database is at revision {found}, this aero needs {REVISION}: {cure}."


def _next(tx: Connection) -> Json:
    row = queries.next_due(tx)
    if row is None:
        return {}
    return {"next_due": isoformat(row.next_due), "next_due_flow": row.id}


def _bytes(db: Database, tx: Connection) -> int:
    if not db.is_sqlite:
        return queries.database_size(tx)
    if db.path is None:
        return 0
    log = db.path.with_name(db.path.name + "-wal")
    return sum(path.stat().st_size for path in (db.path, log) if path.is_file())


def _sum(listing: Iterable[Listed]) -> tuple[int, int]:
    count = size = 0
    for entry in listing:
        count += 1
        size += entry.size
    return count, size


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
