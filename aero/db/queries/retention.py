"""What gc and pruning ask of the tables, in batches."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, func, select, tuple_

from aero.db.models import Notice, Run, RunTrigger, Worker
from aero.db.queries.common import is_status
from aero.types import RunStatus

TriggerKey = tuple[str, int, str]

_ENDED = Run.status.not_in([RunStatus.PENDING.value, RunStatus.RUNNING.value])


def oldest_start(tx: Connection) -> datetime | None:
    """Return when the oldest RUNNING run started, None where nothing is RUNNING."""
    found: datetime | None = tx.execute(
        select(func.min(Run.started_at)).where(is_status(RunStatus.RUNNING))
    ).scalar_one()
    return found


def _old(before: datetime) -> Any:
    untold = select(Notice.id).where(
        Notice.run_id == Run.id, Notice.not_before.is_not(None)
    )
    # A run is created before it ends: the bound that has an index comes first.
    return and_(
        Run.created_at < before, Run.finished_at < before, _ENDED, ~untold.exists()
    )


def count_ended(tx: Connection, before: datetime) -> int:
    """Return how many runs ended before `before`."""
    return tx.execute(
        select(func.count()).select_from(Run).where(_old(before))
    ).scalar_one()


def delete_ended(tx: Connection, before: datetime, limit: int) -> int:
    """Delete up to `limit` runs that ended before `before`; return how many."""
    oldest = (
        select(Run.id).where(_old(before)).order_by(Run.created_at, Run.id).limit(limit)
    )
    # Said twice: between finding a run and deleting it, it may have been retried.
    statement = delete(Run).where(Run.id.in_(oldest.scalar_subquery()), _old(before))
    return tx.execute(statement).rowcount


def spent_triggers(
    tx: Connection,
    before: datetime,
    runs_before: datetime,
    after: TriggerKey | None,
    limit: int,
) -> list[TriggerKey]:
    """Return triggers of before `before` whose run is gone, one page by their key.

    Args:
        tx: The transaction.
        before: The triggers' age.
        runs_before: A run that ended before this moment counts as gone.
        after: The last key of the page before.
        limit: The size of a page.
    """
    kept = select(Run.id).where(Run.id == RunTrigger.run_id, ~_old(runs_before))
    key = (RunTrigger.flow_id, RunTrigger.task, RunTrigger.key)
    query = select(*key).where(RunTrigger.created_at < before, ~kept.exists())
    if after is not None:
        query = query.where(tuple_(*key) > after)
    rows = tx.execute(query.order_by(*key).limit(limit))
    return [(row.flow_id, row.task, row.key) for row in rows]


def delete_triggers(tx: Connection, keys: Sequence[TriggerKey]) -> None:
    """Delete these triggers."""
    key = tuple_(RunTrigger.flow_id, RunTrigger.task, RunTrigger.key)
    tx.execute(delete(RunTrigger).where(key.in_(keys)))


def running(tx: Connection, run_ids: Collection[str]) -> set[str]:
    """Return those of `run_ids` that are RUNNING."""
    rows = tx.execute(
        select(Run.id).where(Run.id.in_(list(run_ids)), is_status(RunStatus.RUNNING))
    )
    return set(rows.scalars())


def workers(tx: Connection, since: datetime) -> set[str]:
    """Return the processes heard of since then, and those that hold runs."""
    heard = tx.execute(select(Worker.id).where(Worker.seen_at >= since)).scalars()
    holding = tx.execute(
        select(Run.claimed_by).where(is_status(RunStatus.RUNNING)).distinct()
    ).scalars()
    return {*heard, *(name for name in holding if name is not None)}
