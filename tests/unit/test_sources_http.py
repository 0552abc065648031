import hashlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from email.message import Message
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.clock import utc_now
from aero.error import (
    ConfigError,
    InvalidValueError,
    SourceError,
    SourceUnavailableError,
    StorageError,
)
from aero.sources import FetchPolicy, addresses, sink
from aero.sources.connections import close_connections
from aero.sources.http import HttpSource
from aero.types import Fetched, NotModified, Validators
from tests.certificates import resolve_to_loopback, self_signed
from tests.loopback import Answer, Loopback, loopback

OLD = "Mon, 01 Jan 1849 00:00:00 GMT"
BODY = bytes(range(256)) * 40
STRICT = FetchPolicy(allow_private_addresses=False)


@pytest.fixture
def server() -> Iterator[Loopback]:
    with loopback() as running:
        yield running
        close_connections()


@dataclass
class Getting:
    """Fetches into a folder of its own and checks that nothing else stays there."""

    folder: Path
    slept: list[float] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.folder / "data"

    def __call__(
        self,
        url: str,
        *,
        previous: Validators | None = None,
        policy: FetchPolicy | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Fetched | NotModified:
        try:
            return HttpSource(sleep=self.slept.append).fetch(
                url, self.path, previous=previous, policy=policy, progress=progress
            )
        finally:
            assert set(self.folder.iterdir()) <= {self.path}
            assert "aero-hashing" not in {t.name for t in threading.enumerate()}

    def data(self, url: str, **options: object) -> Fetched:
        fetched = self(url, **options)  # type: ignore[arg-type]
        assert isinstance(fetched, Fetched)
        stored = self.path.read_bytes()
        assert fetched.sha256 == hashlib.sha256(stored).hexdigest()
        assert fetched.size == len(stored)
        return fetched


@pytest.fixture
def get(tmp_path: Path) -> Getting:
    folder = tmp_path / "target"
    folder.mkdir()
    return Getting(folder)


def part(headers: Message, body: bytes, etag: str | None) -> Answer:
    """Answer a Range request as a server of `body` should."""
    first = int(str(headers["Range"]).removeprefix("bytes=").rstrip("-"))
    sent = {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}
    if etag:
        sent["ETag"] = etag
    return Answer(206, body[first:], sent)


def broken(etag: str | None = '"a"', keep: int = 4000, end: str = "close") -> Answer:
    """Break off in the middle of BODY."""
    headers = {"ETag": etag} if etag else {}
    return Answer(200, BODY[:keep], headers, length=len(BODY), end=end)


# What is said about the bytes


def test_a_download_says_what_it_got(server: Loopback, get: Getting) -> None:
    sent = {
        "ETag": '"1"',
        "Last-Modified": OLD,
        "Content-Type": 'text/csv; charset="ISO-8859-1"',
        "Content-Disposition": "attachment; filename=deaths.csv",
    }
    server.script(Answer(200, BODY, sent))
    before = utc_now()
    fetched = get.data(server.url + "/series#part")
    assert get.path.read_bytes() == BODY
    assert (fetched.etag, fetched.last_modified) == ('"1"', OLD)
    assert (fetched.media_type, fetched.encoding) == ("text/csv", "iso-8859-1")
    assert fetched.file_name == "deaths.csv"
    assert fetched.url == server.url + "/series#part"
    assert fetched.final_url == server.url + "/series"
    assert before <= fetched.retrieved_at <= utc_now()
    assert fetched.retrieved_at.tzinfo is UTC
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


def test_without_headers_the_name_comes_from_the_url(
    server: Loopback, get: Getting
) -> None:
    server.script(Answer(200, b"x"))
    fetched = get.data(server.url + "/a/caf%C3%A9%2Fdeaths.csv?key=1")
    assert fetched.file_name == "deaths.csv"
    assert (fetched.media_type, fetched.encoding) == ("text/csv", None)


@given(
    body=st.binary(max_size=4000),
    media_type=st.sampled_from(["text/plain; charset=utf-16", "application/json", ""]),
    coding=st.sampled_from(["gzip", "br", "deflate", "identity", None]),
    chunked=st.booleans(),
)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=60,
)
def test_bytes_are_stored_as_they_were_sent(
    server: Loopback,
    get: Getting,
    body: bytes,
    media_type: str,
    coding: str | None,
    chunked: bool,
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    if coding:
        headers["Content-Encoding"] = coding
    sent = body
    if chunked:
        headers["Transfer-Encoding"] = "chunked"
        pieces = [body[i : i + 999] for i in range(0, len(body), 999)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    server.script(Answer(200, sent, headers))
    get.data(server.url)
    assert get.path.read_bytes() == body


def test_progress_counts_every_byte(server: Loopback, get: Getting) -> None:
    server.script(Answer(200, BODY * 200))
    seen: list[tuple[int, int | None]] = []
    get.data(server.url, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(BODY) * 200, len(BODY) * 200)


def test_an_empty_answer_is_an_empty_file(server: Loopback, get: Getting) -> None:
    server.script(Answer(200, b""))
    assert get.data(server.url).size == 0


def test_a_length_may_stay_unknown(server: Loopback, get: Getting) -> None:
    server.script(Answer(200, BODY, length=-1, end="close"))
    seen: list[int | None] = []
    get.data(server.url, progress=lambda done, total: seen.append(total))
    assert get.path.read_bytes() == BODY
    assert set(seen) == {None}


def test_connections_are_kept(server: Loopback, get: Getting) -> None:
    peers: set[str] = set()

    def answer(headers: Message) -> Answer:
        peers.update(
            thread.name
            for thread in threading.enumerate()
            if "process_req" in thread.name
        )
        return Answer(200, BODY)

    server.script(answer)
    for _ in range(5):
        get.data(server.url)
    assert len(peers) == 1


# Has it changed?


def test_an_unchanged_source_is_not_transferred(server: Loopback, get: Getting) -> None:
    server.script(Answer(304, headers={"ETag": '"1"'}))
    get.path.write_bytes(b"as it was")
    previous = Validators(etag='"1"', last_modified=OLD)
    found = get(server.url, previous=previous)
    assert isinstance(found, NotModified)
    assert (found.url, found.etag, found.last_modified) == (server.url, '"1"', OLD)
    assert get.path.read_bytes() == b"as it was"
    _, asked = server.requests[0]
    assert (asked["If-None-Match"], asked["If-Modified-Since"]) == ('"1"', OLD)


def test_a_304_nobody_asked_for_is_no_answer(server: Loopback, get: Getting) -> None:
    server.script(Answer(304))
    with pytest.raises(SourceError, match="304"):
        get(server.url)


def test_a_304_to_a_resumption_is_no_answer(server: Loopback, get: Getting) -> None:
    server.script(broken(), Answer(304))
    with pytest.raises(SourceError, match="304"):
        get(server.url, previous=Validators(etag='"old"'))


def test_a_validator_that_no_header_can_carry_is_not_sent(
    server: Loopback, get: Getting
) -> None:
    server.script(Answer(200, BODY))
    get.data(server.url, previous=Validators(etag='"\u2603"', last_modified="a\nb"))
    assert server.requests[0][1]["If-None-Match"] is None


# Final answers


@pytest.mark.parametrize("status", [204, 305, 400, 401, 403, 404, 410, 416, 451])
def test_other_statuses_are_final(server: Loopback, get: Getting, status: int) -> None:
    body = b"" if status == 204 else b"<html>no"
    server.script(Answer(status, body, length=-1 if status == 204 else None))
    with pytest.raises(SourceError, match=f"status {status}") as raised:
        get(server.url + "/x?token=hidden")
    assert raised.value.status == status
    assert "hidden" not in str(raised.value)
    assert len(server.requests) == 1
    assert get.slept == []
    assert not get.path.exists()


def test_a_refusal_with_a_broken_body_is_still_that_refusal(
    server: Loopback, get: Getting
) -> None:
    server.script(Answer(404, b"short", length=100, end="close"))
    with pytest.raises(SourceError) as raised:
        get(server.url)
    assert raised.value.status == 404


def test_the_size_limit_is_asked_of_the_header_first(
    server: Loopback, get: Getting
) -> None:
    server.script(Answer(200, b"", length=10**12, end="close"))
    with pytest.raises(SourceError, match="limit of 1000 bytes") as raised:
        get(server.url, policy=FetchPolicy(max_size=1000))
    assert raised.value.size == 10**12


def test_the_size_limit_holds_without_a_header(server: Loopback, get: Getting) -> None:
    server.script(Answer(200, BODY, length=-1, end="close"))
    with pytest.raises(SourceError, match="raise max_download"):
        get(server.url, policy=FetchPolicy(max_size=len(BODY) - 1))
    get.data(server.url, policy=FetchPolicy(max_size=len(BODY)))


@pytest.mark.parametrize(
    "url", ["http://", "http:///path", "http://[::1", "http://h:99999/", "ftp://h/x"]
)
def test_what_is_no_url_is_refused(get: Getting, url: str) -> None:
    with pytest.raises(InvalidValueError, match="HOST/PATH"):
        get(url)


def test_a_folder_that_is_missing_is_a_storage_error(
    server: Loopback, tmp_path: Path
) -> None:
    server.script(Answer(200, BODY))
    with pytest.raises(StorageError, match="could not be written"):
        HttpSource().fetch(server.url, tmp_path / "none" / "data")


def test_an_interrupted_download_leaves_nothing(server: Loopback, get: Getting) -> None:
    def interrupt(done: int, total: int | None) -> None:
        if done > sink.INLINE:
            raise KeyboardInterrupt

    server.script(Answer(200, bytes(4 << 20)))
    with pytest.raises(KeyboardInterrupt):
        get(server.url, progress=interrupt)
    assert not get.path.exists()


# Answers that pass


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_trouble_is_waited_out(
    server: Loopback, get: Getting, status: int
) -> None:
    server.script(Answer(status, b"later"), Answer(200, BODY))
    get.data(server.url)
    assert len(server.requests) == 2
    assert 0 < get.slept[0] <= 0.5


def test_trouble_that_stays_is_reported(server: Loopback, get: Getting) -> None:
    server.script(Answer(503))
    with pytest.raises(SourceUnavailableError, match="in 3 attempts") as raised:
        get(server.url, policy=FetchPolicy(attempts=3))
    assert (raised.value.status, raised.value.attempts) == (503, 3)
    assert len(server.requests) == 3
    assert len(get.slept) == 2


def test_retry_after_is_honoured_in_both_forms(server: Loopback, get: Getting) -> None:
    soon = format_datetime(utc_now() + timedelta(seconds=20), usegmt=True)
    server.script(
        Answer(429, headers={"Retry-After": "7"}),
        Answer(503, headers={"Retry-After": soon}),
        Answer(429, headers={"Retry-After": "86400"}),
        Answer(200, BODY),
    )
    get.data(server.url)
    assert get.slept[0] == 7
    assert 10 < get.slept[1] <= 20
    assert get.slept[2] == 60


def test_nobody_there_is_unavailable(get: Getting) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    refused = r"no connection \(Connection refused\); check the address"
    with pytest.raises(SourceUnavailableError, match=refused):
        get(f"http://127.0.0.1:{port}/x")
    assert len(get.slept) == 3


def test_a_name_that_does_not_resolve_is_unavailable(get: Getting) -> None:
    with pytest.raises(SourceUnavailableError):
        get("http://nowhere.invalid/", policy=FetchPolicy(attempts=1))
    with pytest.raises(SourceUnavailableError, match="could not be resolved"):
        get(
            "http://nowhere.invalid/",
            policy=FetchPolicy(attempts=1, allow_private_addresses=False),
        )


def test_silence_before_the_answer_times_out(server: Loopback, get: Getting) -> None:
    def late(headers: Message) -> Answer:
        server.stopping.wait(2)
        return Answer(200, BODY, end="close")

    server.script(late)
    with pytest.raises(SourceUnavailableError, match="within the timeout"):
        get(server.url, policy=FetchPolicy(timeout=0.1, attempts=1))
    server.stopping.set()


# Broken bodies


@pytest.mark.parametrize("end", ["close", "stall"])
def test_a_short_body_is_resumed(server: Loopback, get: Getting, end: str) -> None:
    server.script(broken(end=end), lambda asked: part(asked, BODY, '"a"'))
    fetched = get.data(server.url, policy=FetchPolicy(timeout=0.5))
    assert get.path.read_bytes() == BODY
    assert fetched.etag == '"a"'
    _, asked = server.requests[1]
    assert (asked["Range"], asked["If-Range"]) == ("bytes=4000-", '"a"')
    assert asked["If-None-Match"] is None


def test_a_reset_connection_is_resumed_or_restarted(
    server: Loopback, get: Getting
) -> None:
    def after(asked: Message) -> Answer:
        return part(asked, BODY, '"a"') if asked["Range"] else Answer(200, BODY)

    server.script(broken(end="reset"), after)
    get.data(server.url)
    assert get.path.read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_resumption_may_break_again(server: Loopback, get: Getting) -> None:
    def half(asked: Message) -> Answer:
        whole = part(asked, BODY, '"a"')
        return Answer(
            206, whole.body[:3000], whole.headers, len(whole.body), end="close"
        )

    server.script(broken(), half, lambda asked: part(asked, BODY, '"a"'))
    get.data(server.url)
    assert get.path.read_bytes() == BODY
    assert [asked["Range"] for _, asked in server.requests] == [
        None,
        "bytes=4000-",
        "bytes=7000-",
    ]


def test_a_resumption_survives_a_busy_server(server: Loopback, get: Getting) -> None:
    server.script(broken(), Answer(503), lambda asked: part(asked, BODY, '"a"'))
    get.data(server.url)
    assert get.path.read_bytes() == BODY


def test_last_modified_resumes_where_no_etag_does(
    server: Loopback, get: Getting
) -> None:
    said = {"Last-Modified": OLD, "Date": format_datetime(utc_now(), usegmt=True)}

    def rest(asked: Message) -> Answer:
        answer = part(asked, BODY, None)
        return Answer(206, answer.body, {**answer.headers, "Last-Modified": OLD})

    server.script(Answer(200, BODY[:100], said, length=len(BODY), end="close"), rest)
    get.data(server.url)
    assert get.path.read_bytes() == BODY
    assert server.requests[1][1]["If-Range"] == OLD


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_everything_is_read_again(
    server: Loopback, get: Getting, etag: str | None
) -> None:
    server.script(broken(etag), Answer(200, BODY))
    get.data(server.url)
    assert get.path.read_bytes() == BODY
    assert server.requests[1][1]["Range"] is None


def test_a_server_that_ignores_range_is_read_from_the_start(
    server: Loopback, get: Getting
) -> None:
    server.script(broken(), Answer(200, BODY, {"ETag": '"a"'}))
    get.data(server.url)
    assert get.path.read_bytes() == BODY


NEW = bytes(reversed(BODY))


def changed_range(first: int, total: int, etag: str = '"a"') -> Answer:
    return Answer(
        206,
        NEW[first:],
        {"Content-Range": f"bytes {first}-{len(NEW) - 1}/{total}", "ETag": etag},
    )


@pytest.mark.parametrize(
    "second",
    [
        changed_range(4000, len(NEW), etag='"b"'),
        changed_range(3000, len(NEW)),
        changed_range(4000, len(NEW) + 1),
        Answer(206, NEW[4000:], {"ETag": '"a"'}),
        Answer(206, NEW[4000:], {"ETag": '"a"', "Content-Range": "bytes 4000-*/*"}),
        Answer(
            206,
            NEW[4000:5000],
            {
                "ETag": '"a"',
                "Content-Range": f"bytes 4000-{len(NEW) - 1}/{len(NEW)}",
            },
        ),
        Answer(416, b"", {"Content-Range": "bytes */3"}),
    ],
    ids=["etag", "start", "total", "no range", "no total", "length", "416"],
)
def test_what_may_have_changed_meanwhile_is_never_mixed(
    server: Loopback, get: Getting, second: Answer
) -> None:
    server.script(broken(), second, Answer(200, NEW, {"ETag": '"b"'}))
    fetched = get.data(server.url)
    assert get.path.read_bytes() == NEW
    assert fetched.etag == '"b"'
    assert server.requests[2][1]["Range"] is None


def test_a_changed_source_that_answers_200_is_not_mixed(
    server: Loopback, get: Getting
) -> None:
    server.script(broken(), Answer(200, NEW, {"ETag": '"b"'}))
    assert get.data(server.url).etag == '"b"'
    assert get.path.read_bytes() == NEW


def test_another_place_with_the_same_etag_is_not_mixed(
    server: Loopback, get: Getting
) -> None:
    server.at("/one", broken())
    server.at("/two", lambda asked: changed_range(4000, len(NEW)))
    server.at("/three", Answer(200, NEW))
    places = iter(["/one", "/two", "/three"])
    server.script(lambda asked: Answer(302, headers={"Location": next(places)}))
    get.data(server.url)
    assert get.path.read_bytes() == NEW


def test_bytes_behind_the_promise_are_not_data(server: Loopback, get: Getting) -> None:
    excess = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil" * 9
    server.script(Answer(200, BODY + excess, length=len(BODY)))
    get.data(server.url)
    assert get.path.read_bytes() == BODY
    server.script(Answer(200, b"next"))
    get.data(server.url)
    assert get.path.read_bytes() == b"next"


def test_more_than_a_range_promised_is_not_kept(server: Loopback, get: Getting) -> None:
    def too_much(asked: Message) -> Answer:
        headers = {
            **part(asked, BODY, '"a"').headers,
            "Transfer-Encoding": "chunked",
        }
        sent = BODY[4000:] + b"more"
        return Answer(206, b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent), headers)

    server.script(broken(), too_much, Answer(500))
    with pytest.raises(SourceUnavailableError):
        get(server.url)
    assert server.requests[2][1]["Range"] is None
    assert not get.path.exists()


def test_too_little_each_time_is_unavailable(server: Loopback, get: Getting) -> None:
    server.script(broken(None))
    with pytest.raises(SourceUnavailableError) as raised:
        get(server.url)
    assert raised.value.attempts == 4
    assert not get.path.exists()


def test_a_cut_chunked_body_is_not_whole(server: Loopback, get: Getting) -> None:
    cut = Answer(200, b"a\r\n01234", {"Transfer-Encoding": "chunked"}, end="close")
    server.script(cut, Answer(200, BODY))
    get.data(server.url)
    assert get.path.read_bytes() == BODY


def test_a_part_nobody_asked_for_is_completed(server: Loopback, get: Getting) -> None:
    first = Answer(
        206, BODY[:100], {"Content-Range": f"bytes 0-99/{len(BODY)}", "ETag": '"a"'}
    )
    server.script(first, lambda asked: part(asked, BODY, '"a"'))
    get.data(server.url)
    assert get.path.read_bytes() == BODY


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=3), honest=st.booleans())
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=30,
)
def test_however_it_breaks_the_result_is_one_state(
    server: Loopback, get: Getting, cuts: list[int], honest: bool
) -> None:
    """Each connection breaks at a random place; the source may change in between."""
    states = [BODY, NEW, BODY[1:], NEW[:5000]]
    turn = iter(range(9))

    def answer(asked: Message) -> Answer:
        number = next(turn)
        body = BODY if honest else states[number]
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        cut = cuts[number] if number < len(cuts) else len(body)
        end = "close" if cut < len(body) else "keep"
        if asked["Range"] and asked["If-Range"] == etag:
            whole = part(asked, body, etag)
            length = len(whole.body)
            return Answer(206, whole.body[:cut], whole.headers, length, end=end)
        return Answer(200, body[:cut], {"ETag": etag}, len(body), end=end)

    server.script(answer)
    fetched = get.data(server.url)
    assert get.path.read_bytes() in ([BODY] if honest else states)
    assert fetched.etag == f'"{fetched.sha256}"'


