"""Sends failure notices, in threads of its own: no receiver holds up ticks or runs.

A notice is claimed in one transaction, sent outside of any, and marked in another. The
claim puts it off until its next attempt, so nobody else takes it meanwhile, and one
whose process died is sent again then. So it is sent once, and twice only if a process
dies in between; its id, which is sent with it, tells.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from sqlalchemy import Connection

from aero.channels import Message, channel_for
from aero.config import ClientConf
from aero.db.changes import Topic
from aero.db.queries import notices as queries
from aero.db.session import Database
from aero.error import DatabaseUnavailableError, NoticeError
from aero.targets import shown

T = TypeVar("T")

log = logging.getLogger(__name__)

AT_ONCE = 4
PATIENCE = 60.0
"""Seconds a receiver has, not more than lie between two attempts."""

_FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0
GIVEN_UP_AFTER = 86400.0
_LOOK_EVERY = 15.0
_SOON = 0.1


def pause_after(attempts: int) -> float | None:
    """Return the seconds between an attempt and the next, None after the last.

    They double from a minute to an hour, for a day.
    """
    pauses = [
        min(_FIRST_PAUSE * 2 ** min(n, 9), LONGEST_PAUSE) for n in range(attempts)
    ]
    return pauses[-1] if sum(pauses) <= GIVEN_UP_AFTER else None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Flight:
    """An attempt that is under way since `began` of the monotonic clock."""

    message: Message
    target: str
    attempt: int
    began: float


class Courier:
    """Sends what is due, up to `AT_ONCE` notices at once.

    Args:
        db: The workspace's database.
        settings: The configuration.
    """

    def __init__(self, db: Database, settings: ClientConf) -> None:
        self._db = db
        self._settings = settings
        self._flights: set[_Flight] = set()
        self._news = threading.Condition()
        self._heard = 0
        self._marking = threading.Lock()
        self._closed = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Send in the background."""
        self._closed = False
        self._stopping.clear()
        self._db.own_changes[Topic.NOTICES] = self.wake
        self._thread = threading.Thread(target=self._loop, name="aero-courier")
        self._thread.start()

    def wake(self) -> None:
        """Say that there may be something to send."""
        with self._news:
            self._heard += 1
            self._news.notify_all()

    def stop(self, patient: Callable[[], bool]) -> None:
        """Send no more; what is under way may end as long as `patient` says so."""
        if self._thread is None:
            return
        self._db.own_changes.pop(Topic.NOTICES, None)
        self._stopping.set()
        self.wake()
        self._thread.join()
        self._thread = None
        while self._busy() and patient():
            self._rest(self._heard, _SOON)

    def close(self) -> None:
        """Let go of what is under way, which is sent again as if this process died."""
        self._stopping.set()
        with self._marking:
            self._closed = True

    def deliver(self, timeout: float | None = None) -> bool:
        """Send what is due; return whether all was tried within `timeout` seconds."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._closed = False
        while True:
            heard = self._heard
            due_in = self._step()
            if due_in > 0 and not self._busy():
                return True
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._rest(heard, min(left, self._until_news(due_in)))

    # -- taking off ----------------------------------------------------------------

    def _loop(self) -> None:
        with self._db.outages.enduring(self._stopping):
            while not self._stopping.is_set():
                heard = self._heard
                self._rest(heard, self._survive())

    def _survive(self) -> float:
        try:
            return self._until_news(self._step())
        except DatabaseUnavailableError as error:
            log.warning("%s", error)
        except Exception:
            # A courier that died would tell nobody anything any more.
            log.exception("Sending notices failed; it goes on in a moment.")
        return 1.0

    def _until_news(self, due_in: float) -> float:
        """Return the seconds until something changes that nobody says."""
        with self._news:
            began = [flight.began for flight in self._flights]
        late_in = min(began, default=math.inf) + PATIENCE - time.monotonic()
        if due_in <= 0:
            # While there is room, somebody else is taking it.
            due_in = _SOON if len(began) < AT_ONCE else math.inf
        return max(0.0, min(due_in, late_in, _LOOK_EVERY))

    def _rest(self, heard: int, seconds: float) -> None:
        """Wait so long, or until there is news since `heard` was read."""
        with self._news:
            if self._heard == heard:
                self._news.wait(seconds)

    def _step(self) -> float:
        """Send what there is room for; return the seconds until the next is due."""
        self._give_up_waiting()
        due_in = self._due_in()
        while due_in <= 0 and self._room() > 0 and self._take_off():
            due_in = self._due_in()
        return due_in

    def _due_in(self) -> float:
        def work(tx: Connection) -> float:
            nearest = queries.next_due(tx)
            if nearest is None:
                return math.inf
            return max(0.0, (nearest - self._db.now(tx)).total_seconds())

        return self._db.look(work)

    def _room(self) -> int:
        with self._news:
            return AT_ONCE - len(self._flights)

    def _busy(self) -> bool:
        with self._news:
            return bool(self._flights)

    def _take_off(self) -> int:
        """Begin an attempt at each notice that is due and has room; return how many."""
        room, began = self._room(), time.monotonic()
        flights = self._db.write(lambda tx: self._claim(tx, room, began))
        with self._news:
            self._flights.update(flights)
        for flight in flights:
            # A receiver that hangs does not keep this process from ending.
            threading.Thread(
                target=self._fly, args=(flight,), name="aero-notice", daemon=True
            ).start()
        return len(flights)

    def _claim(self, tx: Connection, room: int, began: float) -> list[_Flight]:
        # Repeated because only the answer to its commit was lost, it finds nothing, and
        # what it took the first time is sent at its next attempt.
        now = self._db.now(tx)
        rows = queries.due(tx, now, room)
        made = queries.made_by(tx, {row.flow_id for row in rows}) if rows else {}
        flights = []
        for row in rows:
            attempt = row.attempts + 1
            pause = pause_after(attempt) or LONGEST_PAUSE
            queries.begin_attempt(tx, row.id, attempt, now + timedelta(seconds=pause))
            message = Message.of(row, made.get(row.flow_id, []))
            flights.append(
                _Flight(
                    message=message, target=row.target, attempt=attempt, began=began
                )
            )
        return flights

    # -- landing -------------------------------------------------------------------

    def _fly(self, flight: _Flight) -> None:
        with self._db.outages.enduring(self._stopping):
            try:
                self._mark(flight, self._send(flight))
            except DatabaseUnavailableError as error:
                log.warning("A notice may be sent twice: %s", error)
            except Exception:
                # As if this process had died: the next attempt is planned already.
                log.exception("Marking a notice failed; it may be sent twice.")
            finally:
                with self._news:
                    self._flights.discard(flight)
                self.wake()

    def _send(self, flight: _Flight) -> str | None:
        """Return why a notice was not taken, None if it was."""
        try:
            channel_for(flight.target, self._settings).send(
                flight.target, flight.message
            )
        except NoticeError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the notice records it
            # Of a library that says so in its own way, maybe with the target's secrets.
            return f"{shown(flight.target)} could not be told ({type(error).__name__})."
        return None

    def _mark(self, flight: _Flight, error: str | None) -> None:
        if error is not None:
            self._failed(flight, error)
            return
        told = flight.message
        self._write(lambda tx: queries.sent(tx, told.id, self._db.now(tx)))
        about = {"run_id": told.run_id, "flow_id": told.flow_id}
        log.info("%s was told: %s", shown(flight.target), told.subject, extra=about)

    def _failed(self, flight: _Flight, error: str) -> None:
        last = pause_after(flight.attempt) is None
        noted = self._write(
            lambda tx: queries.failed(
                tx, flight.message.id, flight.attempt, error, last=last
            )
        )
        if noted and last:
            log.warning(
                "A notice about flow %s was given up after %d attempts: %s",
                flight.message.flow_id,
                flight.attempt,
                error,
                extra={"flow_id": flight.message.flow_id},
            )

    def _write(self, work: Callable[[Connection], T]) -> T | None:
        with self._marking:
            return None if self._closed else self._db.write(work)

    def _give_up_waiting(self) -> None:
        """Take those for lost that take too long; they may land, but hold up none."""
        with self._news:
            late = [
                each
                for each in self._flights
                if time.monotonic() - each.began >= PATIENCE
            ]
            self._flights.difference_update(late)
        for flight in late:
            self._failed(
                flight, f"{shown(flight.target)} did not answer in {PATIENCE:g} s."
            )
