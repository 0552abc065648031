"""How many runs may run at once, and which of those that wait come first."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from aero import flow_request, resolve, targets
from aero.auth.base import Role
from aero.db.changes import Topic, tell
from aero.db.models import Flow
from aero.db.queries import flows as flow_queries
from aero.db.queries import limits as queries
from aero.db.queries import notices as notice_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.sight import require
from aero.types import Json


def set_flow(tx: Connection, ref: str, changes: Mapping[str, Any]) -> str:
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
    found = resolve.flow(tx, ref)
    require(tx, found, Role.EDITOR, "flow")
    flow_id = str(found.id)
    lock_rows(tx, Flow, [flow_id])
    told = {name: values.pop(name, None) for name in ("email", "notify")}
    if any(given is not None for given in told.values()):
        values |= _tell_others(tx, flow_id, told)
    if values:
        flow_queries.set_values(tx, flow_id, **values)
    for rule in flow_queries.rules(tx, [flow_id]).values():
        run_queries.follow_flow(
            tx, flow_id, priority=rule.priority, limited=rule.limited
        )
    tell(tx, Topic.RUNS)
    return flow_id


def _tell_others(
    tx: Connection, flow_id: str, told: Mapping[str, list[str] | None]
) -> Json:
    """Return what changes of a flow whose targets are replaced."""
    row = flow_queries.get(tx, flow_id)
    before = (row.notify if row is not None else None) or []
    found = list(targets.changed(before, **told))
    notice_queries.forget(tx, flow_id, found)
    if found:
        return {"notify": found}
    return {"notify": None, "failing_since": None, "failing_key": None}


def set_limit(tx: Connection, endpoint: str, max_running: int | None) -> Json:
    """Set the limit of an endpoint, or remove it; return its record.

    It binds every claim that begins after it, in whichever process. What runs goes on.

    Raises:
        InvalidValueError: A value cannot be used.
    """
    name = flow_request.check_endpoint(endpoint)
    queries.set_limit(tx, name, flow_request.limit(max_running))
    tell(tx, Topic.RUNS)
    return _record(tx, {name: max_running})[0]


def listed(tx: Connection) -> list[Json]:
    """Return the records of all endpoints that have a limit, by name."""
    return _record(tx, queries.endpoint_limits(tx))


def _record(tx: Connection, limits: Mapping[str, int | None]) -> list[Json]:
    running, waiting = queries.running(tx, limits), queries.waiting(tx, limits)
    return [
        {
            "endpoint": endpoint,
            "max_running": most,
            "running": running.get(endpoint, 0),
            "waiting": waiting.get(endpoint, 0),
        }
        for endpoint, most in limits.items()
    ]