# Redirects


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Loopback, get: Getting, status: int) -> None:
    server.at("/old", Answer(status, b"moved", {"Location": "caf\u00e9/new.csv"}))
    server.at("/caf%C3%A9/new.csv", Answer(200, BODY))
    fetched = get.data(server.url + "/old")
    assert fetched.url == server.url + "/old"
    assert fetched.final_url == server.url + "/caf%C3%A9/new.csv"
    assert fetched.file_name == "new.csv"


def test_a_circle_is_seen(server: Loopback, get: Getting) -> None:
    server.at("/a", Answer(302, headers={"Location": "/b"}))
    server.at("/b", Answer(302, headers={"Location": "/a"}))
    with pytest.raises(SourceError, match="circle"):
        get(server.url + "/a")
    assert len(server.requests) == 2


def test_redirects_end(server: Loopback, get: Getting) -> None:
    for number in range(20):
        server.at(f"/{number}", Answer(302, headers={"Location": f"/{number + 1}"}))
    server.at("/10", Answer(200, BODY))
    get.data(server.url + "/0")
    server.at("/10", Answer(302, headers={"Location": "/11"}))
    server.at("/11", Answer(200, BODY))
    with pytest.raises(SourceError, match="more than 10"):
        get(server.url + "/0")


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://h/", "http://user:pw@h/", "http://[x", None],
)
def test_redirects_lead_to_http_only(
    server: Loopback, get: Getting, location: str | None
) -> None:
    server.script(Answer(302, headers={"Location": location} if location else {}))
    with pytest.raises(SourceError, match="redirects") as raised:
        get(server.url)
    assert "pw" not in str(raised.value)


# Addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::1]"])
def test_private_addresses_are_refused(get: Getting, host: str) -> None:
    with pytest.raises(SourceError, match="allow_private_addresses"):
        get(f"http://{host}:1/", policy=STRICT)


def test_no_name_that_cannot_be_one(get: Getting) -> None:
    with pytest.raises(SourceError, match="name of a host"):
        get(f"http://{'a' * 70}.example/", policy=STRICT)


@pytest.fixture
def public_127_0_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 plays a public address, the rest of loopback stays private."""
    judge = addresses.why_refused
    monkeypatch.setattr(
        addresses,
        "why_refused",
        lambda found: None if str(found) == "127.0.0.1" else judge(found),
    )


@pytest.mark.usefixtures("public_127_0_0_1")
def test_a_redirect_to_a_private_address_is_refused(
    server: Loopback, get: Getting
) -> None:
    server.at("/ok", Answer(200, BODY))
    get.data(server.url + "/ok", policy=STRICT)
    inner = f"http://127.0.0.2:{server.port}/secret"
    server.at("/out", Answer(302, headers={"Location": inner}))
    with pytest.raises(SourceError, match=r"127\.0\.0\.2, a loopback address"):
        get(server.url + "/out", policy=STRICT)
    assert "/secret" not in [path for path, _ in server.requests]


@pytest.mark.usefixtures("public_127_0_0_1")
def test_a_name_is_resolved_once_and_that_address_used(
    server: Loopback, get: Getting, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = socket.getaddrinfo, []

    def rebinding(host: str, *rest: object, **options: object) -> object:
        if host == "rebind.test":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return real(host, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    server.script(Answer(200, BODY))
    get.data(f"http://rebind.test:{server.port}/", policy=STRICT)
    assert asked == ["rebind.test"]
    assert server.requests[0][1]["Host"] == f"rebind.test:{server.port}"


@pytest.mark.usefixtures("public_127_0_0_1")
def test_one_private_address_among_public_ones_refuses_the_name(
    server: Loopback, get: Getting, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, server.port))
        for text in ("127.0.0.1", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with pytest.raises(SourceError, match=r"10\.0\.0\.1, a private address"):
        get(f"http://two.test:{server.port}/", policy=STRICT)
    assert server.requests == []


def test_the_next_address_is_tried_when_one_is_dead(
    server: Loopback, get: Getting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "aero.sources.connections.public_addresses",
        lambda host, port, *, url: ["::1", "127.0.0.1"],
    )
    server.script(Answer(200, BODY))
    get.data(f"http://two.test:{server.port}/", policy=STRICT)
    assert get.slept == []


# Logins


@pytest.fixture
def credentials(server: Loopback, tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.touch(mode=0o600)
    path.write_text(f"machine 127.0.0.1:{server.port} login ada password s3cret\n")
    return path


def test_a_login_is_sent_to_its_host_only(
    server: Loopback, get: Getting, credentials: Path
) -> None:
    policy = FetchPolicy(credentials=credentials)
    with loopback() as other:
        other.script(Answer(200, BODY))
        server.script(Answer(302, headers={"Location": other.url + "/x"}))
        get.data(server.url, policy=policy)
        close_connections()
    assert server.requests[0][1]["Authorization"] == "Basic YWRhOnMzY3JldA=="
    assert other.requests[0][1]["Authorization"] is None


def test_credentials_open_to_others_are_refused(
    server: Loopback, get: Getting, credentials: Path
) -> None:
    credentials.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        get(server.url, policy=FetchPolicy(credentials=credentials))
    assert server.requests == []


def test_a_url_with_a_login_is_refused(get: Getting) -> None:
    with pytest.raises(InvalidValueError, match="credentials file") as raised:
        get("http://ada:s3cret@example.org/")
    assert "s3cret" not in str(raised.value)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls") / "both.pem", "named.test")


@pytest.fixture
def tls(certificate: Path) -> Iterator[Loopback]:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    def wrap(plain: socket.socket) -> socket.socket:
        return context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )

    with loopback(wrap) as running:
        running.names = names  # type: ignore[attr-defined]
        yield running
        close_connections()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from aero.sources.connections import _verifying_context

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    _verifying_context.cache_clear()
    yield
    _verifying_context.cache_clear()


@pytest.mark.usefixtures("trusted", "public_127_0_0_1")
@pytest.mark.parametrize("policy", [STRICT, FetchPolicy()], ids=["strict", "open"])
def test_tls_checks_the_name_not_the_address(
    tls: Loopback,
    get: Getting,
    monkeypatch: pytest.MonkeyPatch,
    policy: FetchPolicy,
) -> None:
    resolve_to_loopback(monkeypatch)
    tls.script(Answer(200, BODY))
    get.data(f"https://named.test:{tls.port}/", policy=policy)
    assert tls.names == ["named.test"]  # type: ignore[attr-defined]
    for host in ("other.test", "127.0.0.1"):
        with pytest.raises(SourceError, match="not trusted"):
            get(f"https://{host}:{tls.port}/", policy=policy)
    assert get.slept == []


def test_an_unknown_authority_is_refused(tls: Loopback, get: Getting) -> None:
    with pytest.raises(SourceError, match="SSL_CERT_FILE"):
        get(tls.url)
    assert tls.requests == []


def test_a_broken_handshake_is_tried_again(server: Loopback, get: Getting) -> None:
    with pytest.raises(SourceUnavailableError, match="TLS failed"):
        get(server.url.replace("http:", "https:"))
    assert len(get.slept) == 3


@pytest.mark.usefixtures("trusted")
def test_a_login_is_not_sent_in_the_clear_after_tls(
    tls: Loopback,
    server: Loopback,
    get: Getting,
    credentials: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to_loopback(monkeypatch)
    tls.script(Answer(302, headers={"Location": server.url + "/x"}))
    server.script(Answer(200, BODY))
    url = f"https://named.test:{tls.port}/"
    with pytest.raises(SourceError, match="in the clear"):
        get(url, policy=FetchPolicy(credentials=credentials))
    assert server.requests == []
    get.data(url)


def test_certifi_stands_in_for_a_missing_system_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ssl

    from aero.sources.connections import _verifying_context

    nothing = ssl.DefaultVerifyPaths(None, None, "", "", "", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    _verifying_context.cache_clear()
    context = _verifying_context()
    _verifying_context.cache_clear()
    assert context.cert_store_stats()["x509_ca"] > 50
    assert context.verify_mode == ssl.CERT_REQUIRED


# Big, and many


def test_big_files_take_little_memory(tmp_path: Path) -> None:
    script = """
        import hashlib, resource, sys, threading
        from pathlib import Path
        from aero.sources import fetch
        from tests.loopback import loopback
        size, piece = 96 << 20, bytes(1 << 20)

        import tests.loopback as server
        def do_GET(self):
            self.send_response_only(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            for _ in range(size >> 20):
                self.wfile.write(piece)
        server._Handler.do_GET = do_GET
        def peak():
            # Linux counts into ru_maxrss what the parent had before the exec.
            status = Path("/proc/self/status")
            if status.exists():
                return int(status.read_text().partition("VmHWM:")[2].split()[0])
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with loopback() as running:
            fetch(running.url, Path(sys.argv[1]) / "warm")
            found = fetch(running.url, Path(sys.argv[1]) / "big")
            after = peak()
            from aero.sources.connections import close_connections
            close_connections()
        print(found.size, found.sha256, after)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    size, digest, peak = done.stdout.split()
    assert int(size) == 96 << 20
    with (tmp_path / "big").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == digest
    kilobytes = int(peak) // (1024 if sys.platform == "darwin" else 1)
    assert kilobytes < 80 * 1024


def test_a_fork_has_connections_of_its_own(
    server: Loopback, get: Getting, tmp_path: Path
) -> None:
    from aero.sources import connections

    server.script(Answer(200, BODY))
    get.data(server.url)
    ours = connections._manager()
    assert connections._manager() is ours
    forged = os.getpid() + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: forged)
        assert connections._manager() is not ours
        close_connections()
    assert connections._manager() is ours


def test_threads_share_connections(server: Loopback, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server.script(Answer(200, BODY * 50))

    def one(number: int) -> bytes:
        path = tmp_path / f"{number}"
        HttpSource().fetch(server.url, path)
        return path.read_bytes()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(one, range(12))) == {BODY * 50}
