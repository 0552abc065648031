import hashlib

import pytest
import urllib3

from aero.demo.publisher import HEADER, Publisher
from aero.demo.series import file_of, published_rows
from aero.demo.state import load_state
from aero.error import ConflictError

SERIES = {"a.csv": [f"1849-01-{day:02},{day}\n" for day in range(1, 16)]}


@pytest.fixture
def publisher(tmp_path):
    port = load_state(tmp_path).port
    with Publisher(SERIES, week=1, port=port) as made:
        yield made


@pytest.fixture
def ask(publisher):
    """Ask for a path with headers; follow nothing, retry nothing."""
    pool = urllib3.PoolManager(retries=False, timeout=10)

    def request(path="a.csv", method="GET", **headers):
        url = publisher.urls()[0].replace("a.csv", path)
        return pool.request(method, url, headers=headers)

    yield request
    pool.clear()


def expected(days):
    return (HEADER + "".join(SERIES["a.csv"][:days])).encode()


def test_a_week_and_a_day_are_published_at_first_and_a_week_more_each_time(
    publisher, ask
):
    assert ask().data == expected(8)
    assert publisher.last_day() == "1849-01-08"
    assert not publisher.complete
    publisher.advance()
    assert ask().data == expected(15)
    assert publisher.last_day() == "1849-01-15"
    assert publisher.complete


def test_the_etag_is_strong_and_changes_with_the_bytes_only(publisher, ask):
    first, again = ask(), ask()
    assert first.headers["ETag"] == again.headers["ETag"]
    assert first.headers["ETag"].startswith('"')
    assert first.headers["Last-Modified"].endswith("GMT")
    publisher.advance()
    assert ask().headers["ETag"] != first.headers["ETag"]


@pytest.mark.parametrize("asked", ["{}", 'W/{}, "x"', '"x", {}', "*"])
def test_an_unchanged_file_is_not_transferred_and_counted(publisher, ask, asked):
    etag = ask().headers["ETag"]
    answer = ask(**{"If-None-Match": asked.format(etag)})
    assert (answer.status, answer.data) == (304, b"")
    assert answer.headers["ETag"] == etag
    assert publisher.unchanged == {"a.csv": 1}


def test_a_changed_file_is_transferred(publisher, ask):
    etag = ask().headers["ETag"]
    publisher.advance()
    answer = ask(**{"If-None-Match": etag})
    assert (answer.status, answer.data) == (200, expected(15))
    assert publisher.unchanged == {"a.csv": 0}


def test_head_says_what_get_would_without_the_bytes(ask):
    get, head = ask(), ask(method="HEAD")
    assert head.data == b""
    for name in ("ETag", "Content-Length", "Content-Type", "Last-Modified"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=5-", slice(5, None)),
        ("bytes=0-0", slice(0, 1)),
        ("bytes=3-9999", slice(3, None)),
        ("bytes=-7", slice(-7, None)),
    ],
)
def test_a_range_is_answered_with_that_part(ask, asked, part):
    answer = ask(Range=asked)
    body = expected(8)
    assert (answer.status, answer.data) == (206, body[part])
    first, last, _ = part.indices(len(body))
    assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(body)}"


@pytest.mark.parametrize("asked", ["bytes=9999-", "bytes=-0"])
def test_a_range_beyond_the_end_cannot_be_satisfied(ask, asked):
    answer = ask(Range=asked)
    assert answer.status == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(expected(8))}"


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=1-2,4-5", "lines=1-"])
def test_a_range_that_is_not_understood_is_ignored(ask, asked):
    answer = ask(Range=asked)
    assert (answer.status, answer.data) == (200, expected(8))


def test_a_range_of_another_state_of_the_file_gets_all_of_it(publisher, ask):
    etag = ask().headers["ETag"]
    same = ask(**{"Range": "bytes=4-", "If-Range": etag})
    assert same.status == 206
    publisher.advance()
    other = ask(**{"Range": "bytes=4-", "If-Range": etag})
    assert (other.status, other.data) == (200, expected(15))


def test_another_path_is_not_found(ask):
    assert ask("b.csv").status == 404


def test_the_hashes_are_those_of_the_bytes_served(publisher, ask):
    assert publisher.sha256s() == {hashlib.sha256(ask().data).hexdigest()}


def test_a_taken_port_is_one_sentence(publisher):
    port = int(publisher.urls()[0].split(":")[2].split("/")[0])
    with pytest.raises(ConflictError, match="is taken: end the program") as caught:
        Publisher(SERIES, week=1, port=port)
    assert caught.value.port == port


def test_the_demos_series_are_two_whole_years_of_whole_weeks():
    rows = published_rows()
    assert set(rows) == {file_of("cholera"), file_of("diarrhoea")}
    for lines in rows.values():
        assert len(lines) == 365 == 7 * 52 + 1
        assert lines == sorted(lines)
        assert lines[0].startswith("1849-01-01,")
        assert lines[-1].startswith("1849-12-31,")
