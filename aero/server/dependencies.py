"""What routes ask for: the workspace, and the key that makes a POST count once."""

from typing import Annotated

from fastapi import Depends, Header, Request

from aero.acting import Change
from aero.app import Aero


async def _workspace(request: Request) -> Aero:  # what is async costs no thread
    app: Aero = request.app.state.workspace
    identity = getattr(request.state, "identity", None)
    if identity is None:  # of the few routes that are open
        return app
    about = dict(request.path_params)
    return app.acting_as(identity, Change(what=request.state.action, about=about))


Workspace = Annotated[Aero, Depends(_workspace)]

IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=200,
        description="Repeated with the same key, the request counts once.",
    ),
]
