"""The databases that tests run on: an SQLite file, and a PostgreSQL server's."""

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, make_url

from aero.db import schema
from aero.db.base import REVISION, Base
from aero.db.session import Database

POSTGRES = "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"
ON_SQLITE = pytest.mark.parametrize(
    "database_url", ["sqlite_url"], indirect=True, ids=["sqlite"]
)
"""Marks a test whose fixtures would run it twice, though which database is the same."""

_PREFIX = "aero_session_"
_PATIENCE = 10.0


def sqlite_file(path: Path) -> str:
    """Return the URL of an SQLite file, whose folder is there afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def migrate(url: str) -> None:
    """Bring a database to head and leave no connection to it."""
    db = Database(url)
    try:
        schema.upgrade(db)
    finally:
        db.dispose()


class SqliteTemplate:
    """A migrated SQLite database, to be copied: that costs a twentieth of migrating."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "template.db"
        migrate(sqlite_file(self._file))

    def copy(self, path: Path) -> str:
        """Put a migrated database without rows at `path`; return its URL."""
        url = sqlite_file(path)
        shutil.copyfile(self._file, path)
        return url


class Postgres:
    """This session's databases on a PostgreSQL server; `close` drops them.

    One is migrated once and emptied for every test; `another` copies one. A session
    holds an advisory lock named like its databases, which the server lets go whatever
    kills the session; so the next session knows which databases are left over.

    Attributes:
        name: Of this session: what the names of its databases begin with.
        url: Of the database that is emptied for every test.
    """

    def __init__(self, server: URL) -> None:
        self._server = server
        drop_leftovers(server)
        self._admin = _connect(server)
        self.name = _PREFIX + uuid.uuid4().hex
        self._admin.execute("SELECT pg_advisory_lock(hashtext(%s))", [self.name])
        self._number = 0
        self._template = self._create("template1")
        migrate(self._url(self._template))
        self._emptied = self._create(self._template)
        self.url = self._url(self._emptied)
        self._own = self._enter()
        self._shape = self._shaped()

    def reset(self) -> None:
        """Remove every row; see `tests/test_databases.py` for what it costs.

        Where a test changed the tables themselves, the database is made again.
        """
        if self._shaped() != self._shape:
            self._own.close()
            _drop(self._admin, self._emptied)
            self._copy(self._template, self._emptied)
            self._own = self._enter()
        self._ask(DELETE_ALL)

    def _enter(self) -> Any:
        own = _connect(self._server.set(database=self._emptied))
        own.execute("SET synchronous_commit = off")
        return own

    def _ask(self, statement: str) -> Any:
        from psycopg import OperationalError

        try:
            return self._own.execute(statement)
        except OperationalError:
            # A test that ends every connection ends this one too.
            self._own.close()
            self._own = self._enter()
            return self._own.execute(statement)

    def _shaped(self) -> Any:
        return self._ask(SHAPE).fetchone()

    @contextmanager
    def another(self, *, migrated: bool = True) -> Iterator[str]:
        """Give the URL of one more database, without rows or without tables."""
        name = self._create(self._template if migrated else "template1")
        try:
            yield self._url(name)
        finally:
            _drop(self._admin, name)

    def left_open(self) -> int:
        """Return how many connections to `url` others hold, and end them.

        Those of processes that were killed get a moment to end by themselves.
        """
        deadline = time.monotonic() + _PATIENCE
        while count := self._count("SELECT 1"):
            if time.monotonic() > deadline:
                return self._count("SELECT pg_terminate_backend(pid)")
            time.sleep(0.01)
        return count

    def _count(self, select: str) -> int:
        return len(
            self._ask(
                f"{select} FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database() AND backend_type = 'client backend'"
            ).fetchall()
        )

    def close(self) -> None:
        """Drop this session's databases."""
        self._own.close()
        _drop_all(self._admin, self.name)
        self._admin.close()

    def _url(self, name: str) -> str:
        return self._server.set(database=name).render_as_string(hide_password=False)

    def _create(self, template: str) -> str:
        self._number += 1
        name = f"{self.name}_{self._number}"
        self._copy(template, name)
        return name

    def _copy(self, template: str, name: str) -> None:
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")


DELETE_ALL = "DO $$BEGIN {} {} END$$".format(
    " ".join(f'DELETE FROM "{t.name}";' for t in reversed(Base.metadata.sorted_tables)),
    f"UPDATE alembic_version SET version_num = '{REVISION}';",
)
"""Empties every table in one round trip; what others refer to goes last."""


SHAPE = """
    SELECT md5(string_agg(name, ' ' ORDER BY name)) FROM (
        SELECT conname AS name FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
        UNION ALL SELECT relname || '.' || attname FROM pg_attribute
        JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0
    ) AS names
"""
"""Differs once a table, a column, an index or a constraint came or went."""


def sessions(server: URL) -> set[str]:
    """Return the sessions that have databases on a server."""
    with _connect(server) as admin:
        return {name.rpartition("_")[0] for name in _databases(admin)}


def drop_leftovers(server: URL) -> None:
    """Drop the databases of sessions that were killed."""
    with _connect(server) as admin:
        for name in sessions(server):
            free = "SELECT pg_try_advisory_lock(hashtext(%s))"
            if admin.execute(free, [name]).fetchone() == (True,):
                _drop_all(admin, name)
                admin.execute("SELECT pg_advisory_unlock(hashtext(%s))", [name])


def _databases(admin: Any) -> list[str]:
    rows = admin.execute("SELECT datname FROM pg_database").fetchall()
    return [name for (name,) in rows if name.startswith(_PREFIX)]


def _drop_all(admin: Any, session: str) -> None:
    for name in _databases(admin):
        if name.startswith(session):
            _drop(admin, name)


def _drop(admin: Any, name: str) -> None:
    admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def postgres_server() -> URL:
    """Return where the tests look for PostgreSQL."""
    return make_url(os.environ.get("AERO_TEST_POSTGRES", POSTGRES))


def _connect(url: URL) -> Any:
    try:
        import psycopg
    except ImportError as error:
        raise ConnectionError("psycopg is not installed") from error
    try:
        return psycopg.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            connect_timeout=5,
        )
    except psycopg.OperationalError as error:
        where = f"{url.host}:{url.port}"
        raise ConnectionError(f"no PostgreSQL answers at {where}") from error
