"""HEAD: what an object says of itself, and what goes wrong on the way."""

from collections.abc import Iterator

import pytest

from aero.error import InvalidValueError, SourceError, SourceUnavailableError
from aero.sources import FetchPolicy, Head, head
from aero.sources.connections import close_connections
from tests.loopback import Answer, Loopback, loopback


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as found:
        yield found
        close_connections()


def ask(url: str, policy: FetchPolicy | None = None) -> Head:
    return head(url, policy, sleep=lambda _: None)


def test_an_object_says_its_etag_and_size(server: Loopback) -> None:
    server.at("/a.csv", Answer(body=b"12345", headers={"ETag": '"1"'}))
    url = f"{server.url}/a.csv"
    assert ask(url) == Head(url=url, etag='"1"', size=5)


def test_an_object_may_say_nothing(server: Loopback) -> None:
    server.at("/a.csv", Answer(headers={}, length=-1, end="close"))
    url = f"{server.url}/a.csv"
    assert ask(url) == Head(url=url, etag=None, size=None)


def test_redirects_are_followed_with_head(server: Loopback) -> None:
    server.at("/old", Answer(302, headers={"Location": "/new"}))
    server.at("/new", Answer(body=b"1", headers={"ETag": "e"}))
    assert ask(f"{server.url}/old").etag == "e"
    assert [path for path, _ in server.requests] == ["/old", "/new"]


def test_another_status_is_no_object(server: Loopback) -> None:
    with pytest.raises(SourceError, match="HEAD with status 404") as caught:
        ask(f"{server.url}/missing")
    assert caught.value.status == 404


def test_a_passing_failure_is_asked_again(server: Loopback) -> None:
    server.script(Answer(503), Answer(429), Answer(headers={"ETag": "e"}))
    assert ask(server.url).etag == "e"


def test_attempts_end(server: Loopback) -> None:
    server.script(Answer(500))
    with pytest.raises(SourceUnavailableError, match="2 attempts"):
        ask(server.url, FetchPolicy(attempts=2))


def test_private_addresses_are_refused_where_they_must_be(server: Loopback) -> None:
    with pytest.raises(SourceError, match="loopback"):
        ask(server.url, FetchPolicy(allow_private_addresses=False))


def test_other_schemes_have_no_head() -> None:
    with pytest.raises(InvalidValueError):
        ask("file:///srv/a.csv")
