"""What Prometheus reads."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response

from aero.server.dependencies import Workspace
from aero.server.metrics import MEDIA_TYPE, Metrics
from aero.server.problems import documented

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses=documented(),
    summary="Get metrics",
)
def metrics(request: Request, workspace: Workspace) -> Response:
    """Get what is counted, as text that Prometheus reads."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(workspace.db), media_type=MEDIA_TYPE)
