"""Whether the server lives, and whether it can do its work."""

from typing import Any

from fastapi import APIRouter

from aero.db import schema
from aero.server import schemas
from aero.server.dependencies import Workspace
from aero.server.problems import documented

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live", responses=documented(), response_model=schemas.Health)
async def live() -> Any:
    """Say that this process answers."""
    # Without a thread: all of them may wait for the database.
    return schemas.Health(status="alive")


@router.get("/ready", responses=documented(404, 503), response_model=schemas.Health)
def ready(workspace: Workspace) -> Any:
    """Say that the database answers and its schema is ours."""
    db = workspace.db
    with db.outages.impatient():
        schema.require(db)
    return schemas.Health(status="ready")
