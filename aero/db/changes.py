"""How processes on one database learn what the others committed.

A transaction notes with `tell` what others will want to know. On PostgreSQL that is
sent with its commit (NOTIFY) and heard by one connection of each process that works or
waits (LISTEN). On SQLite they ask whether anything changed (`PRAGMA data_version`).
"""

import logging
import math
import os
import socket
import threading
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import URL, Connection, text

from aero.db.outages import Outages
from aero.error import DatabaseUnavailableError

log = logging.getLogger(__name__)

CHANNEL = "aero"
_AFTER_A_LOSS = 0.1


class Topic(StrEnum):
    """What others will want to know: why they would look."""

    RUNS = "runs"
    """A run may be claimed, or earlier than before."""
    CANCELLED = "cancelled"
    """A run was cancelled that may be executed elsewhere."""
    ENDED = "ended"
    """A run ended that somebody may wait for."""
    FLOWS = "flows"
    """A flow is due at another time, or may run again, or no longer."""
    NOTICES = "notices"
    """There is a failure notice to send."""


ALL = frozenset(Topic)

Hearer = Callable[[Collection[Topic]], None]
"""Called with what others committed, from any thread; returns at once."""

Connect = Callable[[], Connection]


def tell(tx: Connection, *topics: Topic) -> None:
    """Note, in a writing transaction, what its commit is about."""
    noted = tx.get_execution_options().get("aero_topics")
    if noted is not None:
        noted.update(topics)


class Changes(Protocol):
    """What others committed. It may be said too often, and once too late."""

    every: float
    """Seconds after which to `poll`; infinite where the hearer is called unasked."""

    def listen(self, hearer: Hearer) -> None:
        """Tell `hearer` of what is committed from now on, until `stop`.

        A second call changes nothing while there is a hearer.
        """
        ...

    def poll(self) -> None:
        """Tell the hearer now of what was committed since it was last told."""
        ...

    def announce(self, tx: Connection, topics: Collection[Topic]) -> None:
        """Let others know of these topics once this transaction commits."""
        ...

    def stop(self) -> None:
        """Forget the hearer, and close what was opened for it."""
        ...


def changes_of(url: URL, connect: Connect, outages: Outages) -> Changes:
    """Return how changes are learned of in a database of this kind."""
    if url.get_backend_name() == "sqlite":
        return Polled(connect)
    return Notified(connect, outages)


class Polled:
    """On SQLite: a number that differs once anybody committed, this process too."""

    def __init__(self, connect: Connect) -> None:
        self.every = 0.1
        self._connect = connect
        self._hearer: Hearer | None = None
        self._watcher: Connection | None = None
        self._seen = 0
        self._lock = threading.Lock()

    def listen(self, hearer: Hearer) -> None:
        """Tell `hearer` what `poll` finds."""
        with self._lock:
            self._hearer = self._hearer or hearer

    def poll(self) -> None:
        """Tell the hearer if anything was committed since."""
        with self._lock:
            if self._watcher is None:
                self._watcher = self._connect().execution_options(
                    isolation_level="AUTOCOMMIT"
                )
            before = self._seen
            self._seen = self._watcher.execute(_VERSION).scalar_one()
            hearer = self._hearer
        if self._seen != before and hearer is not None:
            hearer(ALL)

    def announce(self, tx: Connection, topics: Collection[Topic]) -> None:
        """Do nothing: the commit is what is seen."""

    def stop(self) -> None:
        """Close the connection that asks."""
        with self._lock:
            self._hearer = None
            if self._watcher is not None:
                self._watcher.close()
                self._watcher = None


_VERSION = text("PRAGMA data_version")


class Notified:
    """On PostgreSQL: LISTEN and NOTIFY, with a thread that hears."""

    def __init__(self, connect: Connect, outages: Outages) -> None:
        self.every = math.inf
        self._connect = connect
        self._outages = outages
        # Of a notification the server names the connection, and there are several here.
        self._me = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._ear: _Ear | None = None

    def listen(self, hearer: Hearer) -> None:
        """Tell `hearer` what arrives; and of everything when there may be a gap."""
        with self._lock:
            if self._ear is None:
                self._ear = _Ear(self._connect, self._outages, self._me, hearer)
                self._ear.start()

    def poll(self) -> None:
        """Do nothing: the hearer is told unasked."""

    def announce(self, tx: Connection, topics: Collection[Topic]) -> None:
        """Send a notification, which the server delivers at the commit."""
        payload = f"{self._me} {' '.join(sorted(topics))}"
        tx.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, payload))

    def stop(self) -> None:
        """End the thread."""
        with self._lock:
            ear, self._ear = self._ear, None
        if ear is not None:
            ear.stop()


class _Ear(threading.Thread):
    """Holds one connection that listens, and makes another one when it breaks."""

    def __init__(
        self, connect: Connect, outages: Outages, me: str, hearer: Hearer
    ) -> None:
        super().__init__(name="aero-listener", daemon=True)
        self._connect = connect
        self._outages = outages
        self._me = me
        self._hearer = hearer
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._driver: Any = None

    def run(self) -> None:
        """Hear until `stop`."""
        with self._outages.enduring(self._stopping), suppress(DatabaseUnavailableError):
            while not self._stopping.is_set():
                driver = self._outages.repeat(self._open)
                try:
                    self._hear(driver)
                except driver.Error as error:
                    log.debug("The listening connection broke: %s", error)
                finally:
                    driver.close()
                self._outages.rest(_AFTER_A_LOSS)

    def stop(self) -> None:
        """End the thread, also in the middle of waiting."""
        with self._lock:
            self._stopping.set()
            if self._driver is not None:
                _hang_up(self._driver)
        self.join()

    def _open(self) -> Any:
        """Return a connection of the driver that listens."""
        connection = self._connect().execution_options(isolation_level="AUTOCOMMIT")
        # The pool has its own use for what it holds.
        connection.detach()
        try:
            connection.exec_driver_sql(f"LISTEN {CHANNEL}")
            connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection.connection.dbapi_connection

    def _hear(self, driver: Any) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            self._driver = driver
        # What was committed while nobody listened is not told again.
        self._hearer(ALL)
        try:
            for note in driver.notifies():
                sender, _, words = note.payload.partition(" ")
                if sender != self._me:
                    self._hearer({topic for topic in Topic if topic in words.split()})
        finally:
            with self._lock:
                self._driver = None


def _hang_up(driver: Any) -> None:
    # Closing it would not wake who waits on it.
    broken = (OSError, driver.Error)
    with suppress(*broken), socket.socket(fileno=os.dup(driver.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
