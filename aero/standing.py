"""How a flow stands: pause, resume, change and delete it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from aero import flow_request, resolve, targets
from aero.auth.base import Role
from aero.db.changes import Topic, tell
from aero.db.models import Flow
from aero.db.queries import flows as flow_queries
from aero.db.queries import notices as notice_queries
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


def set_flow(
    db: Database, tx: Connection, flow: str, changes: Mapping[str, Any]
) -> str:
    """Change a flow's `priority`, `max_running`, `email` or `notify`; return its id.

    Its runs that wait follow. Those that run go on, also where they are more than the
    new limit: as many must end before one starts. Who is no longer to be told is told
    nothing more.

    Raises:
        NotFoundError: There is no such flow.
        ForbiddenError: It belongs to somebody else.
        InvalidValueError: A value cannot be used.
        InvalidTypeError: Something else of it would be changed.
    """
    values = flow_request.flow_changes(changes)
    row = locked_flow(db, tx, flow)
    told = {name: values.pop(name, None) for name in ("email", "notify")}
    if any(given is not None for given in told.values()):
        values |= _tell_others(tx, row, told)
    if values:
        flow_queries.set_values(tx, row.id, **values)
    for rule in flow_queries.rules(tx, [row.id]).values():
        run_queries.follow_flow(
            tx, row.id, priority=rule.priority, limited=rule.limited
        )
    tell(tx, Topic.RUNS)
    return str(row.id)


def _tell_others(
    tx: Connection, row: Any, told: Mapping[str, list[str] | None]
) -> dict[str, Any]:
    """Return what changes of a flow whose targets are replaced."""
    found = list(targets.changed(row.notify or (), **told))
    notice_queries.forget(tx, row.id, found)
    if found:
        return {"notify": found}
    return {"notify": None, "failing_since": None, "failing_key": None}


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
