"""Flows: register, run, pause, resume, delete, explain."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path

from aero import query
from aero.server import bodies, schemas
from aero.server.answering import Answering
from aero.server.dependencies import IdempotencyKey, Workspace
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, documented
from aero.types import Json

router = APIRouter(prefix="/flow", tags=["flows"], route_class=Answering)

Ref = Annotated[str, Path(description="Id, unique prefix of it, or name"), DECODED]


@router.get("", responses=LISTED, response_model=list[schemas.Flow])
def list_flows(paged: Paged) -> Any:
    """List the flows, newest first."""
    return paged.read(partial(query.metadata_page, "flow"))


@router.post("/register", responses=documented(404, 409), response_model=schemas.Flow)
def register(
    workspace: Workspace,
    body: bodies.FlowBody,
    idempotency_key: IdempotencyKey = None,
) -> Any:
    """Store a flow; an equal one is 409 with its `flow_id`."""
    kwargs, tasks = body.kwargs_and_tasks()
    asked: Json = {
        "kwargs": kwargs,
        "description": body.description,
        "policy": -1 if body.rule is None else body.rule,
        "timer_delay": body.timer_delay if body.timer is None else body.timer,
        "poll_delay": body.poll_delay,
        "cron": body.cron,
        "timezone": body.timezone,
        "retries": body.retries,
        "timeout": body.timeout,
        "priority": body.priority,
        "max_running": body.max_running,
        "tags": body.tags or [],
        "public": body.public,
        "group": body.group,
        "email": body.email,
        "notify": body.notify,
        "exist_ok": body.exist_ok,
        "idempotency_key": idempotency_key,
    }
    typed = body.typed_source()
    if typed is not None:
        source = typed | {"endpoint_uuid": body.gc_endpoint}
        source["function_uuid"] = body.function_uuid
        made = workspace.create_source(**source, **asked)
        return workspace.get_flow(made["flow_id"], inputs_only=False)
    return workspace.register_flow(
        body.gc_endpoint,
        body.function_uuid,
        body.input_data,
        body.output_data,
        config=tasks,
        storage=body.storage,
        **asked,
    )


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.Flow)
def get_flow(workspace: Workspace, ref: Ref) -> Any:
    """Get a flow."""
    return workspace.get_flow(ref, inputs_only=False)


@router.delete("/{ref}", responses=documented(404, 409), response_model=schemas.Flow)
def delete_flow(workspace: Workspace, ref: Ref) -> Any:
    """Delete a flow; its Data, versions and provenance stay."""
    return workspace.delete_flow(ref)


@router.post(
    "/{ref}/pause", responses=documented(404, 409), response_model=schemas.Flow
)
def pause(workspace: Workspace, ref: Ref, body: bodies.PauseBody | None = None) -> Any:
    """Stop ticks, judging and claims of a flow; what runs goes on."""
    reason = None if body is None else body.reason
    return workspace.pause_flow(ref, reason)


@router.post(
    "/{ref}/resume", responses=documented(404, 409), response_model=schemas.Flow
)
def resume(workspace: Workspace, ref: Ref) -> Any:
    """Let a paused flow go on."""
    return workspace.resume_flow(ref)


@router.post("/{ref}/set", responses=documented(404, 409), response_model=schemas.Flow)
def set_flow(workspace: Workspace, ref: Ref, body: bodies.FlowChanges) -> Any:
    """Change a flow's priority, how many of its runs run at once, or whom it tells."""
    return workspace.set_flow(ref, **body.model_dump(exclude_unset=True))


@router.post(
    "/{ref}/share", responses=documented(404, 409), response_model=schemas.Flow
)
def share(workspace: Workspace, ref: Ref, body: bodies.SharingBody) -> Any:
    """Say who sees a flow and its runs beside its owner; its Data are not meant."""
    return workspace.share("flow", ref, public=body.public, group=body.group)


@router.post(
    "/{ref}/run", responses=documented(404, 409), response_model=schemas.RunNow
)
def run(workspace: Workspace, ref: Ref, idempotency_key: IdempotencyKey = None) -> Any:
    """Run a flow now; `runs` holds the run of every task of a sweep."""
    return workspace.run_flow(ref, wait=False, idempotency_key=idempotency_key)


@router.get(
    "/{ref}/explain", responses=documented(404, 409), response_model=schemas.Explanation
)
def explain(workspace: Workspace, ref: Ref) -> Any:
    """Say why a flow did or did not run."""
    return workspace.explain(ref)
