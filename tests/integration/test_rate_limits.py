"""How often somebody may ask a server, and how long what is sent may be."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import urllib3

from aero.app import Aero
from aero.auth.tokens import StaticTokens
from aero.client import AeroClient
from aero.server import body_limit, rate_limit, serving
from aero.server.access import NEEDS
from aero.server.api import make_api
from aero.tokens import Tokens

SLOW = 1.0
"""A request a second, five at once; tokens not known: two at once, one in 50 s."""


class Ticking:
    """A monotonic clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> Ticking:
    ticking = Ticking()
    stopped = partial(rate_limit.Buckets, seconds=ticking)
    monkeypatch.setattr(rate_limit, "Buckets", stopped)
    return ticking


@contextmanager
def limited(app: Aero, rate: float = SLOW) -> Iterator[str]:
    object.__setattr__(app.settings, "rate_limit", rate)
    guard = StaticTokens(Tokens(app.db))
    with serving.serving(app, authenticator=guard, api_only=True) as url:
        yield url


def ask(url: str, path: str, token: str | None = None, **options: Any) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers |= options.pop("headers", {})
    return urllib3.request(
        options.pop("method", "GET"),
        url + path,
        headers=headers,
        retries=False,
        timeout=20,
        **options,
    )


def statuses(url: str, path: str, token: str | None, times: int) -> list[int]:
    return [ask(url, path, token).status for _ in range(times)]


def test_an_identity_has_a_burst_whatever_its_tokens_and_others_have_theirs(
    sqlite_app: Aero, ticking: Ticking
) -> None:
    ada = [sqlite_app.create_token("t", owner="ada")["token"] for _ in range(2)]
    bob = sqlite_app.create_token("t", owner="bob")["token"]
    with limited(sqlite_app) as url:
        assert statuses(url, "/data", ada[0], 3) == [200] * 3
        assert statuses(url, "/flow", ada[1], 5) == [200, 200, 429, 429, 429]
        assert statuses(url, "/data", bob, 3) == [200] * 3
        ticking.now += 2
        assert statuses(url, "/data", ada[0], 3) == [200, 200, 429]
        answer = ask(url, "/data", ada[0])
    assert answer.status == 429
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    problem = answer.json()
    assert problem["type"] == "urn:aero:too-many-requests"
    assert problem["facts"] == {"retry_after": 1}


def test_monitors_ask_as_often_as_they_like(sqlite_app: Aero) -> None:
    token = sqlite_app.create_token("t")["token"]
    with limited(sqlite_app) as url:
        for path, sent in (
            ("/health/live", None),
            ("/health/ready", "bad"),
            ("/metrics", token),
        ):
            assert statuses(url, path, sent, 12) == [200] * 12


def test_who_is_not_known_is_counted_by_address(sqlite_app: Aero) -> None:
    with limited(sqlite_app) as url:
        found = statuses(url, "/openapi.json", None, 6)
    assert found == [200] * 5 + [429]


def test_bad_tokens_are_soon_not_looked_at_any_more(sqlite_app: Aero) -> None:
    good = sqlite_app.create_token("t", owner="ada")["token"]
    new = sqlite_app.create_token("t", owner="bob")["token"]
    with limited(sqlite_app) as url:
        assert ask(url, "/data", good).status == 200
        found = [ask(url, "/data", f"aero_{n}") for n in range(5)]
        assert [each.status for each in found] == [401, 401, 429, 429, 429]
        assert found[-1].headers["Retry-After"] == "50"
        assert "not valid" in found[-1].json()["detail"]
        assert ask(url, "/data", None).status == 429
        assert ask(url, "/data", good).status == 200  # as others at that address are
        assert ask(url, "/data", new).status == 429
        assert ask(url, "/health/live").status == 200
        [known] = [t for t in sqlite_app.list_tokens() if t["owner"] == "ada"]
        sqlite_app.revoke_token(known["id"])
        assert ask(url, "/data", good).status == 401
        assert ask(url, "/data", good).status == 429


