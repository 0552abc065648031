"""Who may call which route: one table, asked by the gate and again by the route.

The gate asks for a token before it lets anything of a request in but its head, and the
route for the scope. A route that the table does not name is closed to everybody.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Head

from aero.auth.base import Authenticator, Identity, Scope
from aero.config.settings import is_loopback
from aero.error import ClientError, ForbiddenError
from aero.server import problems

OPEN = None
SIGNED = "signed"
"""Of webhooks, which carry a secret of their own instead of a token."""

NEEDS: Mapping[str, Scope | str | None] = {
    "GET /health/live": OPEN,
    "GET /health/ready": OPEN,
    "GET /openapi.json": OPEN,
    "GET /docs": OPEN,
    "GET /docs/oauth2-redirect": OPEN,
    "GET /data": Scope.READ,
    "GET /data/search": Scope.READ,
    "GET /data/types": Scope.READ,
    "GET /data/types/{name}": Scope.READ,
    "GET /data/{ref}": Scope.READ,
    "GET /data/{ref}/versions": Scope.READ,
    "GET /data/{ref}/latest": Scope.READ,
    "GET /data/{ref}/versions/{number}": Scope.READ,
    "GET /data/{ref}/versions/{number}/file": Scope.READ,
    "GET /data/{ref}/lineage": Scope.READ,
    "GET /data/{ref}/flows": Scope.READ,
    "GET /flow": Scope.READ,
    "GET /flow/{ref}": Scope.READ,
    "GET /flow/{ref}/explain": Scope.READ,
    "GET /function/{ref}": Scope.READ,
    "GET /run": Scope.READ,
    "GET /run/downloads": Scope.READ,
    "GET /run/{ref}": Scope.READ,
    "GET /run/{ref}/log": Scope.READ,
    "GET /prov": Scope.READ,
    "GET /prov/{ref}": Scope.READ,
    "GET /status": Scope.READ,
    "GET /queue": Scope.READ,
    "GET /limit": Scope.READ,
    "GET /metrics": Scope.READ,
    "GET /audit": Scope.ADMIN,
    "POST /hooks/s3": SIGNED,
    "POST /hooks/generic": SIGNED,
    "POST /data/notify": Scope.RUN,
    "POST /data/{ref}/notify": Scope.RUN,
    "POST /flow/{ref}/run": Scope.RUN,
    "POST /run/{ref}/cancel": Scope.RUN,
    "POST /run/{ref}/retry": Scope.RUN,
    "POST /data/source": Scope.WRITE,
    "POST /data/types/{name}/urls": Scope.WRITE,
    "DELETE /data/{ref}/flows": Scope.WRITE,
    "POST /function": Scope.WRITE,
    "POST /flow/register": Scope.WRITE,
    "POST /prov/inputs": Scope.WRITE,
    "POST /prov/new": Scope.WRITE,
    "POST /flow/{ref}/pause": Scope.WRITE,
    "POST /flow/{ref}/resume": Scope.WRITE,
    "POST /flow/{ref}/set": Scope.WRITE,
    "DELETE /flow/{ref}": Scope.WRITE,
    "POST /data/{ref}/share": Scope.WRITE,
    "POST /flow/{ref}/share": Scope.WRITE,
    "POST /function/{ref}/share": Scope.WRITE,
    "POST /limit/{endpoint}": Scope.ADMIN,
    "POST /gc": Scope.ADMIN,
}
"""The scope that a route needs."""


_CLOSED = "closed"
_SCHEME = "token"


def _needed(method: str, path: str) -> Scope | str | None:
    return NEEDS.get(f"{'GET' if method == 'HEAD' else method} {path}", _CLOSED)


_UNNAMED = [
    (method, compile_path(path)[0], _needed(method, path))
    for method, _, path in (action.partition(" ") for action in NEEDS)
    if _needed(method, path) in {OPEN, SIGNED}
]


def _asked_of(head: Head) -> Scope | str | None:
    """Return whether a request is for what is open, or signed, or neither."""
    method = "GET" if head["method"] == "HEAD" else head["method"]
    for each, path, needed in _UNNAMED:
        if method == each and path.match(head["path"]):
            return needed
    return _CLOSED


def install(api: FastAPI, authenticator: Authenticator) -> None:
    """Put the gate before every route, and let the OpenAPI document say so."""
    scheme = authenticator.scheme
    api.state.asking = scheme is not None
    api.add_middleware(_Gate, authenticator=authenticator)
    plain = api.openapi

    def openapi() -> dict[str, Any]:
        fresh = api.openapi_schema is None
        document = plain()
        if fresh:
            _describe(document, scheme)
        return document

    api.openapi = openapi  # type: ignore[method-assign]


async def require_scope(request: Request) -> None:
    """Refuse a request whose identity may not call this route; of every route."""
    path = request.scope["route"].path
    action, scope = f"{request.method} {path}", _needed(request.method, path)
    request.state.action = action
    if scope in {OPEN, SIGNED}:
        return
    identity = getattr(request.state, "identity", None)
    if identity is None or not isinstance(scope, Scope):
        raise ForbiddenError(f"{action} is closed: no scope is declared for it.")
    if not identity.may(scope):
        raise ForbiddenError(
            f"The token lacks the scope '{scope}', which {action} needs: ask for "
            "a token that has it.",
            scope=str(scope),
        )


class _Gate:
    """Lets in nobody who is not known, and says who it is."""

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, head: Head, receive: Receive, send: Send) -> None:
        asked = _asked_of(head) if head["type"] == "http" else OPEN
        try:
            if asked is not OPEN and self._authenticator.loopback_only:
                _refuse_web_pages(Headers(scope=head))
            if asked == _CLOSED:
                head.setdefault("state", {})["identity"] = await self._identity(head)
        except ClientError as error:
            await problems.answer(error)(head, receive, send)
            return
        await self._app(head, receive, send)

    async def _identity(self, head: Head) -> Identity:
        token = _bearer(Headers(scope=head))
        if self._authenticator.loopback_only:
            # Who asks nobody looks nothing up: a thread would cost more than it.
            return self._authenticator.identify(token)
        return await run_in_threadpool(self._authenticator.identify, token)


def _refuse_web_pages(headers: Headers) -> None:
    """Refuse what a page from elsewhere lets this machine's browser ask.

    Where nobody is asked who they are, that would be the owner's request. Such a page
    has another origin, or gave its own name our address.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not is_loopback(name) or origin not in {
        None,
        f"http://{host}",
        f"https://{host}",
    }:
        raise ForbiddenError(
            "Without authentication only programs on this machine are served, under "
            "an address of loopback: serve others with '--auth tokens'."
        )


