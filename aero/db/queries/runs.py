"""Runs, their triggers, inputs and steps."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    and_,
    bindparam,
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)

from aero.db.base import UtcDateTime
from aero.db.changes import Topic, tell
from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    Run,
    RunInput,
    RunStep,
    RunTrigger,
)
from aero.db.queries.common import by_key, ignoring, insert_all, is_status
from aero.db.sight import columns_of, visible
from aero.types import RunStatus

Slot = tuple[str, int, str]

_IDS: Any = bindparam("ids", expanding=True)
_PENDING = is_status(RunStatus.PENDING)
_RUNNING = is_status(RunStatus.RUNNING)


def count_triggers(
    tx: Connection, rows: Sequence[Mapping[str, Any]]
) -> set[tuple[str, int, str]]:
    """Insert triggers; return (flow, task, key) of those that did not count yet."""
    found = tx.execute(_counting(tx.dialect.name), list(rows))
    return {(flow_id, task, key) for flow_id, task, key in found}


@lru_cache
def _counting(dialect: str) -> Any:
    return ignoring(RunTrigger, dialect).returning(
        RunTrigger.flow_id, RunTrigger.task, RunTrigger.key
    )


def run_of_trigger(tx: Connection, flow_id: str, task: int, key: str) -> str | None:
    """Return the run that a trigger made or joined."""
    return tx.execute(
        select(RunTrigger.run_id).where(
            RunTrigger.flow_id == flow_id,
            RunTrigger.task == task,
            RunTrigger.key == key,
        )
    ).scalar_one_or_none()


def join_pending(tx: Connection, slots: Iterable[Slot]) -> dict[Slot, str]:
    """Lock and return the PENDING runs of these slots.

    The UPDATE finds only rows that no claim has taken since; it is what makes
    joining and claiming exclude each other.
    """
    wanted = list(slots)
    if len(wanted) == 1:
        flow_id, task, source_key = wanted[0]
        one = {"key_flow_id": flow_id, "key_task": task, "key_source_key": source_key}
        rows = tx.execute(_JOIN_ONE, {**one, "status": RunStatus.PENDING.value})
    else:
        rows = tx.execute(_JOIN, {"slots": wanted})
    return {(r.flow_id, r.task, r.source_key): r.id for r in rows}


# Of one slot, which is the usual, in a fraction of the time.
_JOIN_ONE = (
    by_key(Run, Run.flow_id, Run.task, Run.source_key)
    .where(_PENDING)
    .returning(Run.id, Run.flow_id, Run.task, Run.source_key)
)


_JOIN = (
    update(Run)
    .where(
        _PENDING,
        tuple_(Run.flow_id, Run.task, Run.source_key).in_(
            bindparam("slots", expanding=True)
        ),
    )
    .values(status=RunStatus.PENDING.value)
    .returning(Run.id, Run.flow_id, Run.task, Run.source_key)
)
_SET = by_key(Run, Run.id)


def update_joined(tx: Connection, run_id: str, **values: Any) -> None:
    """Set columns of a PENDING run that a trigger joined."""
    tx.execute(_SET, {"key_id": run_id, **values})


def point_trigger(
    tx: Connection, flow_id: str, task: int, key: str, run_id: str
) -> None:
    """Say which run a trigger joined."""
    tx.execute(
        update(RunTrigger)
        .where(
            RunTrigger.flow_id == flow_id,
            RunTrigger.task == task,
            RunTrigger.key == key,
        )
        .values(run_id=run_id)
    )


def insert_runs(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert runs."""
    insert_all(tx, Run, rows)