def test_behind_a_proxy_on_this_machine_each_of_its_users_has_an_address(
    sqlite_app: Aero,
) -> None:
    with limited(sqlite_app) as url:

        def bad(address: str) -> int:
            headers = {"X-Forwarded-For": address}
            return int(ask(url, "/data", "aero_bad", headers=headers).status)

        assert [bad("192.0.2.1") for _ in range(3)] == [401, 401, 429]
        assert [bad("192.0.2.2") for _ in range(3)] == [401, 401, 429]


def test_good_tokens_cost_the_address_nothing(sqlite_app: Aero) -> None:
    tokens = [
        sqlite_app.create_token("t", owner=f"user{n}")["token"] for n in range(10)
    ]
    with limited(sqlite_app) as url:
        assert [ask(url, "/data", token).status for token in tokens] == [200] * 10


def test_the_client_waits_its_turn(
    sqlite_app: Aero, ticking: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = sqlite_app.create_token("t", scopes=["read", "write"])["token"]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        ticking.now += seconds

    monkeypatch.setattr("urllib3.util.retry.time.sleep", sleep)
    with limited(sqlite_app) as url, AeroClient(url, token=token) as client:
        for _ in range(7):
            client.limits()
        made = client.create_source("cases", "http://example.org/cases")
        assert made["name"] == "cases"
    assert slept == [1, 1, 1]


def test_it_is_off_on_loopback_unless_said_and_on_elsewhere(sqlite_app: Aero) -> None:
    assert serving._rate_limit(sqlite_app, "127.0.0.1") == 0
    assert serving._rate_limit(sqlite_app, "::1") == 0
    assert serving._rate_limit(sqlite_app, "0.0.0.0") == 100
    object.__setattr__(sqlite_app.settings, "rate_limit", 0.0)
    assert serving._rate_limit(sqlite_app, "0.0.0.0") == 0
    with limited(sqlite_app, rate=0.0) as url:
        assert set(statuses(url, "/data", "aero_bad", 20)) == {401}


def test_the_document_says_so(sqlite_app: Aero) -> None:
    for rate in (0.0, 1.0):
        paths = make_api(sqlite_app, rate_limit=rate).openapi()["paths"]
        said = {
            p for p in paths for each in paths[p].values() if "429" in each["responses"]
        }
        assert said == (
            paths.keys() - {"/health/live", "/health/ready"} if rate else set()
        )


# -- bodies ---------------------------------------------------------------------------


@pytest.mark.parametrize("claim", [None, b"10", b"99999999999999999999999"])
def test_no_route_keeps_more_of_a_body_than_it_may_have(
    sqlite_app: Aero, claim: bytes | None
) -> None:
    """Sent in chunks, or longer than it claims, which no HTTP server lets through."""
    api = make_api(sqlite_app)
    piece = b" " * (1 << 20)
    for action in NEEDS:
        method, path = action.split(" ")
        limit = (
            body_limit.HOOKS_LIMIT if "/hooks/" in path else body_limit.LIMIT
        ) // len(piece)
        status, taken = sent(api, method, path, piece, claim)
        assert taken <= limit + 1, action
        assert status not in {200, 500} or method == "GET", action
        if taken == limit + 1:
            assert status == 413, action
        if claim is not None and len(claim) > 10:
            assert (status, taken) == (413, 0), action


def sent(
    app: Any, method: str, path: str, piece: bytes, claim: bytes | None
) -> tuple[int, int]:
    """Send an endless body; return the status, and how many pieces were taken."""
    taken, answer = 0, []

    async def receive() -> Any:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": piece, "more_body": True}

    async def send(message: Any) -> None:
        answer.append(message)

    path = path.replace("{number}", "1").replace("{", "").replace("}", "")
    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": [*headers, *([(b"content-length", claim)] if claim else [])],
    }
    asyncio.run(app(scope, receive, send))
    return answer[0]["status"], taken


def test_a_webhook_may_be_of_some_length(sqlite_app: Aero) -> None:
    with serving.serving(sqlite_app, api_only=True) as url:
        for length, status in (
            (body_limit.HOOKS_LIMIT, 422),
            (body_limit.HOOKS_LIMIT + 1, 413),
        ):
            body = b" " * length
            answer = ask(url, "/hooks/s3", method="POST", body=body)
            assert answer.status == status
