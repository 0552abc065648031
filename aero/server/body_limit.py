"""How long the body of a request may be."""

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aero.server.problems import problem

LIMIT = 16 << 20
"""Bytes: the largest kwargs of a flow, and what is around them."""

HOOKS_LIMIT = 4 << 20
"""Bytes of a webhook, which is read before it is known who sent it."""

_CLOSE = {"Connection": "close"}


class BodyLimit:
    """Refuses longer bodies, whatever length they claim, without keeping them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = HOOKS_LIMIT if scope["path"].startswith("/hooks/") else LIMIT
        claimed = dict(scope["headers"]).get(b"content-length", b"")
        if claimed.isdigit() and int(claimed[:20]) > limit:
            refusal = problem("about:blank", 413, _too_long(limit), headers=_CLOSE)
            await refusal(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_long(limit), _CLOSE)
            return message

        await self._app(scope, limited, send)


def _too_long(limit: int) -> str:
    return (
        f"The body is longer than {limit} bytes: write what is large into a file and "
        "make that an input."
    )
