"""Keeps the schema at the revision this code speaks, with Alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Index, inspect, text
from sqlalchemy.exc import DBAPIError

from aero.config.settings import masked
from aero.db.base import REVISION
from aero.db.session import Database
from aero.error import NotFoundError, SchemaError
from aero.shipped import shipped

_LOCK = 0x6165726F


def current(db: Database) -> str | None:
    """Return the revision the database is at, or None while it is empty."""
    return db.look(_found)


def _found(tx: Connection) -> str | None:
    try:
        found: str | None = tx.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        tx.rollback()
        if "alembic_version" in inspect(tx).get_table_names():
            raise
        return None
    return found


def ensure(db: Database, *, upgrade_existing: bool) -> None:
    """Bring an empty database, or with `upgrade_existing` an older one, to head.

    Raises:
        SchemaError: the database is newer than this aero, or older and not to be
            upgraded here.
    """
    found = current(db)
    if found is not None and not upgrade_existing:
        _refuse_other(found)
    elif found != REVISION:
        upgrade(db)


def require(db: Database) -> None:
    """See that the database is at head, and change nothing.

    Raises:
        NotFoundError: There is no workspace in it.
        SchemaError: It is of another aero version.
    """
    # To open an SQLite database that is not there would create it.
    there = db.path is None or db.path.is_file()
    found = current(db) if there else None
    if found is None:
        raise NotFoundError(
            f"There is no workspace in {masked(str(db.url))} yet: check where it is."
        )
    _refuse_other(found)


def upgrade(db: Database, revision: str = "head") -> str | None:
    """Apply the missing migrations in one transaction; return the new revision."""
    _refuse_newer(current(db))
    with _exclusive(db):
        db.write(lambda tx: _migrate(db, tx, revision, up=True))
    return current(db)


def downgrade(db: Database, revision: str) -> str | None:
    """Undo migrations down to `revision` in one transaction."""
    with _exclusive(db):
        db.write(lambda tx: _migrate(db, tx, revision, up=False))
    return current(db)


def _migrate(db: Database, tx: Connection, revision: str, *, up: bool) -> None:
    from alembic import command

    db.advisory_lock(tx, _LOCK)
    config = alembic_config()
    config.attributes["connection"] = tx
    (command.upgrade if up else command.downgrade)(config, revision)


def alembic_config() -> Any:
    """Return Alembic's configuration, pointing at the shipped migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(shipped("migrations")))
    return config


def comparison(tx: Connection) -> dict[str, Any]:
    """Return what Alembic is told before it compares the models with a database.

    On SQLite it does not see in which order an index has its columns' values, and
    takes one that descends for another one.
    """
    return {"include_object": _differs} if tx.dialect.name == "sqlite" else {}


def _differs(thing: Any, _name: Any, _kind: Any, _reflected: bool, other: Any) -> bool:
    if not isinstance(thing, Index) or other is None:
        return True
    one, two = ([c.name for c in i.columns] + [bool(i.unique)] for i in (thing, other))
    return one != two


@contextmanager
def _exclusive(db: Database) -> Iterator[None]:
    if db.path is None:
        yield
        return
    from filelock import FileLock

    with FileLock(db.path.with_name(db.path.name + ".migrate.lock"), timeout=120):
        yield


def _refuse_other(found: str) -> None:
    _refuse_newer(found)
    if found != REVISION:
        raise SchemaError(
            f"The database is at revision {found} and this aero needs {REVISION}: "
            "run 'aero db upgrade'.",
            found=found,
            needed=REVISION,
        )


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > REVISION:
        raise SchemaError(
            f"The database is at revision {found}, newer than this aero, which knows "
            f"{REVISION}: install the newer aero-orchestrator.",
            found=found,
            needed=REVISION,
        )
