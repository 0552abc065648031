"""The REST server: FastAPI over `Aero`, one route per method."""

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from aero import __version__
from aero.app import Aero
from aero.auth.base import Authenticator
from aero.auth.none import NoAuthentication
from aero.server import access, problems
from aero.server.body_limit import BodyLimit
from aero.server.metrics import Metrics
from aero.server.observing import Observing
from aero.server.paths import Methods, Paths
from aero.server.rate_limit import HEALTH, TOO_MANY, install_pace, install_unknown
from aero.server.repeats import Repeats
from aero.server.routes import (
    data,
    flows,
    functions,
    health,
    hooks,
    metrics,
    provenance,
    runs,
)
from aero.server.routes import workspace as whole
from aero.server.schemas import Problem

_ABOUT = """Keeps research analyses up to date and knows where every result came from.

Wherever a Data or a flow is asked for, its id, a unique prefix of it (8 or more) or its
name will do. Errors are problem+json (RFC 9457)."""


_MODULES = (
    data,
    flows,
    functions,
    runs,
    provenance,
    hooks,
    whole,
    health,
    metrics,
)


class _Api(FastAPI):
    """Describes its errors, too."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if "requestBody" in operation:
                        operation["responses"]["413"] = problems.documented(413)[413]
                    if self.state.limited and path not in HEALTH:
                        operation["responses"]["429"] = TOO_MANY
        return self.openapi_schema or {}


def make_api(
    workspace: Aero,
    authenticator: Authenticator | None = None,
    *,
    rate_limit: float = 0.0,
) -> FastAPI:
    """Return the ASGI application that serves a workspace; it does not close it.

    Args:
        workspace: What is served.
        authenticator: Says who asks; default: it is always the workspace's owner,
            which only an address on loopback may believe.
        rate_limit: Requests a second of each who asks; 0: any number.
    """
    api = _Api(
        title="aero",
        version=__version__,
        description=_ABOUT,
        redirect_slashes=False,
        docs_url="/docs",
        redoc_url=None,
        dependencies=[Depends(access.require_scope)],
    )
    routes = [route for module in _MODULES for route in module.router.routes]
    methods = Methods(
        (r.path, r.methods or ()) for r in routes if isinstance(r, APIRoute)
    )
    api.state.workspace = workspace
    api.state.methods = methods
    api.state.metrics = Metrics(workspace)
    api.state.limited = rate_limit > 0
    for module in _MODULES:
        api.include_router(module.router)
    problems.install(api)
    api.add_middleware(Repeats)
    api.add_middleware(BodyLimit)
    install_pace(api, rate_limit)
    access.install(api, authenticator or NoAuthentication(workspace.owner))
    install_unknown(api, rate_limit)
    api.add_middleware(Paths, methods=methods)
    api.add_middleware(Observing, metrics=api.state.metrics)
    return api
