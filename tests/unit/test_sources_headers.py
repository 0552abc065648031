from datetime import timedelta
from email.utils import format_datetime
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.clock import utc_now
from aero.sources.headers import (
    LONGEST_NAME,
    ContentRange,
    content_range,
    content_type,
    file_name,
    guessed_type,
    resume_validator,
    retry_after,
    safe_name,
    sendable,
    utf8,
)

URL = "http://h/a/last.csv?x=1"


@given(st.text() | st.text("./\\\0\n\u202eab"))
def test_a_safe_name_is_one_visible_part_of_a_path(candidate: str) -> None:
    name = safe_name(candidate)
    assert len(name.encode()) <= LONGEST_NAME
    assert name not in {".", ".."}
    assert not set(name) & set("/\\\0\n\r\u202e")
    assert name == name.strip()
    assert safe_name(name) == name


@given(st.text(), st.text())
def test_whatever_is_sent_there_is_a_name(disposition: str, segment: str) -> None:
    name = file_name(disposition, "http://h/" + quote(segment, safe=""))
    assert name
    assert "/" not in name


@pytest.mark.parametrize(
    ("disposition", "expected"),
    [
        (None, "last.csv"),
        ("", "last.csv"),
        ("inline", "last.csv"),
        ("attachment; filename=a.csv", "a.csv"),
        ('attachment; FileName="a b.csv"', "a b.csv"),
        (r'attachment; filename="a\"b.csv"', 'a"b.csv'),
        ("attachment; filename=plain; filename*=UTF-8''%e2%82%ac.csv", "€.csv"),
        ("attachment; filename*=iso-8859-1'en'%A3.csv", "£.csv"),
        ("attachment; filename*=utf-7''x; filename=plain", "plain"),
        ("attachment; filename*=nonsense", "last.csv"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ("attachment; filename*=UTF-8''..%2F..%2Fpasswd", "passwd"),
        (r'attachment; filename="C:\\x\\a.csv"', "a.csv"),
        ('attachment; filename=".."', "last.csv"),
        ('attachment; filename="a\x00\x1bb.csv"', "ab.csv"),
        ('attachment; filename=""', "last.csv"),
        ('attachment; filename="caf\u00c3\u00a9.csv"', "café.csv"),
    ],
)
def test_the_name_a_server_gives(disposition: str | None, expected: str) -> None:
    assert file_name(disposition, URL) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/caf%C3%A9.csv", "café.csv"),
        ("http://h/", "data"),
        ("http://h", "data"),
        ("http://h/..%2f..", "data"),
        ("http://h/a/%2e%2e", "data"),
        ("http://h/a;b", "a;b"),
    ],
)
def test_the_name_in_a_url(url: str, expected: str) -> None:
    assert file_name(None, url) == expected


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_name("é" * 300 + ".csv").endswith("é.csv")
    assert safe_name("a" * 300) == "a" * LONGEST_NAME
    assert safe_name("a." + "b" * 300) == "a." + "b" * (LONGEST_NAME - 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (None, None)),
        ("", (None, None)),
        ("Text/CSV", ("text/csv", None)),
        ("text/csv; charset=UTF-8", ("text/csv", "utf-8")),
        ('text/csv;charset="latin1"; header=present', ("text/csv", "latin1")),
        ("nonsense", (None, None)),
        ("; charset=utf-8", (None, "utf-8")),
        ("text/csv; charset=a\x00b", ("text/csv", None)),
    ],
)
def test_content_types(
    value: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert content_type(value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.xz", "application/x-xz"),
        ("a.csv.Z", "application/octet-stream"),
        ("a", "application/octet-stream"),
        ("a.unheard", "application/octet-stream"),
    ],
)
def test_types_by_name(name: str, expected: str) -> None:
    assert guessed_type(name) == expected


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99))
def test_a_content_range_lies_in_its_whole(first: int, last: int, total: int) -> None:
    found = content_range(f"bytes {first}-{last}/{total}")
    sound = first <= last < total
    assert found == (ContentRange(first, last, total) if sound else None)


@pytest.mark.parametrize("value", [None, "", "bytes */9", "bytes 0-1/*", "lines 0-1/2"])
def test_other_content_ranges_say_nothing(value: str | None) -> None:
    assert content_range(value) is None


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-3", "1.5", "Mon, 99 Foo 2020 00:00:00 GMT"]
)
def test_a_retry_after_that_says_nothing(value: str | None) -> None:
    assert retry_after(value) is None


def test_a_retry_after_in_seconds_or_as_a_date() -> None:
    assert retry_after(" 120 ") == 120
    later = retry_after(format_datetime(utc_now() + timedelta(hours=1), usegmt=True))
    assert later is not None
    assert 3500 < later <= 3600


NOON = "Mon, 01 Jan 2024 12:00:00 GMT"
LATER = "Mon, 01 Jan 2024 12:00:01 GMT"


@pytest.mark.parametrize(
    ("etag", "last_modified", "date", "expected"),
    [
        ('"a"', NOON, LATER, '"a"'),
        ('W/"a"', NOON, LATER, NOON),
        ('"\u2603"', None, None, None),
        (None, NOON, LATER, NOON),
        (None, NOON, NOON, None),
        (None, NOON, None, None),
        (None, "yesterday", LATER, None),
        (None, NOON.replace("GMT", "-0000"), LATER, None),
        (None, None, LATER, None),
    ],
)
def test_only_what_pins_every_byte_resumes(
    etag: str | None,
    last_modified: str | None,
    date: str | None,
    expected: str | None,
) -> None:
    assert resume_validator(etag, last_modified, date) == expected


def test_headers_in_utf8_are_read_as_meant() -> None:
    assert utf8("café".encode().decode("latin-1")) == "café"
    assert utf8("caf\u00e9") == "café"
    assert utf8("\u2603") == "\u2603"


def test_what_a_header_can_carry() -> None:
    assert sendable('"caf\u00e9"')
    assert not sendable("a\r\nEvil: yes")
    assert not sendable("\u2603")
