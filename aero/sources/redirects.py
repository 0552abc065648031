"""Following redirects: every target is judged anew, and logins stay with their host."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from aero.auth.hosts import Login, login_for
from aero.error import SourceError
from aero.sources.base import FetchPolicy
from aero.sources.connections import discard, exchange, parse, port_of, shown
from aero.sources.headers import utf8

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.util import Url

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10

_ALWAYS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "aero"}


def follow(
    start: "Url",
    headers: Mapping[str, str],
    *,
    policy: FetchPolicy,
    logins: Mapping[str, Login],
    method: str = "GET",
) -> tuple["BaseHTTPResponse", str]:
    """Return the first answer that is not a redirect, and the URL that gave it.

    Args:
        start: Where to ask first.
        headers: What to ask with, beside what every request has.
        policy: Its timeout and which addresses it allows.
        logins: By host; each is sent to its own host only.
        method: GET or HEAD.

    Raises:
        SourceError: The redirects lead nowhere, or to where they may not.
        TryAgainError: No answer came.
    """
    parts, visited, by_tls = start, [str(start)], start.scheme == "https"
    while True:
        response = exchange(
            parts,
            {**_ALWAYS, **headers, **_authorization(parts, logins, by_tls=by_tls)},
            timeout=policy.timeout,
            allow_private=policy.allow_private_addresses,
            method=method,
        )
        if response.status not in REDIRECTS:
            return response, visited[-1]
        discard(response)
        parts = _target(response, visited)
        visited.append(str(parts))
        by_tls = by_tls or parts.scheme == "https"


def _target(response: "BaseHTTPResponse", visited: list[str]) -> "Url":
    location = response.headers.get("Location")
    if not location:
        raise _error(response, visited, "redirects without saying where to")
    try:
        target = parse(urljoin(visited[-1], utf8(location)))
    except ValueError as error:
        raise _error(response, visited, "redirects to no http(s) URL") from error
    if str(target) in visited:
        raise _error(response, visited, "redirects in a circle")
    if len(visited) > MAX_REDIRECTS:
        raise _error(response, visited, f"redirects more than {MAX_REDIRECTS} times")
    return target


def _authorization(
    parts: "Url", logins: Mapping[str, Login], *, by_tls: bool
) -> dict[str, str]:
    login = login_for(logins, parts.host or "", port_of(parts))
    if login is None:
        return {}
    if by_tls and parts.scheme != "https":
        raise SourceError(
            f"A redirect from https to {shown(str(parts))} would send a login in the "
            f"clear: correct the URL or remove the login of {parts.host}.",
            url=str(parts),
        )
    return {"Authorization": login.authorization()}


def _error(response: "BaseHTTPResponse", visited: list[str], what: str) -> SourceError:
    return SourceError(
        f"{shown(visited[0])} {what}: correct the URL.",
        url=visited[0],
        status=response.status,
    )
