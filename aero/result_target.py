"""Whose a result is: its flow and run, and what of it is not theirs.

Everything here reads; what is refused leaves nothing behind.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection

from aero import events, resolve, triggers
from aero.auth.base import Role
from aero.db.queries import definitions as definition_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.definitions import FlowDefinition
from aero.db.sight import require
from aero.error import ConflictError, ForbiddenError, InvalidValueError
from aero.result import Result
from aero.runs import payload
from aero.types import RunStatus, Step

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Target:
    """Whose result it is; `run` is None if one is to be opened for it."""

    flow: FlowDefinition
    run: Any
    task: int

    def source_url(self, output: str) -> str | None:
        """Return what was to be downloaded for an output; None if that is no source."""
        event = None if self.run is None else self.run.event
        return payload.source_url(self.flow.outputs[output], event)

    def unchanged(self, said: Result) -> bool:
        """Whether every source of the flow was found as it was."""
        polled = [e for name, e in said.outputs.items() if self.source_url(name)]
        return bool(polled) and all(entry.get("not_modified") for entry in polled)


def target_of(tx: Connection, said: Result) -> Target:
    """Return whose result it is.

    Raises:
        NotFoundError: There is no such flow or run.
        ForbiddenError: It is of others, who let nobody change it.
        InvalidValueError: The run is of another flow or task.
    """
    if said.run is None:
        assert said.flow is not None  # noqa: S101 -- a result names one of the two
        run, task = None, said.task or 0
        flow_id = resolve.flow(tx, said.flow).id
    else:
        run = resolve.run(tx, said.run)
        flow_id, task = run.flow_id, run.task
        if said.flow not in {None, flow_id} or said.task not in {None, task}:
            raise InvalidValueError(
                f"Run {run.id} is of flow {flow_id}, task {task}: the payload names "
                "another flow or task.",
                run_id=run.id,
            )
    require(tx, flow_queries.get(tx, flow_id), Role.EDITOR, "flow")
    flow = definition_queries.load(tx, [flow_id])[flow_id]
    return Target(flow=flow, run=run, task=task)


def done(tx: Connection, target: Target, said: Result) -> str | None:
    """Return the run whose attempt this very result has ended."""
    if target.run is None:
        key = triggers.manual_key(said.sha256)
        return run_queries.run_of_trigger(tx, target.flow.id, target.task, key)
    for step in run_queries.steps(tx, target.run.id):
        mine = step.attempt == said.attempt and step.name == Step.COMMIT.value
        if mine and step.metrics.get("sha256") == said.sha256:
            return str(target.run.id)
    return None


def refuse_foreign(flow: FlowDefinition, said: Result) -> None:
    """Refuse a result that names outputs the flow does not own."""
    foreign = sorted(
        name
        for name, entry in said.outputs.items()
        if name not in flow.made or entry["id"] not in {None, flow.made[name]}
    )
    if foreign:
        foreign = foreign[:_SHOWN]
        raise ForbiddenError(
            f"Flow {flow.id} does not own the outputs {', '.join(foreign)}: name its "
            f"own, {', '.join(sorted(flow.made)) or 'of which it has none'}.",
            outputs=foreign,
        )


def refuse_opening(tx: Connection, target: Target, said: Result) -> None:
    """Refuse to open a run for a result."""
    flow = target.flow
    rule = flow_queries.rules(tx, [flow.id])[flow.id]
    if target.task >= rule.tasks:
        raise InvalidValueError(
            f"Flow {flow.id} has {rule.tasks} tasks, counted from 0, and no task "
            f"{target.task}.",
            flow_id=flow.id,
        )
    if not rule.enabled:
        raise ConflictError(
            f"Flow {flow.id} is paused: resume it and send the result again.",
            flow_id=flow.id,
        )
    events.refuse_run_now(tx, SimpleNamespace(id=flow.id, policy=flow.policy))
    if said.error is not None:
        raise InvalidValueError(
            "The payload tells of an error and names no run: there is none to fail."
        )


def refuse_attempt(run: Any, said: Result) -> None:
    """Refuse the result of an attempt that is not under way."""
    if run.attempt == said.attempt and run.status == RunStatus.RUNNING.value:
        return
    raise ConflictError(
        f"Run {run.id} is {run.status} in attempt {run.attempt}: this result, of "
        f"attempt {said.attempt}, was not taken.",
        run_id=run.id,
        status=run.status,
        attempt=run.attempt,
    )


def refuse_outputs(tx: Connection, target: Target, said: Result) -> None:
    """Refuse outputs that are not all there, or are not what the flow makes."""
    flow, unchanged = target.flow, target.unchanged(said)
    missing = sorted(flow.made.keys() - said.outputs.keys())
    if missing:
        raise InvalidValueError(
            f"The outputs {', '.join(missing)} of flow {flow.id} are missing: a result "
            "has all of them.",
            outputs=missing,
        )
    for name, entry in said.outputs.items():
        url = target.source_url(name)
        if entry["url"] not in {None, url}:
            wrong = f"was not downloaded from {url}"
        elif entry.get("not_modified") and (
            url is None or not _polled(tx, target, flow.made[name])
        ):
            wrong = "has no version that it could be the same as"
        elif not (unchanged or entry.get("not_modified") or entry.get("uri")):
            wrong = "names no stored bytes: a step stores its file and leaves the uri"
        else:
            continue
        raise InvalidValueError(f"The output {name!r} {wrong}.", output=name)


def _polled(tx: Connection, target: Target, data_id: str) -> bool:
    key = "" if target.run is None else target.run.source_key
    return (
        provenance_queries.has_any(tx, target.flow.id, target.task)
        and version_queries.latest_of(tx, data_id, target.task, key) is not None
    )


def inputs_of(tx: Connection, target: Target, said: Result) -> list[Any]:
    """Return the versions used: those of the run, else as it says or the newest."""
    flow_id = target.flow.id
    if target.run is not None:
        used = run_queries.inputs(tx, [target.run.id])
    else:
        found = flow_queries.candidates(tx, [flow_id])
        asked = {c.name: said.inputs.get(c.name, {}).get("version") for c in found}
        wanted = {
            c.name: (c.data_id, c.pinned or asked[c.name] or c.version) for c in found
        }
        used = _versions(tx, wanted)
    known = {row.name: row for row in used}
    for name, entry in said.inputs.items():
        row = known.get(name)
        if (
            row is None
            or entry["id"] not in {None, row.data_id}
            or entry["version"] not in {None, row.version}
        ):
            was = f"version {row.version} of {row.data_id}" if row else "no input"
            raise InvalidValueError(
                f"{name!r} is {was} to flow {flow_id}, and the payload says otherwise.",
                input=name,
            )
    return list(used)


def _versions(
    tx: Connection, wanted: Mapping[str, tuple[str, int | None]]
) -> list[Any]:
    """Return the rows of versions with the names of inputs."""
    named = {name: (data_id, n) for name, (data_id, n) in wanted.items() if n}
    lacking = sorted(wanted.keys() - named.keys())
    if lacking:
        raise ConflictError(f"No version yet of {', '.join(lacking)}.", inputs=lacking)
    rows = version_queries.get_these(tx, set(named.values()))
    unknown = sorted(name for name, key in named.items() if key not in rows)
    if unknown:
        raise InvalidValueError(
            f"There is no such version of the inputs {', '.join(unknown)}.",
            inputs=unknown,
        )
    return [
        SimpleNamespace(**rows[key]._asdict(), name=name)
        for name, key in sorted(named.items())
    ]
