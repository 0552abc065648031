"""What the client sends where: tokens only to their server, and never in the clear."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3.util.retry

from aero.client import AeroClient
from aero.error import InvalidValueError, ServerError, TooManyRequestsError
from tests.loopback import Answer, Loopback, loopback

EMPTY = Answer(200, b"[]", {"Content-Type": "application/json"})


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as found:
        yield found


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(urllib3.util.retry.time, "sleep", found.append)
    return found


def too_many(seconds: str) -> Answer:
    problem = {
        "type": "urn:aero:too-many-requests",
        "detail": "Wait.",
        "facts": {"retry_after": 1},
    }
    return Answer(429, json.dumps(problem).encode(), {"Retry-After": seconds})


@pytest.mark.parametrize(
    "url",
    [
        "http://aero.example.org",
        "HTTP://aero.example.org:7878",
        "http://192.168.0.7:7878",
        "http://10.0.0.1",
        "http://127.0.0.1@aero.example.org",
        "http://aero.example.org#@127.0.0.1",
        "http://127.0.0.1.example.org",
        "http://[2001:db8::1]:7878",
        "http://2130706433",
        "http://localhost.example.org",
        "aero.example.org:7878",
        "ftp://aero.example.org",
    ],
)
@pytest.mark.parametrize("token", ["aero_secret", lambda: "aero_secret"])
def test_no_token_crosses_the_network_in_the_clear(url: str, token: Any) -> None:
    with pytest.raises(InvalidValueError, match="https://") as caught:
        AeroClient(url, token=token)
    assert "aero_secret" not in str(caught.value)
    AeroClient(url).close()


@pytest.mark.parametrize(
    "url",
    [
        "https://aero.example.org",
        "https://192.168.0.7:7878",
        "http://127.0.0.1:7878",
        "http://127.3.2.1",
        "http://localhost:7878",
        "http://[::1]:7878",
    ],
)
def test_a_token_may_go_by_tls_or_stay_on_this_machine(url: str) -> None:
    AeroClient(url, token="aero_secret").close()


@pytest.mark.parametrize("url", ["http://[::1", "http://a b:c/"])
def test_what_is_no_url_gets_no_token(url: str) -> None:
    with pytest.raises(InvalidValueError, match="https://HOST"):
        AeroClient(url, token="aero_secret")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_takes_a_token_elsewhere(server: Loopback, status: int) -> None:
    with loopback() as other, AeroClient(server.url, token="aero_secret") as client:
        place = f"{other.url}/limit?code=hidden"
        server.script(Answer(status, headers={"Location": place}))
        with pytest.raises(ServerError, match="sends its callers to") as caught:
            client.limits()
        with pytest.raises(ServerError, match="sends its callers to"):
            client.gc()
        with pytest.raises(ServerError, match="sends its callers to"):
            client._server.download("/x", Path("never"), "")
        assert other.requests == []
    assert other.url in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert len(server.requests) == 3


def test_what_returns_the_token_is_asked_for_each_request(server: Loopback) -> None:
    server.script(EMPTY)
    tokens = iter(["one", "two"])
    with AeroClient(server.url, token=lambda: next(tokens)) as client:
        client.limits()
        client.limits()
    sent = [headers["Authorization"] for _, headers in server.requests]
    assert sent == ["Bearer one", "Bearer two"]


def test_it_waits_as_long_as_it_is_told(server: Loopback, slept: list[float]) -> None:
    server.script(too_many("7"), too_many("86400"), EMPTY)
    with AeroClient(server.url) as client:
        assert client.limits() == []
    assert slept == [7, 30]
    assert len(server.requests) == 3


def test_too_much_is_too_much(server: Loopback, slept: list[float]) -> None:
    server.script(too_many("1"))
    with AeroClient(server.url) as client:
        with pytest.raises(TooManyRequestsError, match="Wait") as caught:
            client.limits()
        assert slept == [1] * 5
        with pytest.raises(TooManyRequestsError):
            client.gc()
    assert (caught.value.code, caught.value.retry_after) == (429, 1)
    assert len(server.requests) == 12
