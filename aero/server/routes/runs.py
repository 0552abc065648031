"""Runs: list, get, cancel, retry, logs."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import PlainTextResponse

from aero import query
from aero.server import schemas
from aero.server.answering import Answering
from aero.server.dependencies import Workspace
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, documented

router = APIRouter(prefix="/run", tags=["runs"], route_class=Answering)

Ref = Annotated[str, Path(description="Id, or unique prefix of it"), DECODED]


@router.get("", responses=LISTED, response_model=list[schemas.Run])
def list_runs(
    workspace: Workspace,
    paged: Paged,
    flow: Annotated[str | None, Query(description="Only of this flow")] = None,
    status: Annotated[str | None, Query(description="Only with this status")] = None,
) -> Any:
    """List the runs, newest first."""
    flow_id = None if flow is None else workspace.flow_id(flow)
    return paged.read(partial(query.runs_page, flow_id, status))


@router.get(
    "/downloads", responses=documented(), response_model=list[schemas.DownloadUnderWay]
)
def downloads(workspace: Workspace) -> Any:
    """List how far the long downloads of the server's machine are."""
    return workspace.downloads()


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.RunDetail)
def get_run(workspace: Workspace, ref: Ref) -> Any:
    """Get a run with its log, traceback, inputs and steps."""
    return workspace.get_run(ref)


@router.get(
    "/{ref}/log", response_class=PlainTextResponse, responses=documented(404, 409)
)
def get_log(workspace: Workspace, ref: Ref) -> str:
    """Get the last 64 KiB of what the function printed."""
    return str(workspace.get_run(ref)["log_tail"] or "")


@router.post(
    "/{ref}/cancel", responses=documented(404, 409), response_model=schemas.RunDetail
)
def cancel(workspace: Workspace, ref: Ref) -> Any:
    """End a run as CANCELLED; nothing of it is committed."""
    return workspace.cancel_run(ref)


@router.post(
    "/{ref}/retry", responses=documented(404, 409), response_model=schemas.RunDetail
)
def retry(workspace: Workspace, ref: Ref) -> Any:
    """Run a failed, cancelled or skipped run again, with the newest inputs."""
    return workspace.retry_run(ref)
