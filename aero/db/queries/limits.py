"""How many runs may run at once: of a flow, and of an endpoint.

A claim that a limit applies to locks the limit's row, and counts what runs in a later
statement: so nobody else can take from the same room meanwhile.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, literal_column, select

from aero.db.models import EndpointLimit, Flow, Run
from aero.db.queries.claims import BEST_FIRST, limits_apply, startable
from aero.db.queries.common import is_status, upsert
from aero.types import RunStatus

_PENDING = is_status(RunStatus.PENDING)
_RUNNING = is_status(RunStatus.RUNNING)
# The waiting runs of one flow have all the same priority.
_OLDEST_FIRST = (Run.created_at, Run.id)
# As the index of these runs has it, else SQLite would not use that.
_LIMITED: Any = literal_column("run.limited")
_ENDPOINTS: Any = bindparam("endpoints", expanding=True)


def apply(tx: Connection, endpoints: Collection[str]) -> bool:
    """Whether runs wait to which a limit may apply, so that `claim` took none."""
    return bool(tx.execute(_APPLY, {"endpoints": list(endpoints)}).scalar_one())


_APPLY = select(limits_apply())


def lock_endpoints(tx: Connection, endpoints: Collection[str]) -> dict[str, int]:
    """Lock the limits of these endpoints, by name; return those there are."""
    rows = tx.execute(_LOCK, {"endpoints": list(endpoints)})
    return {endpoint: most for endpoint, most in rows}  # noqa: C416 -- rows, not pairs


_LOCK = (
    select(EndpointLimit.endpoint, EndpointLimit.max_running)
    .where(EndpointLimit.endpoint.in_(_ENDPOINTS))
    .order_by(EndpointLimit.endpoint)
    .with_for_update()
)


def running(tx: Connection, endpoints: Collection[str]) -> dict[str, int]:
    """Return how many runs are RUNNING at these endpoints; where none, nothing."""
    rows = tx.execute(_RUNNING_AT, {"endpoints": list(endpoints)})
    return {endpoint: count for endpoint, count in rows}  # noqa: C416 -- see above


def _by_endpoint(status: Any) -> Any:
    return (
        select(Flow.endpoint, func.count())
        .select_from(Run)
        .join(Flow, Flow.id == Run.flow_id)
        .where(status, Flow.endpoint.in_(_ENDPOINTS))
        .group_by(Flow.endpoint)
    )


_RUNNING_AT = _by_endpoint(_RUNNING)
_PENDING_AT = _by_endpoint(_PENDING)


def waiting(tx: Connection, endpoints: Collection[str]) -> dict[str, int]:
    """Return how many runs are PENDING at these endpoints; where none, nothing."""
    rows = tx.execute(_PENDING_AT, {"endpoints": list(endpoints)})
    return {endpoint: count for endpoint, count in rows}  # noqa: C416 -- see above


def flows_with_room(
    tx: Connection, now: datetime, endpoints: Collection[str], most: int
) -> list[str]:
    """Return up to `most` flows with a limit that have a run to start and room for it.

    Those whose best run comes first are returned: so of all that may start, none
    that is among the `most` best is missed.
    """
    asked = {"moment": now, "endpoints": list(endpoints), "flows": most, "most": 1}
    return list(tx.execute(_WITH_ROOM, asked).scalars())


def _count_running() -> Any:
    own = Run.__table__.alias("own")
    return (
        select(func.count())
        .where(own.c.flow_id == Flow.id, is_status(RunStatus.RUNNING, own.c.status))
        .scalar_subquery()
    )


def _first_flow(*conditions: Any) -> Any:
    # The order of the index, and no more of it than its first entry.
    first = select(Run.flow_id).where(_PENDING, _LIMITED, *conditions)
    return first.order_by(Run.flow_id).limit(1).scalar_subquery()


def _with_room() -> Any:
    """Look at one run of every flow that waits, however many of its runs do."""
    each = select(_first_flow().label("id")).cte("each", recursive=True)
    following = select(_first_flow(Run.flow_id > each.c.id)).where(
        each.c.id.is_not(None)
    )
    each = each.union_all(following)
    best = (
        startable(Run.created_at)
        .where(_LIMITED, Run.flow_id == each.c.id)
        .order_by(*_OLDEST_FIRST)
        .correlate(each)
        .scalar_subquery()
    )
    found = (
        select(Flow.id, Flow.priority, best.label("best"))
        .join(each, each.c.id == Flow.id)
        # Of the last, which is none, a plan might look for runs among all there are.
        .where(each.c.id.is_not(None), Flow.max_running > _count_running())
        .subquery("found")
    )
    return (
        select(found.c.id)
        .where(found.c.best.is_not(None))
        .order_by(found.c.priority.desc(), found.c.best, found.c.id)
        .limit(bindparam("flows"))
    )


_WITH_ROOM = _with_room()


def room_of(tx: Connection, flow_ids: Collection[str]) -> dict[str, int]:
    """Return how many more runs of these flows may start, of those with a limit."""
    rows = tx.execute(_ROOM, {"ids": list(flow_ids)})
    return {flow_id: most - count for flow_id, most, count in rows}


_ROOM = select(Flow.id, Flow.max_running, _count_running()).where(
    Flow.id.in_(bindparam("ids", expanding=True)), Flow.max_running.is_not(None)
)


def best_of_flow(
    tx: Connection, flow_id: str, now: datetime, endpoints: Collection[str], most: int
) -> list[Row[Any]]:
    """Return the `most` best runs of a flow with a limit that may start."""
    asked = {"moment": now, "endpoints": list(endpoints), "most": most, "flow": flow_id}
    return list(tx.execute(_BEST_OF_FLOW, asked))


def best_without(
    tx: Connection, now: datetime, endpoints: Collection[str], most: int
) -> list[Row[Any]]:
    """Return the `most` best runs that may start of flows without a limit."""
    asked = {"moment": now, "endpoints": list(endpoints), "most": most}
    return list(tx.execute(_BEST_WITHOUT, asked))


_CANDIDATE = (Run.id, Run.flow_id, Flow.endpoint, Run.priority, Run.created_at)
_BEST_OF_FLOW = (
    startable(*_CANDIDATE)
    .where(_LIMITED, Run.flow_id == bindparam("flow"))
    .order_by(*_OLDEST_FIRST)
)
_BEST_WITHOUT = (
    startable(*_CANDIDATE).where(Run.limited.is_(False)).order_by(*BEST_FIRST)
)


def first_startable(
    tx: Connection, flow_id: str, now: datetime, endpoints: Collection[str]
) -> str | None:
    """Return the oldest run of a flow that may start, whether or not limits let it."""
    own = startable(Run.id).where(Run.flow_id == flow_id).order_by(*_OLDEST_FIRST)
    asked = {"moment": now, "endpoints": list(endpoints), "most": 1}
    return tx.execute(own, asked).scalar_one_or_none()


def endpoint_limits(tx: Connection) -> dict[str, int]:
    """Return the limits of all endpoints that have one, by name."""
    rows = tx.execute(
        select(EndpointLimit.endpoint, EndpointLimit.max_running).order_by(
            EndpointLimit.endpoint
        )
    )
    return {endpoint: most for endpoint, most in rows}  # noqa: C416 -- see above


def set_limit(tx: Connection, endpoint: str, max_running: int | None) -> None:
    """Set or remove the limit of an endpoint."""
    if max_running is None:
        tx.execute(delete(EndpointLimit).where(EndpointLimit.endpoint == endpoint))
        return
    row = {"endpoint": endpoint, "max_running": max_running}
    upsert(tx, EndpointLimit, [row], keys=["endpoint"])


def running_of(tx: Connection, flow_id: str) -> int:
    """Return how many runs of a flow are RUNNING."""
    own = select(func.count()).select_from(Run).where(Run.flow_id == flow_id, _RUNNING)
    return int(tx.execute(own).scalar_one())
