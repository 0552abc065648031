"""Sources that break every promise: the run says so, and the next one is clean."""

import hashlib
import itertools
from collections.abc import Iterator
from email.message import Message
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aero.app import Aero
from aero.sources.sink import Sink
from aero.testing import FrozenClock, make_app
from tests.faults.ordeal import PATIENCE, endure, recover, suffer
from tests.loopback import Answer, Loopback, Reply, loopback
from tests.scenarios import source

KIB = 1024
BODY = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(2 * KIB))
SIZE = len(BODY)
ETAG = {"ETag": '"one"'}
GOOD = Answer(body=BODY, headers=ETAG)


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Publishes at /series what the test tells it to."""
    with loopback() as found:
        yield found


@pytest.fixture
def app(
    tmp_path: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Aero]:
    """A workspace that asks a source again at once, and waits 0.2 s for it."""
    monkeypatch.setattr("aero.sources.retry.delay", lambda *_: 0.0)
    conf: dict[str, Any] = {"http_timeout": 0.2, "max_download": 2 * SIZE}
    with make_app(tmp_path / "home", clock=clock, **conf) as made:
        yield made


@pytest.fixture
def flow(app: Aero, server: Loopback) -> dict[str, Any]:
    """A flow that stores the series."""
    return source(app, f"{server.url}/series", "series")


def broken(
    size: int, *, end: str = "close", headers: dict[str, str] | None = None
) -> Answer:
    """Promise all, send so many bytes, and end."""
    return Answer(200, BODY[:size], headers or ETAG, SIZE, end)


def part(asked: Message, *, upto: int | None = None, **headers: str) -> Answer:
    """Answer a Range from there on, or break it off where the first KiB ends."""
    if asked["Range"] is None:
        return broken(KIB)
    whole = rest([], BODY, ETAG, asked)
    said = whole.headers | headers
    return Answer(206, whole.body[:upto], said, len(whole.body), "close")


def rest(seen: list[int], body: bytes, state: dict[str, str], asked: Message) -> Answer:
    """Answer from the byte that is asked for to the end, and note which that is."""
    first = int((asked["Range"] or "bytes=0-")[6:-1])
    seen.append(first)
    where = {"Content-Range": f"bytes {first}-{SIZE - 1}/{SIZE}"}
    return Answer(206 if first else 200, body[first:], state | where)


def stored(app: Aero, tmp_path: Path) -> bytes:
    """Return what the newest version of the series holds."""
    app.fetch_version("series", tmp_path / "stored")
    return (tmp_path / "stored").read_bytes()


CHANGING = itertools.count()

PASSING: dict[str, tuple[Reply, str]] = {
    "says nothing": (broken(0, end="stall"), f"no answer .* after 0 of {SIZE} bytes"),
    "hangs up": (broken(0), f"connection broke after 0 of {SIZE} bytes"),
    "sends less": (broken(KIB), f"connection broke after 1024 of {SIZE} bytes"),
    "resets": (broken(KIB, end="reset"), "Connection reset by peer.* of"),
    "stalls": (broken(KIB, end="stall"), f"no answer .* after 1024 of {SIZE} bytes"),
    "ends a chunk early": (
        Answer(200, b"a\r\n01", {"Transfer-Encoding": "chunked"}, end="close"),
        "connection broke after 2 bytes",
    ),
    "sends a KiB at a time": (
        lambda asked: part(asked, upto=KIB),
        f"in 4 attempts.* broke after 4096 of {SIZE} bytes",
    ),
    "goes on with something else": (
        lambda asked: part(asked, ETag='"two"'),
        "changed while it was read",
    ),
    "is new at every look": (
        lambda _: broken(KIB, headers={"ETag": f'"{next(CHANGING)}"'}),
        f"connection broke after 1024 of {SIZE} bytes",
    ),
    "sends another range": (
        lambda asked: part(asked, **{"Content-Range": f"bytes 0-9/{SIZE}"}),
        "changed while it was read",
    ),
    "is overloaded": (Answer(503), "status 503"),
}

FINAL: dict[str, tuple[Reply, str]] = {
    "redirects in a circle": (
        Answer(302, headers={"Location": "/series"}),
        "redirects in a circle",
    ),
    "redirects to nowhere": (Answer(301), "redirects without saying where to"),
    "is gone": (Answer(410), "status 410 instead of data: it was withdrawn"),
    "is too large": (
        Answer(200, b"", length=2 * SIZE + 1, end="close"),
        f"larger than the limit of {2 * SIZE} bytes: raise max_download",
    ),
    "grows too large": (
        Answer(200, 3 * BODY, length=-1, end="close"),
        f"larger than the limit of {2 * SIZE} bytes: raise max_download",
    ),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again(
    name: str, app: Aero, server: Loopback, flow: dict[str, Any], tmp_path: Path
) -> None:
    reply, says = PASSING[name]
    server.at("/series", reply)
    endure(
        app,
        flow,
        lambda: server.at("/series", GOOD),
        kind="SourceUnavailableError",
        says=says,
    )
    assert stored(app, tmp_path) == BODY


@pytest.mark.parametrize("name", FINAL)
def test_a_final_answer_ends_the_run(
    name: str, app: Aero, server: Loopback, flow: dict[str, Any], tmp_path: Path
) -> None:
    reply, says = FINAL[name]
    server.at("/series", reply)
    suffer(app, flow, kind="SourceError", says=says, status="FAILED")
    server.at("/series", GOOD)
    recover(app, flow)
    assert stored(app, tmp_path) == BODY


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_source_that_dies_at_every_kilobyte_is_read_on_where_it_stopped(
    end: str, app: Aero, server: Loopback, flow: dict[str, Any], tmp_path: Path
) -> None:
    sent = 0
    for cut in range(0, SIZE, KIB):
        body = b"%010d" % cut + BODY[10:]
        state = {"ETag": f'"{cut}"'}
        seen: list[int] = []
        dying = Answer(200, body[:cut], state, SIZE, end)
        server.script(dying, partial(rest, seen, body, state))
        run = app.run_flow(flow["id"], timeout=PATIENCE)
        assert (run["status"], run["attempt"]) == ("SUCCEEDED", 1)
        assert stored(app, tmp_path) == body
        # A reset may overtake what was sent before it.
        assert seen == [cut] or (end == "reset" and seen[0] < cut)
        sent += cut + SIZE - seen[0]
    runs = SIZE // KIB
    print(
        f"{runs} downloads of {SIZE // KIB} KiB, each cut at another KiB by a {end}: "
        f"all whole, {sent / (runs * SIZE):.2f} times their bytes sent"
    )
    recover(app, flow, status="UNCHANGED")


def test_what_comes_beyond_the_promise_is_not_data(
    app: Aero, server: Loopback, flow: dict[str, Any], tmp_path: Path
) -> None:
    server.at("/series", Answer(200, BODY + b"beyond", ETAG, SIZE, "close"))
    recover(app, flow)
    assert stored(app, tmp_path) == BODY


def test_a_source_that_changes_between_two_ranges_is_one_of_its_states(
    app: Aero, server: Loopback, flow: dict[str, Any], tmp_path: Path
) -> None:
    new = BODY[::-1]

    def changed(asked: Message) -> Answer:
        assert asked["If-Range"] == ETAG["ETag"]
        return Answer(body=new, headers={"ETag": '"two"'})

    server.script(broken(KIB), changed)
    recover(app, flow)
    assert stored(app, tmp_path) == new


def test_a_file_that_is_written_while_it_is_read(
    app: Aero, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "series"
    file.write_bytes(b"old" + BODY)
    flow = source(app, file.as_uri(), "series")
    write = Sink.write

    def meanwhile(sink: Sink, piece: bytes) -> None:
        file.write_bytes(b"new" + BODY)
        write(sink, piece)

    with monkeypatch.context() as patch:
        patch.setattr(Sink, "write", meanwhile)
        endure(
            app,
            flow,
            patch.undo,
            kind="SourceUnavailableError",
            says="the file changed while it was read",
        )
    assert stored(app, tmp_path) == b"new" + BODY


def test_a_source_that_drips_for_ever_is_stopped_by_the_timeout(
    server: Loopback, tmp_path: Path
) -> None:
    server.at("/series", broken(KIB, end="drip"))
    with make_app(tmp_path / "home", executor=None, workers=1) as app:
        flow = source(app, f"{server.url}/series", "series", timeout=1)
        suffer(
            app,
            flow,
            kind="FunctionTimeoutError",
            says="timeout of 1 s",
            status="FAILED",
        )
        server.at("/series", GOOD)
        recover(app, flow)
        assert stored(app, tmp_path) == BODY
