"""What a glance at a workspace asks of the tables."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, text

from aero.db.models import Flow, Run
from aero.db.queries.common import is_status
from aero.types import RunStatus

_PENDING = is_status(RunStatus.PENDING)


def waiting(tx: Connection, now: datetime, endpoints: Collection[str]) -> int:
    """Return how many runs could start now, those of flows that are due included."""
    served = (
        Flow.enabled.is_(True),
        Flow.deleted_at.is_(None),
        Flow.endpoint.in_(list(endpoints)),
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


def next_due(tx: Connection) -> Any:
    """Return `next_due` and `id` of the flow that is due next, if any."""
    return tx.execute(
        select(Flow.next_due, Flow.id)
        .where(
            Flow.next_due.is_not(None),
            Flow.enabled.is_(True),
            Flow.deleted_at.is_(None),
        )
        .order_by(Flow.next_due, Flow.id)
        .limit(1)
    ).one_or_none()


def database_size(tx: Connection) -> int:
    """Return the bytes a PostgreSQL database takes."""
    size = text("SELECT pg_database_size(current_database())")
    return int(tx.execute(size).scalar_one())
