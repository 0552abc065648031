"""(2) The scheduler: APScheduler wakes it, it asks which flows are due.

Due times live in `flow.next_due`, so any number of flows costs no memory here and a
restart forgets nothing.
"""

import logging
import threading
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from aero import polling, triggers
from aero.clock import utc_now
from aero.db.queries import flows as flow_queries
from aero.db.queries.flows import FlowRule
from aero.db.session import Database
from aero.error import DatabaseUnavailableError
from aero.registration import ticks
from aero.runs import lifecycle
from aero.runs.lifecycle import Trigger
from aero.types import PolicyEnum

log = logging.getLogger(__name__)

BATCH = 100
TRIGGERS = 1000
"""Of one tick, so many are made by one statement: databases limit its parameters."""
LONGEST_SLEEP = timedelta(seconds=60)
MOMENT = timedelta(milliseconds=100)
_JOB = "tick"


def tick(db: Database) -> int:
    """Trigger up to `BATCH` due flows and advance them, in one transaction.

    However many ticks were missed, a flow fires once, and its next time lies after
    now.

    Returns:
        The number of flows that were due.
    """
    if _until_due(db) > timedelta(0):
        return 0
    return db.write(lambda tx: _tick(db, tx))


def _until_due(db: Database) -> timedelta:
    """Return how long no flow will be due; a minute at most."""

    def work(tx: Connection) -> timedelta:
        nearest = flow_queries.next_due(tx)
        if nearest is None:
            return LONGEST_SLEEP
        return max(timedelta(0), min(nearest - db.now(tx), LONGEST_SLEEP))

    return db.look(work)


def _tick(db: Database, tx: Connection) -> int:
    now = db.now(tx)
    due = flow_queries.due(tx, now, BATCH)
    rules = {row.id: flow_queries.rule(row) for row in due}
    ticked = [t for row in due for t in _triggers(tx, rules[row.id], row.next_due)]
    for start in range(0, len(ticked), TRIGGERS):
        lifecycle.trigger(tx, now, ticked[start : start + TRIGGERS], rules=rules)
    for row in due:
        flow_queries.set_values(tx, row.id, next_due=_advance(row, now))
    return len(due)


def _triggers(tx: Connection, rule: FlowRule, due: datetime) -> list[Trigger]:
    if rule.policy is PolicyEnum.INGESTION_EVENT:
        return polling.polls(tx, rule, due)
    return ticks(rule.id, rule.tasks, due)


def _advance(row: Any, now: datetime) -> datetime | None:
    schedule = triggers.Schedule(
        timer=row.timer, cron=row.cron, timezone=row.timezone, anchor=row.created_at
    )
    return triggers.next_due(schedule, now, row.next_due)


class Scheduler:
    """Ticks in a background thread, asleep until the next flow is due."""

    def __init__(self, db: Database, on_tick: Any) -> None:
        self._db = db
        self._on_tick = on_tick
        self._scheduler: Any = None
        self._lock = threading.Lock()
        self._ticking = False
        self._again = False
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to tick."""
        from apscheduler.schedulers.background import BackgroundScheduler

        self._scheduler = BackgroundScheduler(timezone="UTC")
        self._scheduler.start()
        self.wake()

    def wake(self) -> None:
        """Look again now: a flow may be due earlier than was thought."""
        with self._lock:
            self._again = True
            if self._scheduler is not None and not self._ticking:
                self._plan(None)

    def stop(self) -> None:
        """Stop ticking, after the tick that is under way."""
        self._stopping.set()
        with self._lock:
            scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            # It would look in vain for the job that it is just starting, once stopped.
            scheduler.remove_all_jobs()
            scheduler.shutdown(wait=True)

    def _plan(self, moment: datetime | None) -> None:
        from apscheduler.triggers.date import DateTrigger

        if self._scheduler is None:
            return
        self._scheduler.add_job(
            self._run,
            DateTrigger(run_date=moment),
            id=_JOB,
            replace_existing=True,
            misfire_grace_time=None,
            max_instances=2,
        )

    def _run(self) -> None:
        with self._lock:
            if self._ticking:
                return
            self._ticking = True
        again = True
        while again:
            self._again = False
            wait = self._tick_all()
            with self._lock:
                again = self._again
                if not again:
                    self._ticking = False
                    # This process's clock plans the wake-up, the database's decides
                    # what is due.
                    # What is due and was not ticked is locked by somebody.
                    self._plan(utc_now() + (wait or MOMENT))

    def _tick_all(self) -> timedelta:
        """Tick what is due; return how long nothing more will be."""
        try:
            with self._db.outages.enduring(self._stopping):
                while tick(self._db):
                    self._on_tick()
                return _until_due(self._db)
        except DatabaseUnavailableError as error:
            log.warning("%s", error)
        except Exception:
            # A scheduler that died would leave every flow waiting.
            log.exception("The scheduler failed; it ticks again in a moment.")
        return timedelta(seconds=1)
