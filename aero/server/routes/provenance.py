"""The records of committed runs."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path

from aero import query
from aero.server import bodies, schemas
from aero.server.answering import Answering
from aero.server.dependencies import Workspace
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, documented

router = APIRouter(prefix="/prov", tags=["provenance"], route_class=Answering)

Ref = Annotated[str, Path(description="Id of the record or of its run"), DECODED]


@router.get(
    "",
    responses=LISTED,
    response_model=list[schemas.Provenance],
)
def list_provenance(paged: Paged) -> Any:
    """List the records of committed runs, newest first."""
    return paged.read(partial(query.metadata_page, "prov"))


@router.post(
    "/inputs",
    responses=documented(404, 409),
    response_model=schemas.Payload,
    response_model_exclude_unset=True,
)
def pin_inputs(workspace: Workspace, body: bodies.ResultBody) -> Any:
    """Complete a payload with what its steps need to know: its inputs, pinned."""
    return workspace.pin_inputs(body.payload())


@router.post(
    "/new",
    responses=documented(404, 409),
    response_model=schemas.Provenance | schemas.RunDetail,
)
def commit_result(workspace: Workspace, body: bodies.ResultBody) -> Any:
    """Commit the result of a run, which may name its run; the same body counts once.

    The answer is the record of the run that was committed; or the run itself, if it
    left no record because it failed or found its sources unchanged.
    """
    return workspace.commit_result(body.payload())


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.Provenance)
def get_provenance(
    workspace: Workspace,
    ref: Ref,
) -> Any:
    """Get the record of a committed run."""
    return workspace.get_provenance(ref)
