"""Why a flow did or did not run."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from aero import targets, triggers
from aero.clock import isoformat
from aero.db.models import Run
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import limits
from aero.db.queries import notices as notice_queries
from aero.db.queries.common import is_status
from aero.db.sight import sees
from aero.runs import lifecycle
from aero.types import Json, PolicyEnum, RunStatus

_UNDELIVERED = 5


def explain(
    tx: Connection, flow: Any, *, endpoints: Collection[str], now: datetime
) -> Json:
    """Return what a flow waits for, when it is due and how its last run ended.

    `reason` says it in one sentence; `inputs` tells for every input its pin, its
    newest version, what was consumed, and whether it is newer.
    """
    rule = flow_queries.rule(flow)
    candidates = flow_queries.candidates(tx, [flow.id])
    used = flow_queries.consumed(tx, [rule])
    states = lifecycle.input_states(rule, 0, candidates, _least(used, rule))
    names = _names(tx, {c.data_id for c in candidates})
    recent, living = _recent(tx, flow.id), _living(tx, flow.id)
    return {
        "flow_id": flow.id,
        "description": flow.description,
        "policy": rule.policy.name,
        "enabled": flow.enabled,
        "paused_reason": flow.paused_reason,
        "next_due": isoformat(flow.next_due) if flow.enabled else None,
        "last_executed": isoformat(flow.last_executed),
        "inputs": [
            {
                "name": state.name,
                "data_id": candidate.data_id if candidate.data_id in names else None,
                "data_name": names.get(candidate.data_id),
                "pinned": state.pinned,
                "latest": state.latest,
                "consumed": state.consumed,
                "newer": state.pinned is None and state.newer,
            }
            for state, candidate in zip(states, candidates, strict=True)
        ],
        "last_run": _run(recent[0]) if recent else None,
        "last_error": _last_error(recent),
        "max_running": flow.max_running,
        "running": limits.running_of(tx, flow.id),
        "failing_since": isoformat(flow.failing_since),
        "undelivered": _undelivered(tx, flow.id),
        "reason": _resting(flow)
        or _held_back(tx, flow, endpoints, now)
        or _working(flow, living, endpoints, now)
        or _waiting(flow, rule, states, recent),
    }


def _least(
    used: flow_queries.Consumed, rule: flow_queries.FlowRule
) -> flow_queries.Consumed:
    """Return as task 0's what every task of a sweep has consumed."""
    names = {name for _, _, name in used}
    found = {
        name: [used.get((rule.id, task, name), 0) for task in range(rule.tasks)]
        for name in names
    }
    return {(rule.id, 0, name): min(each) for name, each in found.items() if min(each)}


def _names(tx: Connection, ids: Collection[str]) -> dict[str, str]:
    """Return the names of those Data that the viewer sees."""
    rows = data_queries.get_many(tx, ids).values()
    return {row.id: row.name for row in rows if sees(tx, row)}


_COLUMNS = (
    Run.id,
    Run.status,
    Run.trigger_key,
    Run.attempt,
    Run.not_before,
    Run.error_type,
    Run.error_message,
    Run.finished_at,
)
_NEWEST = (Run.created_at.desc(), Run.id.desc())


def _recent(tx: Connection, flow_id: str) -> list[Any]:
    own = select(*_COLUMNS).where(Run.flow_id == flow_id)
    return list(tx.execute(own.order_by(*_NEWEST).limit(20)))


def _living(tx: Connection, flow_id: str) -> Any:
    """Return the flow's newest RUNNING run, else its newest PENDING one."""
    for status in (RunStatus.RUNNING, RunStatus.PENDING):
        own = select(*_COLUMNS).where(Run.flow_id == flow_id, is_status(status))
        row = tx.execute(own.order_by(*_NEWEST).limit(1)).one_or_none()
        if row is not None:
            return row
    return None


def _run(row: Any) -> Json:
    return {
        "id": row.id,
        "status": row.status,
        "trigger_key": row.trigger_key,
        "attempt": row.attempt,
        "finished_at": isoformat(row.finished_at),
    }