def _bearer(headers: Headers) -> str | None:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() or None if kind.lower() == "bearer" else None


def _describe(document: dict[str, Any], scheme: Mapping[str, Any] | None) -> None:
    """Add to an OpenAPI document what the gate answers, and if it asks for a token."""
    if scheme is not None:
        schemes = {_SCHEME: dict(scheme)}
        document.setdefault("components", {})["securitySchemes"] = schemes
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            scope = _needed(method.upper(), path)
            if scope is OPEN:
                continue
            operation["responses"]["403"] = _FORBIDDEN
            if scheme is not None and scope is not SIGNED:
                operation["security"] = [{_SCHEME: _scopes(scheme) or [str(scope)]}]
                operation["responses"]["401"] = _UNAUTHORIZED


def _scopes(scheme: Mapping[str, Any]) -> list[str]:
    """Return the scopes that a scheme has of its own, by which alone it lets in."""
    flows = scheme.get("flows", {}).values()
    return [scope for flow in flows for scope in flow["scopes"]]


def _response(description: str) -> dict[str, Any]:
    problem = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        "description": description,
        "content": {problems.MEDIA_TYPE: problem},
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}}},
    }


_UNAUTHORIZED = _response("The token is missing or not valid")
_FORBIDDEN = _response("Who asks may not do that")
