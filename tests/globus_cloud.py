"""Globus Auth and Globus Groups, played by a server on loopback.

Only the cloud is stood in for: what asks is the real globus_sdk, sent here by its
environment variables. Answers have the shapes that globus_sdk.testing recorded.
"""

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from globus_sdk.testing import get_response_set

SECRET = "secret-of-the-servers-client"
FAR = 4102444800
"""2100, in seconds since 1970."""


def _recorded(name: str, case: str = "default") -> Any:
    return deepcopy(get_response_set(name).lookup(case).json)


class GlobusCloud:
    """What Globus knows, and what it was asked.

    Attributes:
        client_id: Of the server's client there.
        asked: The paths of all requests, each with what its form said.
        fails: Answer with that status instead, or with 0 hang up.
        holding: While it is not set, introspections wait for it.
    """

    def __init__(self, server: "_Server") -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.client_id = str(uuid.uuid4())
        self.scope = f"https://auth.globus.org/scopes/{self.client_id}/action_all"
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.fails: int | None = None
        self.holding = threading.Event()
        self.holding.set()
        self._tokens: dict[str, dict[str, Any]] = {}
        self._refresh: dict[str, str] = {}
        self._groups: dict[str, list[dict[str, Any]]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that send globus_sdk here."""
        return {
            "GLOBUS_SDK_SERVICE_URL_AUTH": self.url,
            "GLOBUS_SDK_SERVICE_URL_GROUPS": self.url,
        }

    def issue(self, token: str, **facts: Any) -> str:
        """Let a token be active, for this server's scope unless `facts` differ."""
        found = _recorded("auth.oauth2_token_introspect")
        found |= {
            "client_id": str(uuid.uuid4()),
            "sub": str(uuid.uuid4()),
            "aud": [self.client_id, "auth.globus.org"],
            "scope": f"openid {self.scope}",
            "exp": FAR,
        }
        self._tokens[token] = found | facts
        return token

    def revoke(self, token: str) -> None:
        """Let a token be good for nothing any more."""
        self._tokens[token] = {"active": False}
        self._refresh.pop(token, None)

    def renew(self, refresh_token: str, access_token: str) -> None:
        """Give that access token for a refresh token."""
        self._refresh[refresh_token] = access_token

    def join(self, sub: str, group: str, role: str, status: str = "active") -> None:
        """Make an identity a member of a group."""
        found = _recorded("groups.get_my_groups")[0] | {"id": group}
        [membership] = found["my_memberships"]
        membership |= {"group_id": group, "identity_id": sub}
        membership |= {"role": role, "status": status}
        self._groups.setdefault(sub, []).append(found)

    def times(self, path: str) -> int:
        """Return how often something was asked."""
        return sum(each == path for each, _ in self.asked)

    def answer(
        self, path: str, form: dict[str, str], authorization: str
    ) -> tuple[int, Any]:
        """Return status and body of the answer to a request."""
        self.asked.append((path, form))
        if path == "/v2/groups/my_groups":
            return self._my_groups(authorization)
        known = authorization == _basic(self.client_id, SECRET)
        if path == "/v2/oauth2/token/introspect":
            self.holding.wait(20)
            if not known:
                return 401, {"error": "invalid_client"}
            if form["token"] == "malformed":
                return 400, {"error": "invalid_request"}
            return 200, self._tokens.get(form["token"], {"active": False})
        if form["grant_type"] == "refresh_token":
            return self._renewed(form)
        return self._dependent(form) if known else (401, {"error": "invalid_client"})

    def _dependent(self, form: dict[str, str]) -> tuple[int, Any]:
        found = self._tokens.get(form["token"], {})
        if not found.get("active") or form["token"] in self._refresh:
            return 400, {"error": "invalid_grant"}
        body = _recorded("auth.oauth2_get_dependent_tokens", "groups")
        body[0]["access_token"] = f"groups of {found['sub']}"
        return 200, body

    def _renewed(self, form: dict[str, str]) -> tuple[int, Any]:
        access = self._refresh.get(form["refresh_token"])
        if access is None:
            return 400, {"error": "invalid_grant"}
        body = _recorded("auth.oauth2_exchange_code_for_tokens")
        body |= {
            "access_token": access,
            "refresh_token": form["refresh_token"],
            "scope": self.scope,
            "resource_server": self.client_id,
        }
        return 200, body

    def _my_groups(self, authorization: str) -> tuple[int, Any]:
        sub = authorization.removeprefix("Bearer groups of ")
        if sub == authorization:
            return 401, {"code": "UNAUTHORIZED"}
        return 200, self._groups.get(sub, [])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_GET(self) -> None:
        cloud = self.server.cloud
        length = int(self.headers.get("Content-Length", 0))
        form = dict(parse_qsl(self.rfile.read(length).decode()))
        path = urlsplit(self.path).path
        if cloud.fails == 0:
            cloud.asked.append((path, form))
            self.close_connection = True
            return
        status, body = cloud.answer(path, form, self.headers.get("Authorization", ""))
        status = cloud.fails or status
        data = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    cloud: GlobusCloud

    def handle_error(self, *args: Any) -> None:
        """Clients hang up; that is no news."""


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def globus_cloud() -> Iterator[GlobusCloud]:
    """Serve on loopback until the block ends, with globus_sdk sent there."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.cloud = cloud = GlobusCloud(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in cloud.environment.items():
                patch.setenv(name, value)
            yield cloud
    finally:
        cloud.holding.set()
        server.shutdown()
        thread.join()
        server.server_close()
