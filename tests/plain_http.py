"""A plain HTTP client for tests: no retries, no redirects, nothing made nicer."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3

from aero.app import Aero
from aero.server.serving import serving


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, which must be JSON."""
        return json.loads(self.body)


class PlainHttp:
    """Requests to one server, each sent once."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(timeout=20, retries=False)

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()

    def get(self, path: str, **headers: str) -> Reply:
        """GET; an underscore in the name of a header is a hyphen."""
        return self.send("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        """POST `body` as JSON."""
        headers = {"Content-Type": "application/json", **headers}
        return self.send("POST", path, json.dumps(body).encode(), headers)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request as it is."""
        given = {name.replace("_", "-"): v for name, v in (headers or {}).items()}
        answer = self._pool.request(
            method, self.url + path, body=body, headers=given, redirect=False
        )
        return Reply(answer.status, answer.headers, answer.data)


@contextmanager
def plainly_served(app: Aero) -> Iterator[PlainHttp]:
    """Serve a workspace whose runs others execute; give a client of the server."""
    with serving(app, api_only=True) as url:
        http = PlainHttp(url)
        yield http
        http.close()
