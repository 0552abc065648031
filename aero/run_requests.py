"""What people ask of runs: run now, cancel, retry."""

from typing import Any

from sqlalchemy import Connection

from aero import events, resolve
from aero.auth.base import Role
from aero.db.models import Flow
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.db.sight import require, viewer_of
from aero.error import NotFoundError
from aero.runs import lifecycle
from aero.runs.lifecycle import Trigger
from aero.standing import locked_flow


def run_now(db: Database, tx: Connection, flow: str, key: str) -> list[str]:
    """Trigger a flow, every task of it; return the runs.

    Raises:
        ConflictError: Only a notification can say which object to ingest.
    """
    row = locked_flow(db, tx, flow)
    events.refuse_run_now(tx, row)
    rule = flow_queries.rule(row)
    due = [
        Trigger(flow_id=row.id, task=task, key=key, kind="manual")
        for task in range(rule.tasks)
    ]
    return lifecycle.trigger(tx, db.now(tx), due, rules={row.id: rule})


def cancel(db: Database, tx: Connection, run: str) -> tuple[str, list[str]]:
    """End a run as CANCELLED; return its id, and it again if it had not ended."""
    row = _changeable(tx, run)
    lock_rows(tx, Flow, [row.flow_id])
    now = db.now(tx)
    cancelled = run_queries.cancel(tx, [row.id], now, "Cancelled by request.")
    if cancelled:
        lifecycle.judge(tx, now, [row.flow_id])
    return row.id, cancelled


def _changeable(tx: Connection, run: str) -> Any:
    """Return the row of a run whose flow the viewer may change."""
    row = resolve.run(tx, run)
    if viewer_of(tx) is not None:
        for flow in flow_queries.get_many(tx, [row.flow_id]):
            require(tx, flow, Role.EDITOR, "flow")
    return row


class Retry:
    """Runs an ended run again, once, however often its transaction is repeated."""

    def __init__(self, db: Database, run: str) -> None:
        self._db = db
        self._run = run
        self._made: dict[str, int] = {}

    def __call__(self, tx: Connection) -> str:
        """Return the id of the run that will do the work."""
        row = _changeable(tx, self._run)
        lock_rows(tx, Flow, [row.flow_id])
        rule = flow_queries.rules(tx, [row.flow_id]).get(row.flow_id)
        if rule is None:
            raise NotFoundError(f"The flow of run {row.id} was deleted.")
        row = resolve.run(tx, row.id)
        if self._made.get(row.id) == row.attempt:
            # Done already: only the answer to the commit was lost.
            return str(row.id)
        self._made[row.id] = row.attempt + 1
        return lifecycle.retry(tx, self._db.now(tx), row, rule)
