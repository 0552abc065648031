"""Asking an object what it is without downloading it: HEAD over http and https."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aero.auth.hosts import read_logins
from aero.error import SourceError
from aero.sources.base import FetchPolicy
from aero.sources.connections import discard, parse, shown
from aero.sources.redirects import follow
from aero.sources.retry import Sleep, TryAgainError, insist

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What an object says of itself; `size` in bytes; None where it says nothing."""

    url: str
    etag: str | None
    size: int | None


def head(
    url: str, policy: FetchPolicy | None = None, *, sleep: Sleep = time.sleep
) -> Head:
    """Return the ETag and the size of the object at an http(s) URL.

    Args:
        url: The object; redirects are followed.
        policy: Timeout, attempts, logins and what is allowed; None is the default one.
        sleep: Waits so many seconds between two attempts.

    Raises:
        InvalidValueError: The URL is no http(s) URL.
        SourceError: The answer is not that of an object.
        SourceUnavailableError: No attempt was answered.
        ConfigError: The credentials file cannot be used.
    """
    parts = parse(url)
    rules = policy or FetchPolicy()
    logins = read_logins(rules.credentials) if rules.credentials else {}

    def attempt() -> Head:
        response, _ = follow(parts, {}, policy=rules, logins=logins, method="HEAD")
        discard(response)
        return _head(url, response)

    return insist(
        attempt, url=url, name=shown(url), attempts=rules.attempts, sleep=sleep
    )


def _head(url: str, response: "BaseHTTPResponse") -> Head:
    status = response.status
    if status >= 500 or status == 429:
        raise TryAgainError(f"status {status}", status=status)
    if status != 200:
        raise SourceError(
            f"{shown(url)} answered HEAD with status {status}: correct the URL, or "
            "give the object's etag.",
            url=url,
            status=status,
        )
    size = response.headers.get("Content-Length", "")
    return Head(
        url=url,
        etag=response.headers.get("ETag") or None,
        size=int(size) if size.isascii() and size.isdigit() else None,
    )
