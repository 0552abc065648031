"""The run state machine: a trigger takes or joins its slot, and runs end.

Every function here runs inside the caller's transaction, which holds the flow locks
(design: Data rows by id, then flow rows by id, then run rows).
"""

import random
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from aero import triggers
from aero.db.changes import Topic, tell
from aero.db.queries import claims as claim_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.flows import Candidate, FlowRule
from aero.error import ConflictError
from aero.runs import notices
from aero.types import PolicyEnum, RunStatus

LOST_DELAYS = (1.0, 10.0, 60.0, 300.0)
LOST_FOR = 3600.0
RETRY_CAP = 3600
_RETRYABLE = (RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.SKIPPED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trigger:
    """A reason to run: it counts once, whoever says it and how often."""

    flow_id: str
    task: int
    key: str
    kind: str
    source_key: str = ""
    event: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why an attempt ended without a commit.

    `fault` is `function` (its `retries` apply), `lost` (tried again for an hour) or
    `source` (final).
    """

    type: str
    message: str
    traceback: str | None = None
    log_tail: str | None = None
    fault: str = "function"


def judge(tx: Connection, now: datetime, flow_ids: Collection[str]) -> list[str]:
    """Trigger those ANY and ALL flows whose inputs are newer than consumed.

    Returns:
        The runs that were made or joined.
    """
    if not flow_ids:
        return []
    return _judge(tx, now, flow_queries.rules(tx, flow_ids).values())


def _judge(tx: Connection, now: datetime, known: Iterable[FlowRule]) -> list[str]:
    rules = [
        rule
        for rule in known
        if rule.enabled and rule.policy in {PolicyEnum.ANY, PolicyEnum.ALL}
    ]
    if not rules:
        return []
    candidates = by_flow(flow_queries.candidates(tx, [rule.id for rule in rules]))
    used = flow_queries.consumed(tx, rules)
    due = [
        Trigger(flow_id=rule.id, task=task, key=key, kind="inputs")
        for rule in rules
        for task in range(rule.tasks)
        if (key := _due_key(rule, task, candidates.get(rule.id, []), used))
    ]
    return trigger(tx, now, due, rules={r.id: r for r in rules}, candidates=candidates)


def by_flow(candidates: Sequence[Candidate]) -> dict[str, list[Candidate]]:
    """Group candidates by flow."""
    found: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        found.setdefault(candidate.flow_id, []).append(candidate)
    return found


def input_states(
    rule: FlowRule,
    task: int,
    candidates: Sequence[Candidate],
    used: flow_queries.Consumed,
) -> list[triggers.InputState]:
    """Return what the policy is judged on."""
    return [
        triggers.InputState(
            name=candidate.name,
            pinned=candidate.pinned,
            latest=candidate.version,
            consumed=used.get((rule.id, task, candidate.name)),
        )
        for candidate in candidates
    ]


def _due_key(
    rule: FlowRule,
    task: int,
    candidates: Sequence[Candidate],
    used: flow_queries.Consumed,
) -> str | None:
    if not triggers.is_due(rule.policy, input_states(rule, task, candidates, used)):
        return None
    return triggers.inputs_key({c.name: c.version or 0 for c in candidates})


def trigger(
    tx: Connection,
    now: datetime,
    due: Sequence[Trigger],
    *,
    rules: Mapping[str, FlowRule],
    candidates: Mapping[str, Sequence[Candidate]] | None = None,
) -> list[str]:
    """Make or join the PENDING run of each trigger's slot, once per trigger key.

    A run whose inputs do not all have a version ends SKIPPED at once, with the
    reason.

    Returns:
        The run of each trigger, in order, also of those that had counted before.
    """
    if not due:
        return []
    if candidates is None:
        candidates = by_flow(flow_queries.candidates(tx, {t.flow_id for t in due}))
    made = {(t.flow_id, t.task, t.key): str(uuid.uuid4()) for t in due}
    fresh = run_queries.count_triggers(
        tx,
        [
            {
                "flow_id": t.flow_id,
                "task": t.task,
                "key": t.key,
                "kind": t.kind,
                "run_id": made[t.flow_id, t.task, t.key],
                "created_at": now,
            }
            for t in due
        ],
    )
    new = {(t.flow_id, t.task, t.key): t for t in due}
    new = {key: t for key, t in new.items() if key in fresh}
    taken = _take_slots(
        tx, now, list(new.values()), made=made, rules=rules, candidates=candidates
    )
    return [
        taken.get((t.flow_id, t.task, t.key))
        or str(run_queries.run_of_trigger(tx, t.flow_id, t.task, t.key))
        for t in due
    ]


def _take_slots(
    tx: Connection,
    now: datetime,
    due: Sequence[Trigger],
    *,
    made: Mapping[tuple[str, int, str], str],
    rules: Mapping[str, FlowRule],
    candidates: Mapping[str, Sequence[Candidate]],
) -> dict[tuple[str, int, str], str]:
    ready = [t for t in due if not _missing(candidates, t)]
    slots = [(t.flow_id, t.task, t.source_key) for t in ready]
    pending = run_queries.join_pending(tx, slots) if slots else {}
    joined = set(pending.values())
    taken: dict[tuple[str, int, str], str] = {}
    rows = []
    for t in due:
        key = (t.flow_id, t.task, t.key)
        slot = (t.flow_id, t.task, t.source_key)
        missing = _missing(candidates, t)
        run_id = made[key] if missing else pending.get(slot)
        if run_id is None or missing:
            run_id = made[key]
            rows.append(new_run(t, run_id, rules[t.flow_id], now, missing))
            if not missing:
                pending[slot] = run_id
        else:
            _join(tx, t, run_id, now)
        taken[key] = run_id
    run_queries.insert_runs(tx, rows)
    if ready:
        tell(tx, Topic.RUNS)
    inputs = {
        (taken[t.flow_id, t.task, t.key], c.name): c.version_id
        for t in ready
        for c in candidates.get(t.flow_id, [])
    }
    run_queries.replace_inputs(
        tx,
        joined,
        [
            {"run_id": run_id, "name": name, "version_id": version_id}
            for (run_id, name), version_id in inputs.items()
        ],
    )
    return taken


def _missing(candidates: Mapping[str, Sequence[Candidate]], t: Trigger) -> list[str]:
    return [c.name for c in candidates.get(t.flow_id, []) if c.version_id is None]


def _join(tx: Connection, t: Trigger, run_id: str, now: datetime) -> None:
    values: dict[str, Any] = {"trigger_key": t.key, "trigger_kind": t.kind}
    if t.kind == "manual":
        values["not_before"] = now
    if t.event is not None:
        values["event"] = dict(t.event)
    run_queries.update_joined(tx, run_id, **values)
    run_queries.point_trigger(tx, t.flow_id, t.task, t.key, run_id)


def new_run(
    t: Trigger,
    run_id: str,
    rule: FlowRule,
    now: datetime,
    missing: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the row of a run that a trigger makes; SKIPPED if inputs are missing."""
    skipped = bool(missing)
    return {
        "id": run_id,
        "flow_id": t.flow_id,
        "task": t.task,
        "source_key": t.source_key,
        "status": (RunStatus.SKIPPED if skipped else RunStatus.PENDING).value,
        "priority": rule.priority,
        "limited": rule.limited,
        "trigger_kind": t.kind,
        "trigger_key": t.key,
        "attempt": 1,
        "function_failures": 0,
        "lost_tries": 0,
        "not_before": now,
        "event": None if t.event is None else dict(t.event),
        "error_type": "Skipped" if skipped else None,
        "error_message": _skip_reason(missing) if skipped else None,
        "created_at": now,
        "finished_at": now if skipped else None,
    }


def _skip_reason(missing: Sequence[str]) -> str:
    return f"No version yet of {', '.join(missing)}: it runs once there is one."


def fail(
    tx: Connection, now: datetime, run: Any, failure: Failure, *, retries: int
) -> RunStatus | None:
    """End an attempt that did not commit: PENDING again, or FAILED.

    Fenced by the run's claim.

    Returns:
        The run's new status, or None where the run is no longer this claim's.
    """
    own = failure.fault == "function"
    counted = {
        "function_failures": run.function_failures + own,
        "lost_tries": run.lost_tries + (failure.fault == "lost"),
    }
    delay = retry_delay(failure.fault, retries=retries, **counted)
    ended: dict[str, Any] = {
        "error_type": failure.type,
        "error_message": failure.message,
        "traceback": failure.traceback,
        "log_tail": failure.log_tail,
        **counted,
    }
    superseded = delay is not None and run_queries.has_pending(
        tx, run.flow_id, run.task, run.source_key
    )
    if superseded:
        ended["error_message"] = f"superseded by a newer run: {failure.message}"
    if delay is None or superseded:
        status = RunStatus.FAILED
        ended["finished_at"] = now
    else:
        status = RunStatus.PENDING
        ended |= {
            "attempt": run.attempt + 1,
            "not_before": now + timedelta(seconds=delay),
            "claim": None,
            "claimed_by": None,
            "started_at": None,
        }
    if not claim_queries.leave_running(
        tx, run.id, run.claim, status=status.value, **ended
    ):
        return None
    tell(tx, Topic.RUNS, Topic.ENDED)
    if status is RunStatus.FAILED:
        rules = flow_queries.rules(tx, [run.flow_id]).values()
        if not superseded and any(rule.tells for rule in rules):
            notices.failed(tx, now, run, failure)
        _judge(tx, now, rules)
    return status


def retry_delay(
    fault: str, *, retries: int, function_failures: int, lost_tries: int
) -> float | None:
    """Return the seconds to wait before the next attempt, None for no more.

    A function's own failures are retried `retries` times, from 1 s exponentially with
    jitter; what is not its fault after 1, 10, 60, 300, 300 ... s for an hour.
    """
    if fault == "function":
        if function_failures > retries:
            return None
        doublings = min(function_failures - 1, RETRY_CAP.bit_length())
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 -- no secret depends on it
        return float(min(2**doublings, RETRY_CAP)) * jitter
    if fault == "lost":
        waits = [LOST_DELAYS[min(i, len(LOST_DELAYS) - 1)] for i in range(lost_tries)]
        return waits[-1] if sum(waits) <= LOST_FOR else None
    return None


def retry(tx: Connection, now: datetime, run: Any, rule: FlowRule) -> str:
    """Re-pend an ended run with the newest inputs, or hurry its slot's PENDING one.

    Returns:
        The id of the run that will do the work.

    Raises:
        ConflictError: the run committed, has not ended, or an input has no version.
    """
    if run.status not in {s.value for s in _RETRYABLE}:
        raise ConflictError(
            f"Run {run.id} is {run.status}: only a failed, cancelled or skipped run is "
            "retried; start a new one with run_flow.",
            run_id=run.id,
        )
    candidates = flow_queries.candidates(tx, [run.flow_id])
    missing = [c.name for c in candidates if c.version_id is None]
    if missing:
        raise ConflictError(_skip_reason(missing), run_id=run.id)
    slot = (run.flow_id, run.task, run.source_key)
    waiting = run_queries.join_pending(tx, [slot]).get(slot)
    values: dict[str, Any] = {"not_before": now}
    if waiting is None:
        values |= {
            "status": RunStatus.PENDING.value,
            "priority": rule.priority,
            "limited": rule.limited,
            "attempt": run.attempt + 1,
            "function_failures": 0,
            "lost_tries": 0,
            "claim": None,
            "claimed_by": None,
            "started_at": None,
            "finished_at": None,
        }
    run_id = waiting or str(run.id)
    run_queries.update_joined(tx, run_id, **values)
    tell(tx, Topic.RUNS)
    run_queries.replace_inputs(
        tx,
        [run_id],
        [
            {"run_id": run_id, "name": c.name, "version_id": c.version_id}
            for c in candidates
        ],
    )
    return run_id
