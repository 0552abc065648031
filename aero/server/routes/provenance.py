"""The records of committed runs."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Path

from aero import query
from aero.server import schemas
from aero.server.dependencies import Workspace
from aero.server.paging import Paged
from aero.server.paths import DECODED
from aero.server.problems import LISTED, documented

router = APIRouter(prefix="/prov", tags=["provenance"])

Ref = Annotated[str, Path(description="Id of the record or of its run"), DECODED]


@router.get(
    "",
    responses=LISTED,
    response_model=list[schemas.Provenance],
)
def list_provenance(paged: Paged) -> Any:
    """List the records of committed runs, newest first."""
    return paged.read(partial(query.metadata_page, "prov"))


@router.get("/{ref}", responses=documented(404, 409), response_model=schemas.Provenance)
def get_provenance(
    workspace: Workspace,
    ref: Ref,
) -> Any:
    """Get the record of a committed run."""
    return workspace.get_provenance(ref)
