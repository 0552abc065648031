"""Connections and transactions: the one home of engines, locks and retries."""

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.sql import func

from aero.clock import Clock, utc_now

T = TypeVar("T")

_REPEAT_FOR = 60.0
_REPEATABLE_STATES = {"40001", "40P01"}
_BUSY = ("database is locked", "database table is locked", "database is busy")


class Database:
    """A database that hands out transactions.

    Args:
        url: An SQLAlchemy URL, `sqlite:///...` or `postgresql+psycopg://...`.
        clock: This process's clock, which on SQLite is the database's as well.
    """

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        self.url = make_url(url)
        self.clock = clock
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.writes = 0
        self._engine: Engine | None = None
        self._watcher: Connection | None = None
        self._lock = threading.Lock()

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database, else None."""
        if self.is_sqlite and self.url.database not in {None, "", ":memory:"}:
            return Path(str(self.url.database))
        return None

    @property
    def engine(self) -> Engine:
        """The engine, made when first asked for."""
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._make_engine()
        return self._engine

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(self.url, pool_pre_ping=True)
        engine = create_engine(
            self.url,
            connect_args={
                "timeout": 10.0,
                "check_same_thread": False,
                "cached_statements": 512,
            },
        )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that sees one moment."""
        with self.engine.connect() as connection:
            yield connection

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one writing transaction, all or nothing.

        A transaction that lost to a lock, a deadlock, a serialisation failure or a
        restart of the server is repeated whole, so `work` must not do anything but
        database work.
        """
        deadline = time.monotonic() + _REPEAT_FOR
        pause = 0.01
        while True:
            try:
                # Begun explicitly: with the first statement, the lock would come
                # after the clock was read.
                writing = self.engine.connect().execution_options(aero_write=True)
                with writing as tx, tx.begin():
                    result = work(tx)
            except DBAPIError as error:
                repeat = _repeatable(error) or self._restarting(error)
                if not repeat or time.monotonic() > deadline:
                    raise
                time.sleep(pause * (0.5 + random.random()))  # noqa: S311 -- jitter
                pause = min(2 * pause, 1.0)
            else:
                self.writes += 1
                return result

    def _restarting(self, error: DBAPIError) -> bool:
        # Who refuses the first connection may not exist; who refuses a later one will
        # be back. Such an error is about no statement.
        refused = isinstance(error, OperationalError) and error.statement is None
        return refused and not self.is_sqlite and self.writes > 0

    def now(self, tx: Connection) -> datetime:
        """Return the database's time, which leases and due times are kept in."""
        if self.is_sqlite:
            return self.clock()
        now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
        return now

    def changes(self) -> int:
        """Return a number that differs once anything was committed, here or elsewhere.

        Cheap enough to be asked ten times a second; 0 where there is no such number.
        """
        if not self.is_sqlite:
            return 0
        if self._watcher is None:
            self._watcher = self.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            )
        return int(self._watcher.execute(text("PRAGMA data_version")).scalar_one())

    def advisory_lock(self, tx: Connection, key: int) -> None:
        """Hold a lock of that number until the transaction ends."""
        if not self.is_sqlite:
            tx.execute(select(func.pg_advisory_xact_lock(key)))

    def dispose(self) -> None:
        """Close every connection."""
        with self._lock:
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # Without this the driver would begin transactions by itself, and DEFERRED.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "busy_timeout=10000",
        "wal_autocheckpoint=4000",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return
    mode = "BEGIN IMMEDIATE" if options.get("aero_write") else "BEGIN"
    try:
        # Past SQLAlchemy, which takes longer over it than SQLite does.
        connection.connection.execute(mode).close()
    except sqlite3.OperationalError as error:
        raise OperationalError(mode, None, error) from error


def _repeatable(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    if getattr(error.orig, "sqlstate", None) in _REPEATABLE_STATES:
        return True
    return any(word in str(error.orig) for word in _BUSY)
