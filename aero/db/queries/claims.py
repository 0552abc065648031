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
    func,
    or_,
    select,
    tuple_,
    update,
)

from aero.db.base import UtcDateTime
from aero.db.changes import Topic, tell
from aero.db.models import EndpointLimit, Flow, Run
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


def claim(tx: Connection, **claim: Any) -> list[Row[Any]]:
    """Take up to `limit` runs that may start, best first, in one statement.

    It takes none where a limit may apply: `limits.apply` then says so. The arguments
    are those of `_claim`.
    """
    return _claim(tx, _CLAIM, **claim)


def claim_unlimited(tx: Connection, **claim: Any) -> list[Row[Any]]:
    """As `claim`, but take what has no limit though other runs have.

    The caller vouches that none of the endpoints has one.
    """
    return _claim(tx, _CLAIM_UNLIMITED, **claim)


def claim_these(
    tx: Connection, run_ids: Collection[str], **claim: Any
) -> list[Row[Any]]:
    """As `claim`, but take these runs; the caller holds the locks of their limits."""
    return _claim(tx, _CLAIM_THESE, ids=list(run_ids), **claim)


def _claim(
    tx: Connection,
    statement: Any,
    *,
    now: datetime,
    lease_expires: datetime,
    claim_id: str,
    claimed_by: str,
    endpoints: Collection[str],
    limit: int,
    **more: Any,
) -> list[Row[Any]]:
    rows = tx.execute(
        statement,
        {
            "moment": now,
            "endpoints": list(endpoints),
            "most": limit,
            "status": RunStatus.RUNNING.value,
            "claim": claim_id,
            "claimed_by": claimed_by,
            "lease_expires": lease_expires,
            "started_at": now,
            **more,
        },
    ).all()
    return sorted(rows, key=best_first)


def taken(tx: Connection, claim_id: str) -> list[Row[Any]]:
    """Return what a claim took, best first; nothing if it was never committed."""
    rows = tx.execute(_TAKEN, {"claim_id": claim_id}).all()
    return sorted(rows, key=best_first)


_CLAIMED = (*_HEAD, Run.priority, Run.created_at)
_TAKEN = select(*_CLAIMED).where(_RUNNING, Run.claim == bindparam("claim_id"))
BEST_FIRST = (Run.priority.desc(), Run.created_at, Run.id)


def best_first(run: Any) -> tuple[Any, ...]:
    """Return what runs are sorted by: higher priorities first, then older ones."""
    return (-run.priority, run.created_at, run.id)


def startable(*columns: Any) -> Any:
    """Return a SELECT of up to `most` runs that may start at `moment`."""
    busy = Run.__table__.alias("busy")
    return (
        select(*columns)
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
        .limit(bindparam("most", type_=Integer()))
    )


def _claiming(*conditions: Any) -> Any:
    waiting = (
        startable(Run.id)
        .where(*conditions)
        .order_by(*BEST_FIRST)
        .with_for_update(skip_locked=True, of=Run)
        # Or a plan might ask again for every row, and lock others each time.
        .cte("waiting")
        .prefix_with("MATERIALIZED")
    )
    return (
        update(Run)
        .where(Run.id.in_(select(waiting.c.id).scalar_subquery()))
        .returning(*_CLAIMED)
    )


def limits_apply() -> Any:
    """Return the condition that a run waits to which a limit may apply."""
    other = Run.__table__.alias("other")
    # In the order of the queue's index, or a plan might read all runs there ever were.
    last = (
        select(other.c.limited)
        .where(is_status(RunStatus.PENDING, other.c.status))
        .order_by(other.c.limited.desc())
        .limit(1)
        .scalar_subquery()
    )
    here = exists().where(
        EndpointLimit.endpoint.in_(bindparam("endpoints", expanding=True))
    )
    return or_(last.is_(True), here)


_UNLIMITED = Run.limited.is_(False)
_CLAIM = _claiming(_UNLIMITED, ~limits_apply())
_CLAIM_UNLIMITED = _claiming(_UNLIMITED)
_CLAIM_THESE = _claiming(Run.id.in_(bindparam("ids", expanding=True)))


def leave_running(
    tx: Connection, run_id: str, claim_id: str | None, **values: Any
) -> bool:
    """Take a run out of RUNNING, fenced by its claim; False if it is not ours."""
    values |= {"key_id": run_id, "key_claim": claim_id, "lease_expires": None}
    row = tx.execute(_LEAVE, values).one_or_none()
    if row is not None and row.makes_room:
        tell(tx, Topic.RUNS)
    return row is not None


_LEAVE = (
    by_key(Run, Run.id, Run.claim)
    .where(_RUNNING)
    .returning(
        or_(Run.limited, exists().select_from(EndpointLimit)).label("makes_room")
    )
)


def take_over(tx: Connection, run_id: str, attempt: int, claim_id: str) -> Any:
    """Give an attempt to another claim and return its row.

    The caller holds the lock of its flow and saw it RUNNING. Whoever worked on it is
    fenced off, and lets go of it once it hears of that.
    """
    tell(tx, Topic.CANCELLED)
    return tx.execute(
        update(Run)
        .where(Run.id == run_id, Run.attempt == attempt, _RUNNING)
        .values(claim=claim_id)
        .returning(*Run.__table__.c)
    ).one()


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


def first_expiry(tx: Connection, now: datetime) -> datetime | None:
    """Return when the next lease runs out."""
    found: datetime | None = tx.execute(
        select(func.min(Run.lease_expires)).where(_RUNNING, Run.lease_expires > now)
    ).scalar_one()
    return found


def claimants(tx: Connection) -> list[str]:
    """Return the workers that hold RUNNING runs."""
    rows = tx.execute(select(Run.claimed_by).where(_RUNNING).distinct())
    return [name for name in rows.scalars() if name is not None]


def running_ids(tx: Connection) -> set[str]:
    """Return the RUNNING runs."""
    rows = tx.execute(select(Run.id).where(_RUNNING))
    return set(rows.scalars())
