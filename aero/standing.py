"""Whether a flow stands: pause, resume and delete."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from aero import resolve
from aero.auth.base import Role
from aero.db.changes import Topic, tell
from aero.db.models import Flow
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.db.sight import require
from aero.runs import lifecycle


def locked_flow(db: Database, tx: Connection, flow: str) -> Any:
    """Return the row of a flow that the viewer may change, locked.

    Raises:
        NotFoundError: There is no such flow.
        ForbiddenError: The viewer may not.
    """
    found = resolve.flow(tx, flow)
    require(tx, found, Role.EDITOR, "flow")
    lock_rows(tx, Flow, [found.id])
    # What was read before the lock may have changed until it was had.
    return found if db.is_sqlite else resolve.flow(tx, found.id)


def pause(db: Database, tx: Connection, flow: str, reason: str | None) -> str:
    """Stop ticks, judging and claims of a flow; return its id."""
    return _set(db, tx, flow, enabled=False, paused_reason=reason)


def resume(db: Database, tx: Connection, flow: str) -> str:
    """Let a paused flow go on, and judge it; return its id."""
    flow_id = _set(db, tx, flow, enabled=True, paused_reason=None)
    lifecycle.judge(tx, db.now(tx), [flow_id])
    return flow_id


def _set(db: Database, tx: Connection, flow: str, **values: Any) -> str:
    flow_id = str(locked_flow(db, tx, flow).id)
    flow_queries.set_values(tx, flow_id, **values)
    tell(tx, Topic.FLOWS)
    return flow_id


def delete(db: Database, tx: Connection, flow_ids: Sequence[str]) -> list[str]:
    """Mark flows deleted and cancel their runs; return those runs.

    Raises:
        ForbiddenError: One of them belongs to somebody else; all are left alone.
    """
    for row in flow_queries.get_many(tx, flow_ids):
        require(tx, row, Role.ADMIN, "flow")
    now = db.now(tx)
    lock_rows(tx, Flow, flow_ids)
    for flow_id in flow_ids:
        flow_queries.set_values(tx, flow_id, deleted_at=now)
    living = run_queries.living(tx, flow_ids)
    return run_queries.cancel(tx, living, now, "Its flow was deleted.")
