"""The demo's five flows: registered once, resumed and paused together."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aero.app import Aero
from aero.demo.publisher import HOST
from aero.demo.series import CAUSES, file_of
from aero.demo.state import State
from aero.error import NotFoundError
from aero.flow_request import flow_request
from aero.shipped import shipped
from aero.types import LOCAL, Json, PolicyEnum, RunStatus

FIGURE = "figure"
ESTIMATES = tuple(f"{cause}_rt" for cause in CAUSES)
POLL = 1.0
"""Seconds between two polls of a source."""
GONE = "the demo's source is gone; aero demo --serve brings it back"
_GIVEN_UP = (RunStatus.FAILED, RunStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One flow to be: `data` is the name of what it writes under `output`."""

    data: str
    function: str
    output: str
    policy: PolicyEnum
    inputs: dict[str, str] = field(default_factory=dict)
    file: str | None = None


def plans() -> list[Plan]:
    """Return the five flows, each after those it depends on."""
    ingestions = [
        Plan(
            data=f"{cause}_deaths",
            function="clean_surveillance",
            output="deaths",
            policy=PolicyEnum.INGESTION,
            file=file_of(cause),
        )
        for cause in CAUSES
    ]
    estimates = [
        Plan(
            data=f"{cause}_rt",
            function="reproduction_number",
            output="rt",
            policy=PolicyEnum.ANY,
            inputs={"deaths": f"{cause}_deaths"},
        )
        for cause in CAUSES
    ]
    pooled = Plan(
        data=FIGURE,
        function="pooled_figure",
        output="figure",
        policy=PolicyEnum.ALL,
        inputs={cause: f"{cause}_rt" for cause in CAUSES},
    )
    return [*ingestions, *estimates, pooled]


def bring_up(app: Aero, state: State, home: Path) -> None:
    """Register what is missing and let all five go on; `state` names them then."""
    for plan in plans():
        record = _living(app, state, plan) or _register(app, state, plan)
        state.flows[plan.data] = record["id"]
        state.data[plan.data] = record["contributed_to"][0]["id"]
        state.save(home)
        if not record["enabled"]:
            app.resume_flow(record["id"])
        _hurry(app, record["id"], plan)


def _hurry(app: Aero, flow: str, plan: Plan) -> None:
    """Do at once what an earlier demo's end has put off or given up."""
    if plan.file is not None:
        # A poll that found no source may wait for minutes.
        app.run_flow(flow, wait=False)
        return
    last = app.explain(flow)["last_run"]
    if last is not None and last["status"] in _GIVEN_UP:
        app.retry_run(last["id"])


def has_living_run(app: Aero, flow: str) -> bool:
    """Whether a run of the flow waits or runs."""
    living = (RunStatus.PENDING, RunStatus.RUNNING)
    return any(next(app.list_runs(flow, status), None) for status in living)


def pause(app: Aero, state: State, *, sources: bool) -> None:
    """Pause the flows that poll, or else those that analyse."""
    for plan in plans():
        if (plan.file is not None) == sources and _living(app, state, plan):
            app.pause_flow(state.flows[plan.data], reason=GONE)


def _living(app: Aero, state: State, plan: Plan) -> Json | None:
    if plan.data not in state.flows:
        return None
    try:
        return app.get_flow(state.flows[plan.data], inputs_only=False)
    except NotFoundError:
        return None


def _register(app: Aero, state: State, plan: Plan) -> Json:
    output: dict[str, str] = {}
    if plan.file is not None:
        output["url"] = f"http://{HOST}:{state.port}/{plan.file}"
    if plan.data in state.data:
        # The user deleted the flow: its successor goes on with the same Data.
        output["id"] = state.data[plan.data]
    request = flow_request(
        LOCAL,
        app.register_function(_function(plan.function)),
        {name: {"id": state.data[data]} for name, data in plan.inputs.items()},
        {plan.output: output},
        policy=plan.policy,
        timer_delay=POLL if plan.policy is PolicyEnum.INGESTION else None,
        description=f"aero demo: {plan.data}",
    )
    named = replace(request.outputs[plan.output], data_name=plan.data)
    request = replace(request, outputs={plan.output: named})
    return app._register(request, exist_ok=True)


def _function(name: str) -> Callable[..., Any]:
    """Return a shipped function, from its file: the package does not import them."""
    path = shipped("functions") / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"aero_demo_{name}", path)
    if spec is None or spec.loader is None:
        raise NotFoundError(f"{path} is missing: install aero-orchestrator again.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[..., Any] = getattr(module, name)
    return function