def replace_inputs(
    tx: Connection, joined: Collection[str], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Give runs their input versions, in place of those that joined ones had."""
    if joined:
        tx.execute(delete(RunInput).where(RunInput.run_id.in_(list(joined))))
    insert_all(tx, RunInput, rows)


def has_pending(tx: Connection, flow_id: str, task: int, source_key: str) -> bool:
    """Whether the slot has a PENDING run."""
    slot = {"flow": flow_id, "task": task, "key": source_key}
    return tx.execute(_HAS_PENDING, slot).first() is not None


_HAS_PENDING = select(Run.id).where(
    Run.flow_id == bindparam("flow"),
    Run.task == bindparam("task"),
    Run.source_key == bindparam("key"),
    _PENDING,
)
_GET = select(*Run.__table__.c).where(Run.id == bindparam("id"))
_INPUTS = (
    select(
        RunInput.run_id,
        RunInput.name,
        DataVersion.key,
        DataVersion.id,
        DataVersion.data_id,
        DataVersion.version,
        DataVersion.sha256,
        DataVersion.etag,
        DataVersion.size,
        DataVersion.media_type,
        DataVersion.encoding,
        DataVersion.file_name,
        DataVersion.uri,
    )
    .join(DataVersion, DataVersion.id == RunInput.version_id)
    .where(RunInput.run_id.in_(_IDS))
    .order_by(RunInput.run_id, RunInput.name)
)


def get(tx: Connection, run_id: str) -> Row[Any] | None:
    """Return a run's whole row."""
    return tx.execute(_GET, {"id": run_id}).one_or_none()


def inputs(tx: Connection, run_ids: Collection[str]) -> list[Row[Any]]:
    """Return the input versions of runs, with all that a payload says of them."""
    return list(tx.execute(_INPUTS, {"ids": list(run_ids)}))


def shown_inputs(tx: Connection, run_id: str) -> list[Row[Any]]:
    """Return the inputs of a run by name: data_id, version, and whose the Data are."""
    return list(tx.execute(_SHOWN_INPUTS, {"id": run_id}))


_SHOWN_INPUTS = (
    select(
        RunInput.name,
        DataVersion.data_id,
        DataVersion.version,
        *columns_of(Data, ""),
    )
    .join(DataVersion, DataVersion.id == RunInput.version_id)
    .join(Data, Data.id == DataVersion.data_id)
    .where(RunInput.run_id == bindparam("id"))
    .order_by(RunInput.name)
)


def record_steps(
    tx: Connection, run_id: str, attempt: int, steps: Sequence[Mapping[str, Any]]
) -> None:
    """Store the steps of an attempt, which are recorded once, at its end."""
    rows = [
        {
            "run_id": run_id,
            "attempt": attempt,
            "name": step["name"],
            "status": step["status"],
            "started_at": _moment(step.get("started_at")),
            "finished_at": _moment(step.get("finished_at")),
            "metrics": {
                key: value
                for key, value in step.items()
                if key not in {"name", "status", "started_at", "finished_at"}
            },
        }
        for step in steps
    ]
    insert_all(tx, RunStep, rows)


def _moment(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)


def cancel(
    tx: Connection, run_ids: Collection[str], now: datetime, message: str
) -> list[str]:
    """End runs that have not ended as CANCELLED; return those that were."""
    rows = tx.execute(
        update(Run)
        .where(
            Run.id.in_(list(run_ids)),
            Run.status.in_([RunStatus.PENDING.value, RunStatus.RUNNING.value]),
        )
        .values(
            status=RunStatus.CANCELLED.value,
            finished_at=now,
            lease_expires=None,
            error_type="Cancelled",
            error_message=message,
        )
        .returning(Run.id)
    )
    tell(tx, Topic.CANCELLED, Topic.RUNS)
    return list(rows.scalars())


def living(tx: Connection, flow_ids: Collection[str]) -> list[str]:
    """Return the runs of these flows that have not ended."""
    rows = tx.execute(
        select(Run.id).where(
            Run.flow_id.in_(list(flow_ids)),
            Run.status.in_([RunStatus.PENDING.value, RunStatus.RUNNING.value]),
        )
    )
    return list(rows.scalars())


def follow_flow(tx: Connection, flow_id: str, *, priority: int, limited: bool) -> None:
    """Give the runs of a flow that have not ended what it says of them now."""
    for living in (_PENDING, _RUNNING):
        tx.execute(
            update(Run)
            .where(Run.flow_id == flow_id, living)
            .values(priority=priority, limited=limited)
        )


def waiting(
    tx: Connection, endpoints: Collection[str]
) -> tuple[int, int, datetime | None]:
    """Return what is not idle: (RUNNING, startable PENDING, their earliest start).

    PENDING runs of paused flows and of endpoints not served here do not count, nor
    does what the viewer does not see.
    """
    seen = visible(tx, Run)
    statement = _waiting(*seen) if seen else _WAITING
    found = tx.execute(statement, {"endpoints": list(endpoints)}).one()
    return tuple(found)


def _waiting(*seen: Any) -> Any:
    running = select(func.count()).select_from(Run).where(_RUNNING, *seen)
    return (
        select(
            running.correlate(None).scalar_subquery(),
            func.count(),
            func.min(Run.not_before),
        )
        .select_from(Run)
        .join(Flow, Flow.id == Run.flow_id)
        .where(
            _PENDING,
            Flow.enabled.is_(True),
            Flow.deleted_at.is_(None),
            Flow.endpoint.in_(bindparam("endpoints", expanding=True)),
            *seen,
        )
    )


_WAITING = _waiting()


def next_start(tx: Connection, now: datetime) -> datetime | None:
    """Return when the next back-off ends, whatever else waits."""
    return tx.execute(_NEXT_START, {"now": now}).scalar_one()


_NEXT_START = select(func.min(Run.not_before)).where(
    _PENDING, Run.not_before > bindparam("now", type_=UtcDateTime())
)


def counts(tx: Connection) -> dict[str, int]:
    """Return the number of runs by status, of those the viewer sees."""
    counted = select(Run.status, func.count()).where(*visible(tx, Run))
    rows = tx.execute(counted.group_by(Run.status))
    return {status: count for status, count in rows}  # noqa: C416 -- rows, not pairs


def any_pending(tx: Connection) -> bool:
    """Whether a run waits at all."""
    return tx.execute(_ANY_PENDING).first() is not None


_ANY_PENDING = select(Run.id).where(_PENDING).limit(1)


def none_left(
    tx: Connection, run_ids: Collection[str], endpoints: Collection[str]
) -> bool:
    """Whether none of these runs is RUNNING, or PENDING and free to start here."""
    here = list(endpoints)
    return not any(
        tx.execute(_LEFT, {"id": run_id, "endpoints": here}).first()
        for run_id in run_ids
    )


_LEFT = (
    select(Run.id)
    .join(Flow, Flow.id == Run.flow_id)
    .where(
        Run.id == bindparam("id"),
        or_(
            _RUNNING,
            and_(
                _PENDING,
                Flow.enabled.is_(True),
                Flow.endpoint.in_(bindparam("endpoints", expanding=True)),
            ),
        ),
    )
)


def steps(tx: Connection, run_id: str) -> list[Row[Any]]:
    """Return the steps of all attempts of a run, in order."""
    return list(tx.execute(_STEPS, {"id": run_id}))


_STEPS = (
    select(*RunStep.__table__.c)
    .where(RunStep.run_id == bindparam("id"))
    .order_by(RunStep.attempt, RunStep.started_at)
)
