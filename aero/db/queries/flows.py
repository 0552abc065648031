"""Flows and the state of their inputs."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Subquery,
    and_,
    bindparam,
    func,
    literal,
    select,
    union_all,
)

from aero.db.models import (
    DataVersion,
    Flow,
    FlowInput,
    FlowOutput,
    Function,
    ProvenanceDerivation,
    Run,
    RunInput,
)
from aero.db.queries.common import by_key, is_status
from aero.db.sight import columns_of, visible
from aero.types import PolicyEnum, RunStatus

_IDS: Any = bindparam("ids", expanding=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowRule:
    """What deciding and triggering need to know of a flow."""

    id: str
    policy: PolicyEnum
    tasks: int
    priority: int
    limited: bool
    tells: bool
    enabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """The version a run would be given for an input now; None where there is none."""

    flow_id: str
    name: str
    data_id: str
    pinned: int | None
    version: int | None
    version_id: str | None


def task_count(kwargs: Any) -> int:
    """Return the number of tasks: entries of a sweep's list, else 1."""
    return len(kwargs) if isinstance(kwargs, list) else 1


def rules(tx: Connection, flow_ids: Iterable[str]) -> dict[str, FlowRule]:
    """Return the living flows among `flow_ids`."""
    rows = tx.execute(_RULES, {"ids": list(flow_ids)})
    return {row.id: rule(row) for row in rows}


def rule(row: Any) -> FlowRule:
    """Return what deciding needs of a flow's row."""
    return FlowRule(
        id=row.id,
        policy=PolicyEnum(row.policy),
        tasks=task_count(row.kwargs),
        priority=row.priority,
        limited=row.max_running is not None,
        tells=row.notify is not None,
        enabled=row.enabled,
    )


_RULE = (
    Flow.id,
    Flow.policy,
    Flow.kwargs,
    Flow.priority,
    Flow.max_running,
    Flow.notify,
    Flow.enabled,
)
_RULES = select(*_RULE).where(Flow.id.in_(_IDS), Flow.deleted_at.is_(None))


def get(tx: Connection, flow_id: str) -> Row[Any] | None:
    """Return a flow's whole row."""
    return tx.execute(select(*Flow.__table__.c).where(Flow.id == flow_id)).one_or_none()


def with_function(tx: Connection, flow_id: str) -> Row[Any] | None:
    """Return a flow's whole row, and whose its function is as `function_...`."""
    own = select(*Flow.__table__.c, *columns_of(Function, "function_"))
    return tx.execute(
        own.outerjoin(Function, Function.id == Flow.function_id).where(
            Flow.id == flow_id
        )
    ).one_or_none()


def get_many(tx: Connection, flow_ids: Collection[str]) -> list[Row[Any]]:
    """Return flows' whole rows, of deleted ones too, by id."""
    own = select(*Flow.__table__.c).where(Flow.id.in_(list(flow_ids)))
    return list(tx.execute(own.order_by(Flow.id)))


def candidates(tx: Connection, flow_ids: Collection[str]) -> list[Candidate]:
    """Return for every input the pinned version, or the newest one."""
    rows = tx.execute(_CANDIDATES, {"ids": list(flow_ids)})
    return [Candidate(**row._mapping) for row in rows]


def _candidates() -> Any:
    other = DataVersion.__table__.alias("newest")
    newest = (
        select(func.max(other.c.version))
        .where(other.c.data_id == FlowInput.data_id)
        .scalar_subquery()
    )
    wanted = and_(
        DataVersion.data_id == FlowInput.data_id,
        DataVersion.version == func.coalesce(FlowInput.version, newest),
    )
    return (
        select(
            FlowInput.flow_id,
            FlowInput.name,
            FlowInput.data_id,
            FlowInput.version.label("pinned"),
            DataVersion.version,
            DataVersion.id.label("version_id"),
        )
        .outerjoin(DataVersion, wanted)
        .where(FlowInput.flow_id.in_(_IDS))
        .order_by(FlowInput.flow_id, FlowInput.name)
    )


_CANDIDATES = _candidates()


Consumed = dict[tuple[str, int, str], int]


def consumed(tx: Connection, rules: Collection[FlowRule]) -> Consumed:
    """Return the greatest version used, by (flow, task, input).

    It counts what committed runs used and what the RUNNING one was given.
    """
    found: Consumed = {}
    for tasks in {rule.tasks for rule in rules}:
        ids = [rule.id for rule in rules if rule.tasks == tasks]
        for flow_id, task, name, version in tx.execute(
            _committed(tasks > 1), {"ids": ids, "tasks": tasks}
        ):
            if version is not None:
                found[flow_id, task, name] = version
    for flow_id, task, name, version in running_inputs(tx, [r.id for r in rules]):
        key = (flow_id, task, name)
        found[key] = max(found.get(key, 0), version)
    return found


@lru_cache
def _committed(sweep: bool) -> Any:
    task = _numbers(sweep)
    used = ProvenanceDerivation.__table__
    greatest = (
        select(func.max(used.c.version))
        .where(
            used.c.flow_id == FlowInput.flow_id,
            used.c.task == task.c.n,
            used.c.name == FlowInput.name,
        )
        .scalar_subquery()
    )
    return (
        select(FlowInput.flow_id, task.c.n, FlowInput.name, greatest)
        .join(task, literal(True))
        .where(FlowInput.flow_id.in_(_IDS))
    )


def _numbers(sweep: bool) -> Subquery:
    if not sweep:
        return select(literal(0).label("n")).subquery("task")
    below = select(literal(0).label("n")).cte("below", recursive=True)
    last = bindparam("tasks", type_=Integer()) - 1
    below = below.union_all(select(below.c.n + 1).where(below.c.n < last))
    return select(below.c.n).subquery("task")


