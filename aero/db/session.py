"""Connections and transactions: the one home of engines and locks."""

import copy
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.sql import func

from aero.clock import Clock, utc_now
from aero.db.changes import Topic, changes_of
from aero.db.outages import Outages
from aero.error import ConfigError

if TYPE_CHECKING:
    from aero.db.sight import Viewer

T = TypeVar("T")

# Without these a client waits on a silent network for hours; and a server on a client
# that fell silent in a transaction, whose locks it keeps.
_POSTGRESQL = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "options": "-c idle_in_transaction_session_timeout=20s -c tcp_keepalives_idle=30"
    " -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3",
}


# Kept once they were needed: to open one for each request in a rush costs more than it.
_POOL: dict[str, Any] = {"pool_size": 15, "max_overflow": 0}

_NOTHING = select(1)


class _Count:
    """A number that a database and its views share."""

    total = 0


class Database:
    """A database that hands out transactions.

    Args:
        url: An SQLAlchemy URL, `sqlite:///...` or `postgresql+psycopg://...`.
        clock: This process's clock, which on SQLite is the database's as well.

    Attributes:
        own_changes: What to call once a transaction of this process was about a topic,
            since `changes` tells what others committed.
    """

    def __init__(self, url: str, *, clock: Clock = utc_now) -> None:
        self.url = make_url(url)
        self.clock = clock
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._written = _Count()
        self.outages = Outages(self.url)
        self.changes = changes_of(self.url, self._connect, self.outages)
        self.own_changes: dict[Topic, Callable[[], None]] = {}
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        self._viewer: Viewer | None = None

    def seen_by(self, viewer: "Viewer") -> Self:
        """Return this database as a viewer sees it; it is not to be disposed of.

        It shares every connection with this one. Its transactions carry the viewer,
        for those who ask `aero.db.sight` what is visible in them.
        """
        _ = self.engine
        view = copy.copy(self)
        view._viewer = viewer
        return view

    @property
    def writes(self) -> int:
        """How many writing transactions were committed."""
        return self._written.total

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database, else None."""
        if self.is_sqlite and self.url.database not in {None, "", ":memory:"}:
            return Path(str(self.url.database))
        return None

    @property
    def engine(self) -> Engine:
        """The engine, made when first asked for.

        Raises:
            ConfigError: The database's driver is not installed.
        """
        if self._engine is None:
            with self._lock:
                if self._engine is None:
                    self._engine = self._try_engine()
        return self._engine

    def _try_engine(self) -> Engine:
        try:
            return self._make_engine()
        except ImportError as error:
            raise ConfigError(
                f"The driver of {self.url.drivername} is not installed ({error}): run "
                "pip install 'aero-orchestrator[postgres]'."
            ) from error

    def _make_engine(self) -> Engine:
        if not self.is_sqlite:
            given = self.url.query
            wanted = {k: v for k, v in _POSTGRESQL.items() if k not in given}
            return create_engine(self.url, connect_args=wanted, **_POOL)
        engine = create_engine(
            self.url,
            connect_args={
                "timeout": 10.0,
                "check_same_thread": False,
                "cached_statements": 512,
            },
            **({} if self.path is None else _POOL),
        )
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _connect(self) -> Connection:
        connection = self.engine.connect()
        if self._viewer is not None:
            connection.execution_options(aero_viewer=self._viewer)
        return connection

    def _answering(self) -> Connection:
        """Return a connection that works: one of the pool may have broken since."""
        connection = self._connect()
        if not self.is_sqlite:
            try:
                connection.execute(_NOTHING)
            except BaseException:
                connection.close()
                raise
        return connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection in a transaction that sees one moment.

        Raises:
            DatabaseUnavailableError: There is no connection, or it broke meanwhile.
        """
        connection = self.outages.repeat(self._answering)
        try:
            with connection:
                yield connection
        except DBAPIError as error:
            if self.outages.is_lost(error):
                raise self.outages.unavailable(error) from error
            raise

    def look(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads, and again if its connection breaks.

        On SQLite it sees one moment, on PostgreSQL each of its statements does.

        Raises:
            DatabaseUnavailableError: The database does not come back.
        """

        def once() -> T:
            with self._connect() as tx:
                if not self.is_sqlite:
                    # Spares the server a BEGIN and a ROLLBACK, which cost what is read.
                    tx.execution_options(isolation_level="AUTOCOMMIT")
                return work(tx)

        return self.outages.repeat(once)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one writing transaction, all or nothing.

        A transaction that lost to a lock, a deadlock, a serialisation failure or a
        restart of the server is repeated whole, also where only the answer to its
        commit was lost; so `work` must not do anything but database work, and must
        know again what it did before. Other processes are told what it noted with
        `changes.tell` when it commits.

        Raises:
            DatabaseUnavailableError: The database does not come back.
        """

        def once() -> tuple[T, set[Topic]]:
            topics: set[Topic] = set()
            # Begun explicitly: with the first statement, the lock would come after
            # the clock was read.
            writing = self._connect().execution_options(
                aero_write=True, aero_topics=topics
            )
            with writing as tx, tx.begin():
                result = work(tx)
                if topics:
                    self.changes.announce(tx, topics)
            return result, topics

        result, topics = self.outages.repeat(once)
        self._written.total += 1
        for topic in topics:
            heard = self.own_changes.get(topic)
            if heard is not None:
                heard()
        return result

    def now(self, tx: Connection) -> datetime:
        """Return the database's time, which leases and due times are kept in."""
        if self.is_sqlite:
            return self.clock()
        now: datetime = tx.execute(select(func.clock_timestamp())).scalar_one()
        return now

    def advisory_lock(self, tx: Connection, key: int) -> None:
        """Hold a lock of that number until the transaction ends."""
        if not self.is_sqlite:
            tx.execute(select(func.pg_advisory_xact_lock(key)))

    def dispose(self) -> None:
        """Close every connection."""
        self.changes.stop()
        with self._lock:
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
        # Of 4000 pages: what a long reader made it grow to is given back.
        "journal_size_limit=16384000",
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