def _undelivered(tx: Connection, flow_id: str) -> list[Json]:
    return [
        {
            "id": row.id,
            "run_id": row.run_id,
            "kind": row.kind,
            "target": targets.shown(row.target),
            "attempts": row.attempts,
            "error": row.error,
            "next_attempt": isoformat(row.not_before),
        }
        for row in notice_queries.undelivered(tx, flow_id, _UNDELIVERED)
    ]


def _last_error(recent: list[Any]) -> Json | None:
    for row in recent:
        if row.error_type is not None:
            return {
                "run_id": row.id,
                "type": row.error_type,
                "message": row.error_message,
            }
    return None


def _resting(flow: Any) -> str | None:
    if flow.enabled:
        return None
    because = f" ({flow.paused_reason})" if flow.paused_reason else ""
    return f"It is paused{because}: aero resume {flow.id[:8]} brings it back."


def _held_back(
    tx: Connection, flow: Any, endpoints: Collection[str], now: datetime
) -> str | None:
    """Return which limit keeps a run waiting that could start but for that."""
    waiting = limits.first_startable(tx, flow.id, now, endpoints)
    if waiting is None:
        return None
    most, count = flow.max_running, limits.running_of(tx, flow.id)
    where = "of this flow"
    if most is None or count < most:
        most = limits.endpoint_limits(tx).get(flow.endpoint)
        count = limits.running(tx, [flow.endpoint]).get(flow.endpoint, 0)
        where = f"at the endpoint {flow.endpoint!r}"
    if most is None or count < most:
        return None
    return f"Run {waiting[:8]} waits: {count} of {most} runs {where} are running."


def _working(
    flow: Any, living: Any, endpoints: Collection[str], now: datetime
) -> str | None:
    if living is None:
        return None
    if living.status == RunStatus.RUNNING.value:
        return f"Run {living.id[:8]} is running now, attempt {living.attempt}."
    return _pending(flow, living, endpoints, now)


def _pending(flow: Any, row: Any, endpoints: Collection[str], now: datetime) -> str:
    if flow.endpoint not in endpoints:
        return (
            f"Run {row.id[:8]} waits for the endpoint {flow.endpoint!r}, which nothing "
            "here serves."
        )
    if row.not_before > now:
        return (
            f"Run {row.id[:8]} is tried again at {isoformat(row.not_before)}: "
            f"{row.error_message}"
        )
    return f"Run {row.id[:8]} waits for a worker: aero work runs it."


def _waiting(
    flow: Any,
    rule: flow_queries.FlowRule,
    states: list[triggers.InputState],
    recent: list[Any],
) -> str:
    missing = triggers.missing_inputs(states)
    if missing:
        return f"It waits for a first version of {', '.join(missing)}."
    if recent and recent[0].status == RunStatus.FAILED.value:
        return (
            f"Its last run failed ({recent[0].error_type}: "
            f"{recent[0].error_message}): aero retry {recent[0].id[:8]} tries it again."
        )
    if rule.policy in {PolicyEnum.ANY, PolicyEnum.ALL}:
        return _watching(rule.policy, states, recent)
    if flow.next_due is not None:
        return f"It is due at {isoformat(flow.next_due)}."
    if rule.policy is PolicyEnum.INGESTION_EVENT:
        return "It waits for a notification."
    return "It runs only when told to: aero run starts it."


def _watching(
    policy: PolicyEnum, states: list[triggers.InputState], recent: list[Any]
) -> str:
    old = [s.name for s in states if s.pinned is None and not s.newer]
    if triggers.is_due(policy, states) and recent:
        # The run for these inputs ended without using them up; its trigger is spent.
        run = recent[0].id[:8]
        return (
            f"Its run {run} for the newest inputs ended {recent[0].status}: aero retry "
            f"{run} tries it again."
        )
    if not old:
        return "It runs only when told to: aero run starts it."
    word = "any" if policy is PolicyEnum.ANY else "each"
    return f"It waits for a newer version of {word} of {', '.join(old)}."
