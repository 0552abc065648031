"""Lost connections: how long a transaction is repeated, and what is said meanwhile."""

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from aero.error import DatabaseUnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

PATIENCE = 60.0
LONGEST_PAUSE = 1.0
_MORE_THAN_ONE = 0.1
_REPEATABLE_STATES = {"40001", "40P01"}
_BUSY = ("database is locked", "database table is locked", "database is busy")


class Outages:
    """Repeats transactions until the database answers.

    Args:
        url: Of the database.
    """

    def __init__(self, url: URL) -> None:
        # A password may also stand in the query.
        self._where = url.set(query={}).render_as_string(hide_password=True)
        self._is_file = url.get_backend_name() == "sqlite"
        self._thread = threading.local()
        self._lock = threading.Lock()
        self._answered = False
        self._since: float | None = None
        self._ended = -math.inf

    def over_for(self) -> float:
        """Return the seconds since the last outage ended."""
        return time.monotonic() - self._ended

    @contextmanager
    def enduring(self, stopping: threading.Event) -> Iterator[None]:
        """Wait out every outage in this thread, however long, until `stopping`."""
        self._thread.stopping = stopping
        try:
            yield
        finally:
            del self._thread.stopping

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Wait out no outage in this thread: say at once that there is one."""
        over = threading.Event()
        over.set()
        with self.enduring(over):
            yield

    def repeat(self, transaction: Callable[[], T]) -> T:
        """Return what a transaction returns that lost to nothing.

        One that lost its connection, or to a lock, a deadlock or a serialisation
        failure, is repeated whole for a minute; in a thread that is `enduring`, as
        long as there is no connection.

        Raises:
            DatabaseUnavailableError: There still is none, or never was.
        """
        deadline = time.monotonic() + PATIENCE
        pause = 0.01
        while True:
            try:
                result = transaction()
            except DBAPIError as error:
                lost = self.is_lost(error)
                if not lost and not _contended(error):
                    raise
                if self._in_vain(deadline, lost=lost):
                    if lost:
                        raise self.unavailable(error) from error
                    raise
                if lost:
                    self._failed(error, pause)
                self.rest(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self._answered_again()
                return result

    def _in_vain(self, deadline: float, *, lost: bool) -> bool:
        stopping: threading.Event | None = getattr(self._thread, "stopping", None)
        if lost and stopping is not None:
            return stopping.is_set()
        # Who refuses the first connection may not exist; who refuses a later one will
        # be back.
        return (lost and not self._answered) or time.monotonic() > deadline

    def rest(self, seconds: float) -> None:
        """Sleep about as long, but not on while this thread is asked to stop."""
        jittered = seconds * (0.5 + random.random())  # noqa: S311 -- no secret
        stopping: threading.Event | None = getattr(self._thread, "stopping", None)
        if stopping is None:
            time.sleep(jittered)
        else:
            stopping.wait(jittered)

    def is_lost(self, error: DBAPIError) -> bool:
        """Whether the error is of the connection: it broke, or could not be made."""
        if self._is_file:
            return False
        return error.connection_invalidated or _refused(error)

    def _failed(self, error: DBAPIError, pause: float) -> None:
        """Take note of an outage; say so once, when it is more than a connection."""
        if pause < _MORE_THAN_ONE and not _refused(error):
            return
        with self._lock:
            if self._since is not None:
                return
            self._since = time.monotonic()
        log.warning(
            "The database at %s does not answer (%s): it is tried until it does.",
            self._where,
            _cause(error),
        )

    def _answered_again(self) -> None:
        """Take note that the database answers; say so once after an outage."""
        self._answered = True
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
            self._ended = time.monotonic()
        if since is not None:
            seconds = self._ended - since
            log.warning(
                "The database at %s answers again after %.1f s.", self._where, seconds
            )

    def unavailable(self, error: DBAPIError) -> DatabaseUnavailableError:
        """Return what to tell the caller of a transaction that had no connection."""
        return DatabaseUnavailableError(
            f"The database at {self._where} does not answer ({_cause(error)}): check "
            "that it runs and that AERO_DATABASE_URL names it, then try again.",
        )


def _refused(error: DBAPIError) -> bool:
    # Such an error is about no statement.
    return isinstance(error, OperationalError) and error.statement is None


def _contended(error: DBAPIError) -> bool:
    if getattr(error.orig, "sqlstate", None) in _REPEATABLE_STATES:
        return True
    return any(word in str(error.orig) for word in _BUSY)


def _cause(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__
