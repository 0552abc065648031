"""Keeps the schema at the revision this code speaks, with Alembic."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError

from aero.db.base import REVISION
from aero.db.session import Database
from aero.error import SchemaError
from aero.shipped import shipped

_LOCK = 0x6165726F


def current(db: Database) -> str | None:
    """Return the revision the database is at, or None while it is empty."""
    with db.read() as tx:
        try:
            found: str | None = tx.execute(
                text("SELECT version_num FROM alembic_version")
            ).scalar()
        except DBAPIError:
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
    if found == REVISION:
        return
    _refuse_newer(found)
    if found is not None and not upgrade_existing:
        raise SchemaError(
            f"The database is at revision {found} and this aero needs {REVISION}: "
            "run 'aero db upgrade'.",
            found=found,
            needed=REVISION,
        )
    upgrade(db)


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


@contextmanager
def _exclusive(db: Database) -> Iterator[None]:
    if db.path is None:
        yield
        return
    from filelock import FileLock

    with FileLock(db.path.with_name(db.path.name + ".migrate.lock"), timeout=120):
        yield


def _refuse_newer(found: str | None) -> None:
    if found is not None and found > REVISION:
        raise SchemaError(
            f"The database is at revision {found}, newer than this aero, which knows "
            f"{REVISION}: install the newer aero-orchestrator.",
            found=found,
            needed=REVISION,
        )
