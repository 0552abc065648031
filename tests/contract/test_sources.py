"""The contract of `aero.sources.base.Source`, over every adapter."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.error import SourceError
from aero.sources import FetchPolicy, fetch
from aero.sources.connections import close_connections
from aero.types import Fetched, NotModified, Validators
from tests.loopback import Answer, loopback


@dataclass
class Published:
    """A place where something is published: its URL, and how to change it."""

    url: str
    missing: str
    publish: Callable[[bytes], None]


@pytest.fixture(params=["http", "file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Published]:
    if request.param == "file":
        path = tmp_path / "published.csv"
        times = iter(range(10**18, 10**19, 10**9))

        def write(body: bytes) -> None:
            path.write_bytes(body)
            now = next(times)
            os.utime(path, ns=(now, now))

        yield Published(path.as_uri(), (tmp_path / "none").as_uri(), write)
        return
    with loopback() as server:

        def serve(body: bytes) -> None:
            etag = f'"{hashlib.sha256(body).hexdigest()}"'

            def answer(asked: Message) -> Answer:
                if asked["If-None-Match"] == etag:
                    return Answer(304, headers={"ETag": etag})
                return Answer(200, body, {"ETag": etag})

            server.at("/published.csv", answer)

        yield Published(f"{server.url}/published.csv", f"{server.url}/none", serve)
        close_connections()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "data"


def fetched(source: Published, target: Path) -> Fetched:
    found = fetch(source.url, target)
    assert isinstance(found, Fetched)
    return found


def left_by(found: Fetched) -> Validators:
    return Validators(etag=found.etag, last_modified=found.last_modified)


@given(body=st.binary(max_size=5000) | st.integers(0, 3 << 20).map(bytes))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=30,
)
def test_the_bytes_arrive_as_they_are(
    source: Published, target: Path, body: bytes
) -> None:
    source.publish(body)
    found = fetched(source, target)
    assert target.read_bytes() == body
    assert found.path == target
    assert found.sha256 == hashlib.sha256(body).hexdigest()
    assert found.size == len(body)
    assert found.url == source.url
    assert found.file_name == "published.csv"
    assert found.media_type == "text/csv"
    assert found.retrieved_at.utcoffset() is not None
    assert list(target.parent.iterdir()) == [target]


def test_an_unchanged_source_is_not_modified(source: Published, target: Path) -> None:
    source.publish(b"one")
    first = fetched(source, target)
    target.unlink()
    again = fetch(source.url, target, previous=left_by(first))
    assert isinstance(again, NotModified)
    assert (again.url, again.etag) == (source.url, first.etag)
    assert list(target.parent.iterdir()) == []


def test_a_changed_source_brings_the_new_bytes(source: Published, target: Path) -> None:
    source.publish(b"one")
    first = fetched(source, target)
    source.publish(b"two")
    second = fetch(source.url, target, previous=left_by(first))
    assert isinstance(second, Fetched)
    assert second.etag != first.etag
    assert target.read_bytes() == b"two"


def test_asking_again_is_harmless(source: Published, target: Path) -> None:
    source.publish(b"one")
    first, second = fetched(source, target), fetched(source, target)
    assert (first.sha256, first.etag) == (second.sha256, second.etag)


def test_what_is_missing_is_final(source: Published, target: Path) -> None:
    target.write_bytes(b"as it was")
    with pytest.raises(SourceError) as raised:
        fetch(source.missing, target)
    assert type(raised.value) is SourceError
    assert raised.value.url == source.missing
    assert target.read_bytes() == b"as it was"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_too_large_is_refused(source: Published, target: Path) -> None:
    source.publish(b"0123456789")
    with pytest.raises(SourceError, match="max_download"):
        fetch(source.url, target, policy=FetchPolicy(max_size=9))
    assert list(target.parent.iterdir()) == []


def test_progress_ends_at_the_size(source: Published, target: Path) -> None:
    source.publish(bytes(1 << 20))
    seen: list[tuple[int, int | None]] = []
    fetch(source.url, target, progress=lambda *at: seen.append(at))
    assert seen[-1] == (1 << 20, 1 << 20)
    assert seen == sorted(seen)
