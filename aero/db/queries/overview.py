"""What a glance at a workspace asks of the tables."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    bindparam,
    func,
    select,
    text,
)

from aero.db.models import Flow, Run
from aero.db.queries.common import is_status
from aero.db.sight import visible
from aero.types import RunStatus

_PENDING = is_status(RunStatus.PENDING)


def waiting(tx: Connection, now: datetime, endpoints: Collection[str]) -> int:
    """Return how many runs could start now, those of flows that are due included.

    Of flows that the viewer does not see, none.
    """
    served = (
        Flow.enabled.is_(True),
        Flow.deleted_at.is_(None),
        Flow.endpoint.in_(list(endpoints)),
        *visible(tx, Flow),
    )
    pending = (
        select(func.count())
        .select_from(Run)
        .join(Flow, Flow.id == Run.flow_id)
        .where(_PENDING, Run.not_before <= now, *served)
    )
    # A due flow's run joins the PENDING one of its slot.
    joined = select(Run.id).where(Run.flow_id == Flow.id, _PENDING)
    due = (
        select(func.count())
        .select_from(Flow)
        .where(Flow.next_due <= now, ~joined.exists(), *served)
    )
    counts = select(pending.scalar_subquery() + due.scalar_subquery())
    return int(tx.execute(counts).scalar_one())


def runs_by_flow(tx: Connection, most: int) -> list[tuple[str | None, str, int]]:
    """Return (flow, status, runs) of the `most` flows with the most runs.

    Those of all other flows are counted together, their flow is None.
    """
    return [tuple(row) for row in tx.execute(_RUNS_BY_FLOW, {"most": most})]


def _runs_by_flow() -> Any:
    # All rows are read. SQLite would do it by an index of a mere column, and take
    # twice as long.
    flow_id = func.coalesce(Run.flow_id, Run.flow_id)
    counted = (
        select(flow_id.label("flow_id"), Run.status, func.count().label("runs"))
        .group_by(flow_id, Run.status)
        .cte("counted")
        .prefix_with("MATERIALIZED")
    )
    leading = (
        select(counted.c.flow_id)
        .group_by(counted.c.flow_id)
        .order_by(func.sum(counted.c.runs).desc(), counted.c.flow_id)
        .limit(bindparam("most", type_=Integer()))
        .subquery("leading")
    )
    return (
        select(leading.c.flow_id, counted.c.status, func.sum(counted.c.runs))
        .select_from(counted)
        .outerjoin(leading, leading.c.flow_id == counted.c.flow_id)
        .group_by(leading.c.flow_id, counted.c.status)
        .order_by(leading.c.flow_id, counted.c.status)
    )


_RUNS_BY_FLOW = _runs_by_flow()


def next_due(tx: Connection) -> Any:
    """Return `next_due` and `id` of the flow that is due next and seen, if any."""
    return tx.execute(
        select(Flow.next_due, Flow.id)
        .where(
            Flow.next_due.is_not(None),
            Flow.enabled.is_(True),
            Flow.deleted_at.is_(None),
            *visible(tx, Flow),
        )
        .order_by(Flow.next_due, Flow.id)
        .limit(1)
    ).one_or_none()


def database_size(tx: Connection) -> int:
    """Return the bytes a PostgreSQL database takes."""
    size = text("SELECT pg_database_size(current_database())")
    return int(tx.execute(size).scalar_one())
