"""Who works on which run: claims, their fence and their leases."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    bindparam,
    exists,
    or_,
    select,
    tuple_,
    update,
)

from aero.db.base import UtcDateTime
from aero.db.models import Flow, Run
from aero.db.queries.common import by_key, is_status
from aero.types import RunStatus

_PENDING = is_status(RunStatus.PENDING)
_RUNNING = is_status(RunStatus.RUNNING)

_HEAD = (
    Run.id,
    Run.flow_id,
    Run.task,
    Run.source_key,
    Run.attempt,
    Run.claim,
    Run.trigger_key,
    Run.event,
    Run.started_at,
    Run.function_failures,
    Run.lost_tries,
)


def claim(
    tx: Connection,
    *,
    now: datetime,
    lease_expires: datetime,
    claim_id: str,
    claimed_by: str,
    endpoints: Collection[str],
    limit: int,
) -> list[Row[Any]]:
    """Take up to `limit` runs that may start, best first, in one statement."""
    rows = tx.execute(
        _CLAIM,
        {
            "moment": now,
            "endpoints": list(endpoints),
            "most": limit,
            "status": RunStatus.RUNNING.value,
            "claim": claim_id,
            "claimed_by": claimed_by,
            "lease_expires": lease_expires,
            "started_at": now,
        },
    ).all()
    return sorted(rows, key=lambda r: (-r.priority, r.created_at, r.id))


def _claiming() -> Any:
    busy = Run.__table__.alias("busy")
    waiting = (
        select(Run.id)
        .join(Flow, Flow.id == Run.flow_id)
        .where(
            _PENDING,
            Run.not_before <= bindparam("moment", type_=UtcDateTime()),
            Flow.enabled.is_(True),
            Flow.deleted_at.is_(None),
            Flow.endpoint.in_(bindparam("endpoints", expanding=True)),
            ~exists().where(
                busy.c.flow_id == Run.flow_id,
                busy.c.task == Run.task,
                busy.c.source_key == Run.source_key,
                is_status(RunStatus.RUNNING, busy.c.status),
            ),
        )
        .order_by(Run.priority.desc(), Run.created_at, Run.id)
        .limit(bindparam("most", type_=Integer()))
        .with_for_update(skip_locked=True, of=Run)
        # Or a plan might ask again for every row, and lock others each time.
        .cte("waiting")
        .prefix_with("MATERIALIZED")
    )
    return (
        update(Run)
        .where(Run.id.in_(select(waiting.c.id).scalar_subquery()))
        .returning(*_HEAD, Run.priority, Run.created_at)
    )


_CLAIM = _claiming()


def leave_running(
    tx: Connection, run_id: str, claim_id: str | None, **values: Any
) -> bool:
    """Take a run out of RUNNING, fenced by its claim; False if it is not ours."""
    values |= {"key_id": run_id, "key_claim": claim_id, "lease_expires": None}
    return bool(tx.execute(_LEAVE, values).all())


_LEAVE = by_key(Run, Run.id, Run.claim).where(_RUNNING).returning(Run.id)


def extend_leases(
    tx: Connection, claims: Mapping[str, str], lease_expires: datetime
) -> set[str]:
    """Extend the leases of run id -> claim; return the runs still held."""
    rows = tx.execute(
        update(Run)
        .where(
            _RUNNING,
            tuple_(Run.id, Run.claim).in_(list(claims.items())),
        )
        .values(lease_expires=lease_expires)
        .returning(Run.id)
    )
    return set(rows.scalars())


def still_held(tx: Connection, claims: Mapping[str, str]) -> set[str]:
    """Return those runs of run id -> claim that still belong to their claim."""
    rows = tx.execute(
        select(Run.id).where(
            _RUNNING,
            tuple_(Run.id, Run.claim).in_(list(claims.items())),
        )
    )
    return set(rows.scalars())


def expired(
    tx: Connection, now: datetime, lost_workers: Collection[str]
) -> list[Row[Any]]:
    """Return RUNNING runs whose lease ran out or whose worker is known to be gone."""
    gone = Run.lease_expires <= now
    if lost_workers:
        gone = or_(gone, Run.claimed_by.in_(list(lost_workers)))
    return list(tx.execute(select(*_HEAD).where(_RUNNING, gone)))


def claimants(tx: Connection) -> list[str]:
    """Return the workers that hold RUNNING runs."""
    rows = tx.execute(select(Run.claimed_by).where(_RUNNING).distinct())
    return [name for name in rows.scalars() if name is not None]


def running_ids(tx: Connection) -> set[str]:
    """Return the RUNNING runs."""
    rows = tx.execute(select(Run.id).where(_RUNNING))
    return set(rows.scalars())
