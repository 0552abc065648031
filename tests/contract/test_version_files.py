"""The bytes of a version over HTTP: ranges, validators, and what goes wrong."""

import http.client
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aero.app import Aero
from aero.client import AeroClient
from aero.error import StorageError
from aero.hashing import sha256_text
from aero.testing import make_app
from tests.conftest import Publisher
from tests.plain_http import PlainHttp, Reply, plainly_served

TEXT = "0123456789"
ETAG = f'"{sha256_text(TEXT)}"'
LARGE = int(os.environ.get("AERO_TEST_LARGE_FILE", str(64 << 20)))


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Aero]:
    with make_app(tmp_path / "home") as made:
        yield made


@pytest.fixture
def server(app: Aero) -> Iterator[PlainHttp]:
    with plainly_served(app) as http:
        yield http


def publish(app: Aero, publisher: Publisher, name: str, content: str | bytes) -> Any:
    url = publisher.publish(f"{name}.csv", content)
    made = app.create_source(name, url, policy="INGESTION")
    app.run_until_idle()
    return app.get_version(made["id"])


@pytest.fixture
def digits(app: Aero, publisher: Publisher) -> Any:
    return publish(app, publisher, "digits", TEXT)


def get(server: PlainHttp, **headers: str) -> Reply:
    return server.get("/data/digits/versions/1/file", **headers)


def test_the_whole_file(server: PlainHttp, digits: Any) -> None:
    reply = get(server)
    assert (reply.status, reply.body) == (200, TEXT.encode())
    assert reply.headers["ETag"] == ETAG
    assert reply.headers["Content-Length"] == "10"
    assert reply.headers["Accept-Ranges"] == "bytes"
    assert reply.headers["Content-Type"] == digits["media_type"]
    assert "digits.csv" in reply.headers["Content-Disposition"]


def test_head_tells_what_get_would(server: PlainHttp, digits: Any) -> None:
    path = "/data/digits/versions/1/file"
    head = server.send("HEAD", path, headers={"Range": "bytes=2-3"})
    assert (head.status, head.body) == (200, b"")
    whole = get(server).headers
    for name in ("ETag", "Content-Length", "Content-Type", "Accept-Ranges"):
        assert head.headers[name] == whole[name]
    assert server.send("HEAD", path, headers={"If-None-Match": ETAG}).status == 304


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-3", 0, 3),
        ("bytes=4-", 4, 9),
        ("bytes=0-", 0, 9),
        ("bytes=9-9", 9, 9),
        ("bytes=8-99999999999999999999999", 8, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-500", 0, 9),
        ("BYTES=1-2", 1, 2),
        ("bytes= 1-2 ", 1, 2),
    ],
)
def test_a_range(
    server: PlainHttp, digits: Any, asked: str, first: int, last: int
) -> None:
    reply = get(server, Range=asked)
    assert (reply.status, reply.body.decode()) == (206, TEXT[first : last + 1])
    assert reply.headers["Content-Range"] == f"bytes {first}-{last}/10"
    assert reply.headers["Content-Length"] == str(last - first + 1)


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,4-5",
        "bytes=5-2",
        "bytes=-",
        "bytes=",
        "bytes=a-b",
        "bytes=1-2-3",
        "bytes=-1-2",
        "lines=1-2",
        "1-2",
        "bytes=٣-٤".encode().decode("latin-1"),
    ],
)
def test_what_is_no_range_is_not_heard(
    server: PlainHttp, digits: Any, asked: str
) -> None:
    reply = get(server, Range=asked)
    assert (reply.status, reply.body) == (200, TEXT.encode())
    assert "Content-Range" not in reply.headers


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-12", "bytes=-0"])
def test_a_range_that_is_not_there(server: PlainHttp, digits: Any, asked: str) -> None:
    reply = get(server, Range=asked)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == "bytes */10"
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert "10 bytes" in reply.json["detail"]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (ETAG, 304),
        (f"W/{ETAG}", 304),
        ("*", 304),
        (f'"other", W/"x,y" , {ETAG}', 304),
        ('"other"', 200),
        (ETAG.strip('"'), 200),
        ("", 200),
    ],
)
def test_if_none_match(server: PlainHttp, digits: Any, given: str, status: int) -> None:
    reply = get(server, If_None_Match=given, Range="bytes=99-")
    # A tag that matches is looked at first, and only then the range.
    assert reply.status == (status if status == 304 else 416)
    reply = get(server, If_None_Match=given)
    assert (reply.status, bool(reply.body)) == (status, status == 200)
    assert reply.headers["ETag"] == ETAG


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (ETAG, 206),
        (f"W/{ETAG}", 200),
        ('"other"', 200),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 200),
    ],
)
def test_if_range(server: PlainHttp, digits: Any, given: str, status: int) -> None:
    reply = get(server, If_Range=given, Range="bytes=0-1")
    assert (reply.status, len(reply.body)) == (status, 2 if status == 206 else 10)