def running_inputs(tx: Connection, flow_ids: Sequence[str]) -> Sequence[Any]:
    """Return (flow, task, input, version) of what RUNNING runs were given."""
    return tx.execute(_RUNNING_INPUTS, {"ids": list(flow_ids)}).all()


_RUNNING_INPUTS = (
    select(Run.flow_id, Run.task, RunInput.name, DataVersion.version)
    .join(RunInput, RunInput.run_id == Run.id)
    .join(DataVersion, DataVersion.id == RunInput.version_id)
    .where(Run.flow_id.in_(_IDS), is_status(RunStatus.RUNNING))
)


def dependents(tx: Connection, data_ids: Iterable[str]) -> list[str]:
    """Return the living flows that watch any of these Data, ids sorted."""
    return list(tx.execute(_DEPENDENTS, {"ids": list(data_ids)}).scalars())


_DEPENDENTS = (
    select(Flow.id)
    .join(FlowInput, FlowInput.flow_id == Flow.id)
    .where(
        FlowInput.data_id.in_(_IDS),
        FlowInput.version.is_(None),
        Flow.deleted_at.is_(None),
        Flow.policy.in_([PolicyEnum.ANY.value, PolicyEnum.ALL.value]),
    )
    .distinct()
    .order_by(Flow.id)
)


def outputs(tx: Connection, flow_id: str) -> dict[str, str]:
    """Return a flow's outputs: name -> Data id."""
    rows = tx.execute(
        select(FlowOutput.name, FlowOutput.data_id)
        .where(FlowOutput.flow_id == flow_id)
        .order_by(FlowOutput.name)
    )
    return {name: data_id for name, data_id in rows}  # noqa: C416 -- rows, not pairs


def due(tx: Connection, now: datetime, limit: int) -> list[Row[Any]]:
    """Lock and return up to `limit` enabled flows whose time has come."""
    return list(
        tx.execute(
            select(
                *_RULE,
                Flow.timer,
                Flow.cron,
                Flow.timezone,
                Flow.next_due,
                Flow.created_at,
            )
            .where(
                Flow.next_due <= now, Flow.enabled.is_(True), Flow.deleted_at.is_(None)
            )
            .order_by(Flow.next_due)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    )


def next_due(tx: Connection) -> datetime | None:
    """Return when the next flow is due, of those the viewer sees."""
    return tx.execute(_NEXT_DUE.where(*visible(tx, Flow))).scalar_one()


_NEXT_DUE = select(func.min(Flow.next_due)).where(
    Flow.enabled.is_(True), Flow.deleted_at.is_(None)
)


def set_values(tx: Connection, flow_id: str, **values: Any) -> None:
    """Set columns of one flow."""
    tx.execute(_SET, {"key_id": flow_id, **values})


_SET = by_key(Flow, Flow.id)


def executed(tx: Connection, flow_id: str, now: datetime) -> Row[Any]:
    """Note that a run of a flow was committed; return what the flow told of failures.

    That is `notify`, `failing_since` and `failing_key`.
    """
    return tx.execute(_EXECUTED, {"key_id": flow_id, "last_executed": now}).one()


_EXECUTED = by_key(Flow, Flow.id).returning(
    Flow.notify, Flow.failing_since, Flow.failing_key
)


def producers(tx: Connection, data_ids: Iterable[str], *where: Any) -> list[Row[Any]]:
    """Return (data_id, flow_id) of the living flows that write these Data."""
    return list(
        tx.execute(
            select(FlowOutput.data_id, FlowOutput.flow_id)
            .join(Flow, Flow.id == FlowOutput.flow_id)
            .where(
                FlowOutput.data_id.in_(list(data_ids)),
                Flow.deleted_at.is_(None),
                *where,
            )
        )
    )


def upstream(tx: Connection, data_ids: Iterable[str]) -> set[str]:
    """Return every Data that living flows need, however far up, for these."""
    edge = (
        select(FlowOutput.data_id.label("made"), FlowInput.data_id.label("used"))
        .join(FlowInput, FlowInput.flow_id == FlowOutput.flow_id)
        .join(Flow, Flow.id == FlowOutput.flow_id)
        .where(Flow.deleted_at.is_(None))
        .subquery("edge")
    )
    reached = (
        select(edge.c.used.label("id"))
        .where(edge.c.made.in_(list(data_ids)))
        .cte("reached", recursive=True)
    )
    step = select(edge.c.used).join(reached, reached.c.id == edge.c.made)
    reached = reached.union(step)
    return set(tx.execute(select(reached.c.id)).scalars())


def with_fingerprint(tx: Connection, fingerprint: str) -> str | None:
    """Return the living flow of that fingerprint."""
    return tx.execute(
        select(Flow.id).where(
            Flow.fingerprint == fingerprint, Flow.deleted_at.is_(None)
        )
    ).scalar_one_or_none()


def of_data(tx: Connection, data_id: str) -> list[tuple[str, str]]:
    """Return (flow id, 'input' | 'output') of the living flows on this Data."""
    used = select(FlowInput.flow_id, literal("input").label("side")).where(
        FlowInput.data_id == data_id
    )
    made = select(FlowOutput.flow_id, literal("output").label("side")).where(
        FlowOutput.data_id == data_id
    )
    both = union_all(used, made).subquery("both")
    rows = tx.execute(
        select(both.c.flow_id, both.c.side)
        .join(Flow, Flow.id == both.c.flow_id)
        .where(Flow.deleted_at.is_(None))
        .order_by(Flow.created_at, Flow.id)
    )
    return [(flow_id, side) for flow_id, side in rows]
