"""Paths as they were sent: still encoded, without slash at the end, with one answer."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from pydantic import BeforeValidator
from starlette.types import ASGIApp, Receive, Scope, Send

from aero.error import InvalidValueError, urn
from aero.server.problems import problem, refused

_PARAMETER = re.compile(r"\{[^}]+\}")


DECODED = BeforeValidator(unquote)
"""What every parameter that is a part of a path is annotated with."""


class Methods:
    """Which methods the paths have.

    Args:
        routes: The paths, as templates, with the methods of one route each.
    """

    def __init__(self, routes: Iterable[tuple[str, Iterable[str]]]) -> None:
        self.literal: dict[str, set[str]] = {}
        self._templates: list[tuple[re.Pattern[str], set[str]]] = []
        for template, methods in routes:
            if _PARAMETER.search(template):
                pattern = re.compile(_PARAMETER.sub("[^/]+", template))
                self._templates.append((pattern, set(methods)))
            else:
                self.literal.setdefault(template, set()).update(methods)

    def of(self, path: str) -> list[str]:
        """Return the methods of a path; one that is a template's, too, is itself."""
        found = self.literal.get(path) or {
            method
            for pattern, methods in self._templates
            if pattern.fullmatch(path)
            for method in methods
        }
        return sorted(found)


class Paths:
    """Lets routes see each path in one spelling, and refuses what no route can hear.

    `/data/` is `/data`: existing clients send both, and want no redirect. What a part
    of a path says stays encoded until its route reads it, so that it may hold slashes.
    """

    def __init__(self, app: ASGIApp, methods: Methods) -> None:
        self._app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # In place: what observes the request is to see the same path.
        scope["path"] = _one_spelling(scope)
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Mapping[str, Any]) -> Any:
        path, method = scope["path"], scope["method"]
        if "%00" in path or b"%00" in scope["query_string"]:
            sentence = "A NUL character names nothing: leave %00 out of the URL."
            return problem(urn(InvalidValueError), 422, sentence)
        own = self._methods.literal.get(path)
        if own is not None and method not in own:
            # Else `GET /data/notify` would look for a Data of that name.
            return refused(method, path, sorted(own))
        return None


def _one_spelling(scope: Mapping[str, Any]) -> str:
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    parts = raw.decode("latin-1").rstrip("/").split("/")
    return "/".join(quote(unquote(each), safe="") for each in parts) or "/"
