"""Names every request, and notes how it was answered: in a log and for Prometheus."""

import logging
import re
import time
import uuid
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aero.server.logs import HEADER, request_id
from aero.server.metrics import Metrics

log = logging.getLogger(__name__)

UNKNOWN = "none"
"""The route of a request for what is not there."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health/live", "/health/ready", "/metrics")


class Observing:
    """Answers with the id that a request came with, or with a new one, and notes it.

    It lies above all else that answers, so that nothing is answered unseen.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = _name(Headers(scope=scope).get(HEADER))
        # It is not set back: the answer to what goes wrong here is made above.
        request_id.set(named)
        began = time.perf_counter()
        status = 500

        async def name_and_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = named
            await send(message)

        try:
            await self._app(scope, receive, name_and_send)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", UNKNOWN))
        method, path = scope["method"], quote(scope["path"])
        self._metrics.answered(method, route, status, seconds)
        log.log(
            logging.DEBUG if route in _QUIET else logging.INFO,
            "%s %s %d in %.0f ms",
            method,
            path,
            status,
            seconds * 1000,
            extra={
                "method": method,
                "path": path,
                "status": status,
                "seconds": round(seconds, 6),
            },
        )


def _name(given: str | None) -> str:
    if given is not None and _NAME.fullmatch(given):
        return given
    return uuid.uuid4().hex
