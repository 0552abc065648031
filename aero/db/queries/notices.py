"""Failure notices: whether a flow has something to tell, and what was not told yet."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    bindparam,
    case,
    delete,
    func,
    select,
    update,
)

from aero.db.base import UtcDateTime
from aero.db.models import Data, Flow, FlowOutput, Function, Notice, Run
from aero.db.queries.common import by_key, insert_ignore, table
from aero.types import RunStatus

_FAILED = RunStatus.FAILED.value
_COMMITTED = (RunStatus.SUCCEEDED.value, RunStatus.UNCHANGED.value)

# -- in the transaction that ends a run ------------------------------------------------


def begin_failing(tx: Connection, flow_id: str, now: datetime, key: str) -> Any:
    """Note that a flow fails; return whom to tell, None if it does already.

    None, too, if there is nobody to be told.
    """
    row = tx.execute(
        _BEGIN_FAILING,
        {"key_id": flow_id, "failing_since": now, "failing_key": key},
    ).one_or_none()
    return None if row is None else row.notify


_BEGIN_FAILING = (
    by_key(Flow, Flow.id)
    .where(Flow.notify.is_not(None), Flow.failing_since.is_(None))
    .returning(Flow.notify)
)


def fail_elsewhere(tx: Connection, run: Any, now: datetime) -> Any:
    """Note that a failing flow fails of another object; return whom to tell, or None.

    That is news if a run of it ended well since, and the object had not failed before.
    """
    row = tx.execute(
        _FAIL_ELSEWHERE,
        {
            "key_id": run.flow_id,
            "failing_since": now,
            "failing_key": run.source_key,
            "run": run.id,
            "task": run.task,
            "object": run.source_key,
        },
    ).one_or_none()
    return None if row is None else row.notify


def _fail_elsewhere() -> Any:
    before = (
        select(Run.status)
        .where(
            Run.flow_id == Flow.id,
            Run.task == bindparam("task"),
            Run.source_key == bindparam("object"),
            Run.id != bindparam("run"),
            Run.status.in_([_FAILED, *_COMMITTED]),
        )
        .order_by(Run.created_at.desc(), Run.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return (
        by_key(Flow, Flow.id)
        .where(
            Flow.notify.is_not(None),
            Flow.failing_key != bindparam("object"),
            Flow.last_executed > Flow.failing_since,
            func.coalesce(before, "") != _FAILED,
        )
        .returning(Flow.notify)
    )


_FAIL_ELSEWHERE = _fail_elsewhere()


def fails_in_a_task(tx: Connection, flow_id: str, key: str, since: datetime) -> bool:
    """Whether the last run of a task of a sweep failed, and it did so since then."""
    asked = {"flow": flow_id, "object": key, "since": since}
    return tx.execute(_FAILS_IN_A_TASK, asked).first() is not None


def _fails_in_a_task() -> Any:
    failed = func.max(case((Run.status == _FAILED, Run.finished_at)))
    committed = func.max(case((Run.status != _FAILED, Run.finished_at)))
    return (
        select(Run.task)
        .where(
            Run.flow_id == bindparam("flow"),
            Run.source_key == bindparam("object"),
            Run.status.in_([_FAILED, *_COMMITTED]),
            Run.finished_at >= bindparam("since", type_=UtcDateTime()),
        )
        .group_by(Run.task)
        .having(func.coalesce(failed > committed, failed.is_not(None)))
    )


_FAILS_IN_A_TASK = _fails_in_a_task()


def add(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert notices but those that are there."""
    tx.execute(insert_ignore(tx, Notice), list(rows))


# -- delivery --------------------------------------------------------------------------


def next_due(tx: Connection) -> datetime | None:
    """Return when the next notice is to be sent."""
    return tx.execute(_NEXT_DUE).scalar_one()


_NEXT_DUE = select(func.min(Notice.not_before)).where(Notice.not_before.is_not(None))


def due(tx: Connection, now: datetime, most: int) -> list[Row[Any]]:
    """Lock and return notices to send now, oldest first.

    Rows have `description` and `function_name` of their flow. Those that another
    process is taking are passed over.
    """
    return list(
        tx.execute(
            select(
                *table(Notice).c, Flow.description, Function.name.label("function_name")
            )
            .join(Flow, Flow.id == Notice.flow_id)
            .outerjoin(Function, Function.id == Flow.function_id)
            .where(Notice.not_before <= now)
            .order_by(Notice.not_before, Notice.id)
            .limit(most)
            .with_for_update(skip_locked=True, of=Notice)
        )
    )


def made_by(tx: Connection, flow_ids: Collection[str]) -> dict[str, list[str]]:
    """Return what flows make: flow id -> names of Data."""
    found: dict[str, list[str]] = {}
    for flow_id, name in tx.execute(
        select(FlowOutput.flow_id, Data.name)
        .join(Data, Data.id == FlowOutput.data_id)
        .where(FlowOutput.flow_id.in_(list(flow_ids)))
        .order_by(FlowOutput.flow_id, FlowOutput.name)
    ):
        found.setdefault(flow_id, []).append(name)
    return found


def begin_attempt(
    tx: Connection, notice_id: str, attempt: int, not_before: datetime
) -> None:
    """Count an attempt; unless its end is noted, the next one is from then on."""
    values = {"attempts": attempt, "not_before": not_before}
    tx.execute(_SET, {"key_id": notice_id, **values})


_SET = by_key(Notice, Notice.id)


def sent(tx: Connection, notice_id: str, now: datetime) -> None:
    """Note that a notice was sent."""
    tx.execute(
        _SET, {"key_id": notice_id, "sent_at": now, "not_before": None, "error": None}
    )


def failed(
    tx: Connection, notice_id: str, attempt: int, error: str, *, last: bool
) -> bool:
    """Note why an attempt failed; with `last` give up.

    Returns:
        Whether it was noted: not if another has begun, or the notice was sent.
    """
    values: dict[str, Any] = {"error": error} | ({"not_before": None} if last else {})
    changed = tx.execute(
        update(Notice)
        .where(
            Notice.id == notice_id,
            Notice.attempts == attempt,
            Notice.not_before.is_not(None),
        )
        .values(**values)
    )
    return changed.rowcount > 0


# -- what is said of them --------------------------------------------------------------


def forget(tx: Connection, flow_id: str, kept: Collection[str]) -> None:
    """Delete what a flow did not tell yet, but for these targets."""
    tx.execute(
        delete(Notice).where(
            Notice.flow_id == flow_id,
            Notice.sent_at.is_(None),
            Notice.target.not_in(list(kept)),
        )
    )


def undelivered(tx: Connection, flow_id: str, most: int) -> list[Row[Any]]:
    """Return the newest notices of a flow whose last attempt failed."""
    return list(
        tx.execute(
            select(*table(Notice).c)
            .where(
                Notice.flow_id == flow_id,
                Notice.sent_at.is_(None),
                Notice.error.is_not(None),
            )
            .order_by(Notice.created_at.desc(), Notice.id)
            .limit(most)
        )
    )


def counts(tx: Connection) -> tuple[int, int]:
    """Return how many notices wait, and of how many the last attempt failed."""
    waiting = select(func.count()).where(Notice.not_before.is_not(None))
    failed = select(func.count()).where(
        Notice.sent_at.is_(None), Notice.error.is_not(None)
    )
    row = tx.execute(select(waiting.scalar_subquery(), failed.scalar_subquery())).one()
    return tuple(row)
