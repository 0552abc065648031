"""What HTTP headers mean: pure functions from text to values."""

import mimetypes
import re
import unicodedata
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from aero.clock import utc_now

UNKNOWN_TYPE = "application/octet-stream"
LONGEST_NAME = 200
"""Bytes of UTF-8; file systems take 255, and others add a prefix."""

_PARAMETER = re.compile(
    r""";\s*([\w!#$%&'*+.^`|~-]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;\s]*)""", re.ASCII
)
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}", re.ASCII)
_CHARSET = re.compile(r"[\w.:+-]{1,40}", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+)", re.ASCII)
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}


class ContentRange(NamedTuple):
    """Which bytes of how many: `first` and `last` count from 0 and are included."""

    first: int
    last: int
    total: int


def utf8(value: str) -> str:
    """Return a header as its sender meant it: UTF-8 that was read as Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def content_type(value: str | None) -> tuple[str | None, str | None]:
    """Return media type and charset of a Content-Type, None where it has none."""
    if not value:
        return None, None
    media_type = value.partition(";")[0].strip().lower()
    charset = _parameters(value).get("charset", "").lower()
    return (
        media_type if _MEDIA_TYPE.fullmatch(media_type) else None,
        charset if _CHARSET.fullmatch(charset) else None,
    )


def guessed_type(file_name: str) -> str:
    """Return the media type that a file's name suggests, the same everywhere."""
    media_type, compression = _builtin_types().guess_type(file_name)
    if compression is not None:
        return _COMPRESSED.get(compression, UNKNOWN_TYPE)
    return media_type or UNKNOWN_TYPE


def file_name(disposition: str | None, url: str) -> str:
    """Return a safe name: the one the server gives, else the URL's, else 'data'."""
    given = _parameters(utf8(disposition)) if disposition else {}
    last_segment = urlsplit(url).path.rpartition("/")[2]
    candidates = (
        _extended(given.get("filename*", "")),
        given.get("filename", ""),
        unquote(last_segment),
    )
    names = (safe_name(candidate) for candidate in candidates)
    return next((name for name in names if name), "data")


def safe_name(candidate: str) -> str:
    """Return the last part of a path that can be a file's name, '' if none can."""
    base = re.split(r"[/\\]", candidate)[-1]
    visible = "".join(c for c in base if not unicodedata.category(c).startswith("C"))
    name = visible.strip()
    if name in {".", ".."}:
        return ""
    return _shortened(name)


def named_like(path: str, default: str) -> dict[str, str]:
    """Return the file name and media type that the last part of a path suggests."""
    file_name = safe_name(path.rpartition("/")[2]) or default
    return {"file_bn": file_name, "media_type": guessed_type(file_name)}


def bare_etag(etag: str | None) -> str | None:
    """Return an ETag without its quotes: services send the same one either way."""
    return None if etag is None else etag.strip().strip('"')


def content_range(value: str | None) -> ContentRange | None:
    """Return a Content-Range of bytes with a known total, None for any other."""
    match = _CONTENT_RANGE.fullmatch(value.strip()) if value else None
    if match is None:
        return None
    found = ContentRange(*map(int, match.groups()))
    return found if found.first <= found.last < found.total else None


def retry_after(value: str | None) -> float | None:
    """Return the seconds a Retry-After asks for, in either of its forms."""
    if not value:
        return None
    if re.fullmatch(r"\d{1,9}", value.strip(), re.ASCII):
        return float(value)
    moment = _http_date(value)
    return None if moment is None else (moment - utc_now()).total_seconds()


def resume_validator(
    etag: str | None, last_modified: str | None, date: str | None
) -> str | None:
    """Return what an If-Range may carry: a validator that pins every byte.

    A weak ETag does not. A Last-Modified does only if the answer is at least a second
    younger, since the clock it is read from ticks in seconds (RFC 9110, 8.8.2.2).
    """
    if etag is not None and etag.startswith('"') and sendable(etag):
        return etag
    changed, answered = _http_date(last_modified), _http_date(date)
    if changed is None or answered is None:
        return None
    return last_modified if answered - changed >= timedelta(seconds=1) else None


def sendable(value: str) -> bool:
    """Whether a header may carry `value` back: one line of Latin-1."""
    return value.isprintable() and all(character <= "\xff" for character in value)


def _http_date(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else None


def _parameters(value: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, text in _PARAMETER.findall(value):
        plain = re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text
        found.setdefault(name.lower(), plain)
    return found


def _extended(value: str) -> str:
    """Return the text of an RFC 8187 value: charset'language'percent-encoded."""
    charset, _, rest = value.partition("'")
    text = rest.partition("'")[2]
    if charset.lower() not in {"utf-8", "iso-8859-1"}:
        return ""
    return unquote(text, encoding=charset, errors="replace")


def _shortened(name: str) -> str:
    if len(name.encode()) <= LONGEST_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    ending = f"{dot}{extension}" if stem and len(extension.encode()) <= 20 else ""
    room = LONGEST_NAME - len(ending.encode())
    return name.encode()[:room].decode(errors="ignore").rstrip() + ending


@cache
def _builtin_types() -> mimetypes.MimeTypes:
    return mimetypes.MimeTypes()
