"""The workspace as a whole: how it stands, what is left to do, its housekeeping."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from aero import query
from aero.server import bodies, schemas
from aero.server.answering import Answering
from aero.server.dependencies import Workspace
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, documented

router = APIRouter(tags=["workspace"], route_class=Answering)

Endpoint = Annotated[str, Path(description="Its name or id"), DECODED]


@router.get("/status", responses=documented(), response_model=schemas.Status)
def status(workspace: Workspace) -> Any:
    """Say where things are and how they stand."""
    return workspace.status()


@router.get("/queue", responses=documented(), response_model=schemas.Queue)
def queue(workspace: Workspace) -> Any:
    """Say whether anything is left to do."""
    return schemas.Queue(idle=workspace.idle(), note=workspace.waiting_note())


@router.post("/gc", responses=documented(409), response_model=schemas.Collected)
def gc(workspace: Workspace, body: bodies.GcBody) -> Any:
    """Free what nothing refers to and prune what is long over."""
    return workspace.gc(body.dry_run)


@router.get("/limit", responses=documented(), response_model=list[schemas.Limit])
def list_limits(workspace: Workspace) -> Any:
    """List the endpoints with a limit, with what runs and waits there."""
    return workspace.limits()


@router.post("/limit/{endpoint}", responses=documented(), response_model=schemas.Limit)
def set_limit(workspace: Workspace, endpoint: Endpoint, body: bodies.LimitBody) -> Any:
    """Let at most so many runs of an endpoint run at once, or any number."""
    return workspace.set_limit(endpoint, body.max_running)


@router.get("/audit", responses=LISTED, response_model=list[schemas.Change])
def audit(paged: Paged) -> Any:
    """List who changed what, and when, newest first."""
    return paged.read(query.audit_page)