def test_an_empty_file(app: Aero, server: PlainHttp, publisher: Publisher) -> None:
    publish(app, publisher, "empty", b"")
    path = "/data/empty/versions/1/file"
    whole = server.get(path)
    assert (whole.status, whole.body) == (200, b"")
    assert whole.headers["Content-Length"] == "0"
    assert server.get(path, Range="bytes=-5").status == 200
    refused = server.get(path, Range="bytes=0-")
    assert refused.status == 416
    assert refused.headers["Content-Range"] == "bytes */0"


def test_what_is_not_there(app: Aero, server: PlainHttp, digits: Any) -> None:
    assert server.get("/data/digits/versions/2/file").status == 404
    assert server.get("/data/digits/versions/0/file").status == 422
    app.create_source("seen", "http://h/seen", no_copy=True)
    app.notify(file_id="seen", etag="e")
    reply = server.get("/data/seen/versions/1/file")
    assert reply.status == 404
    assert "without its bytes" in reply.json["detail"]
    assert server.get("/data/seen/versions/1/file", If_None_Match="*").status == 404


def stored(app: Aero, version: Any) -> Path:
    [path] = app.settings.store.rglob(version["checksum"])
    path.chmod(0o644)
    return path


def test_a_file_that_is_gone(app: Aero, server: PlainHttp, digits: Any) -> None:
    stored(app, digits).unlink()
    reply = get(server)
    assert (reply.status, reply.json["type"]) == (503, "urn:aero:missing-object")
    # The next poll brings it again, though the publisher has nothing new.
    app.run_flow("digits")
    assert get(server).body == TEXT.encode()


def test_a_file_of_another_size(app: Aero, server: PlainHttp, digits: Any) -> None:
    stored(app, digits).write_text("01234")
    for asked in ("", "bytes=0-1"):
        reply = get(server, Range=asked)
        assert (reply.status, reply.json["type"]) == (503, "urn:aero:corrupt-object")
    app.run_flow("digits")
    assert get(server).body == TEXT.encode()


def test_a_damaged_file_is_never_sent_whole(
    app: Aero, server: PlainHttp, publisher: Publisher, tmp_path: Path
) -> None:
    version = publish(app, publisher, "long", "x" * 1_000_000)
    stored(app, version).write_text("x" * 999_999 + "y")
    with pytest.raises(Exception, match=r"IncompleteRead|Connection broken"):
        server.get("/data/long/versions/1/file")
    with AeroClient(server.url) as client, pytest.raises(StorageError):
        client.fetch_version("long", tmp_path / "copy")
    assert not list(tmp_path.glob("*copy*"))
    app.run_flow("long")
    assert len(server.get("/data/long/versions/1/file").body) == 1_000_000


def test_a_large_file_is_streamed(
    app: Aero, server: PlainHttp, publisher: Publisher, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGE)
    app.create_source("large", large.as_uri(), policy="INGESTION")
    app.run_until_idle()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    tracemalloc.start()
    try:
        connection.request("GET", "/data/large/versions/1/file")
        buffer, received = bytearray(1 << 16), 0
        with connection.getresponse() as reply:
            while count := reply.readinto(buffer):
                received += count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        connection.close()
    print(f"{LARGE >> 20} MiB were sent with {peak >> 20} MiB of memory.")
    assert received == LARGE
    assert peak < 16 << 20
