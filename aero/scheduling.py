"""(2) The scheduler: APScheduler wakes it, it asks which flows are due.

Due times live in `flow.next_due`, so any number of flows costs no memory here and a
restart forgets nothing.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from aero import triggers
from aero.db.queries import flows as flow_queries
from aero.db.queries.flows import FlowRule, task_count
from aero.db.session import Database
from aero.registration import ticks
from aero.runs import lifecycle
from aero.types import PolicyEnum

log = logging.getLogger(__name__)

BATCH = 100
LONGEST_SLEEP = timedelta(seconds=60)
_JOB = "tick"


def tick(db: Database) -> int:
    """Trigger up to `BATCH` due flows and advance them, in one transaction.

    However many ticks were missed, a flow fires once, and its next time lies after
    now.

    Returns:
        The number of flows that were due.
    """
    with db.read() as tx:
        nearest = flow_queries.next_due(tx)
        if nearest is None or nearest > db.now(tx):
            return 0
    return db.write(lambda tx: _tick(db, tx))


def _tick(db: Database, tx: Connection) -> int:
    now = db.now(tx)
    due = flow_queries.due(tx, now, BATCH)
    rules = {row.id: _rule(row) for row in due}
    lifecycle.trigger(
        tx,
        now,
        [t for row in due for t in ticks(row.id, rules[row.id].tasks, row.next_due)],
        rules=rules,
    )
    for row in due:
        flow_queries.set_values(tx, row.id, next_due=_advance(row, now))
    return len(due)


def _rule(row: Any) -> FlowRule:
    return FlowRule(
        id=row.id,
        policy=PolicyEnum(row.policy),
        tasks=task_count(row.kwargs),
        priority=row.priority,
        enabled=True,
    )


def _advance(row: Any, now: datetime) -> datetime | None:
    schedule = triggers.Schedule(
        timer=row.timer, cron=row.cron, timezone=row.timezone, anchor=row.created_at
    )
    return triggers.next_due(schedule, now, row.next_due)


def next_after_pause(row: Any, now: datetime) -> datetime | None:
    """Return the next due time of a flow that is resumed now."""
    return _advance(row, now) if row.next_due is not None else None


class Scheduler:
    """Ticks in a background thread, asleep until the next flow is due."""

    def __init__(self, db: Database, on_tick: Any) -> None:
        self._db = db
        self._on_tick = on_tick
        self._scheduler: Any = None

    def start(self) -> None:
        """Begin to tick."""
        from apscheduler.schedulers.background import BackgroundScheduler

        self._scheduler = BackgroundScheduler(timezone="UTC")
        self._scheduler.start()
        self.wake()

    def wake(self) -> None:
        """Look again now: a flow may be due earlier than was thought."""
        if self._scheduler is not None:
            self._plan(None)

    def stop(self) -> None:
        """Stop ticking, after the tick that is under way."""
        if self._scheduler is not None:
            self._scheduler.shutdown(wait=True)
            self._scheduler = None

    def _plan(self, moment: datetime | None) -> None:
        from apscheduler.triggers.date import DateTrigger

        self._scheduler.add_job(
            self._run,
            DateTrigger(run_date=moment),
            id=_JOB,
            replace_existing=True,
            misfire_grace_time=None,
        )

    def _run(self) -> None:
        while tick(self._db):
            self._on_tick()
        with self._db.read() as tx:
            nearest = flow_queries.next_due(tx)
            now = self._db.now(tx)
        sleep = LONGEST_SLEEP if nearest is None else nearest - now
        wait = max(timedelta(0), min(sleep, LONGEST_SLEEP))
        # This process's clock plans the wake-up, the database's decides what is due.
        from aero.clock import utc_now

        self._plan(utc_now() + wait)
