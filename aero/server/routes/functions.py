"""Functions: register and get."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from aero.function_source import given_source
from aero.server import bodies, schemas
from aero.server.answering import Answering
from aero.server.dependencies import Workspace
from aero.server.paths import DECODED
from aero.server.problems import documented

router = APIRouter(prefix="/function", tags=["functions"], route_class=Answering)

Ref = Annotated[str, Path(description="Id, or unique prefix of it"), DECODED]


@router.post("", responses=documented(), response_model=schemas.Function)
def register(workspace: Workspace, body: bodies.FunctionBody) -> Any:
    """Store a function's plain source, which is never run here."""
    source = given_source(body.name, body.source, body.python_version)
    function_id = workspace.register_source(
        source, body.description, public=body.public, group=body.group
    )
    return workspace.get_function(function_id)


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.Function)
def get_function(
    workspace: Workspace,
    ref: Ref,
) -> Any:
    """Get a function with its source."""
    return workspace.get_function(ref)


@router.post(
    "/{ref}/share", responses=documented(404, 409), response_model=schemas.Function
)
def share(workspace: Workspace, ref: Ref, body: bodies.SharingBody) -> Any:
    """Say who sees a function, and so may use it, beside its owner."""
    return workspace.share("function", ref, public=body.public, group=body.group)
