"""How many runs of an endpoint may run at once."""

from collections.abc import Mapping

from sqlalchemy import Connection

from aero import flow_request
from aero.db.changes import Topic, tell
from aero.db.queries import limits as queries
from aero.types import Json


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
