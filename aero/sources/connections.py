"""One HTTP exchange: connections that are kept, verified and judged.

urllib3 is imported at the first request, and its errors end here.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from aero.error import InvalidValueError, SourceError
from aero.sources.addresses import public_addresses
from aero.sources.retry import TryAgainError

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager
    from urllib3.util import Url

DEFAULT_PORTS = {"http": 80, "https": 443}
SMALL_BODY = 1 << 16
"""Bytes worth reading to the end of a refusal, so that the connection is kept."""

_managers: dict[int, "PoolManager"] = {}


def close_connections() -> None:
    """Close the connections that this process keeps open for the next request."""
    manager = _managers.pop(os.getpid(), None)
    if manager is not None:
        manager.clear()


def parse(url: str) -> "Url":
    """Return the parts of an http(s) URL, percent-encoded where that was missing.

    Raises:
        InvalidValueError: It is not one, or it carries a password.
    """
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url

    try:
        parts = parse_url(url)
    except LocationParseError as error:
        raise InvalidValueError(
            f"{shown(url)} is not a URL that can be downloaded: write "
            "http(s)://HOST/PATH."
        ) from error
    if parts.auth is not None:
        raise InvalidValueError(
            f"The URL of {parts.host} carries a login: write it without USER:PASSWORD@ "
            "and put the login into the credentials file."
        )
    if parts.scheme not in DEFAULT_PORTS or not parts.host:
        raise InvalidValueError(
            f"{shown(url)} is not a URL that can be downloaded: write "
            "http(s)://HOST/PATH."
        )
    return parts._replace(fragment=None)


def port_of(parts: "Url") -> int:
    """Return the TCP port of a URL that `parse` returned."""
    return parts.port or DEFAULT_PORTS[parts.scheme or "http"]


def shown(url: str) -> str:
    """Return a URL for a message: without login and query, which may hold secrets."""
    head, query, _ = url.partition("?")
    scheme, separator, rest = head.partition("://")
    place, slash, path = rest.partition("/")
    return (
        f"{scheme}{separator}{place.rpartition('@')[2]}{slash}{path}"
        f"{'?...' if query else ''}"
    )


def exchange(
    parts: "Url",
    headers: Mapping[str, str],
    *,
    timeout: float,
    allow_private: bool,
    method: str = "GET",
    body: bytes | None = None,
) -> "BaseHTTPResponse":
    """Send a request and return the answer, its body still to be read.

    Args:
        parts: A URL that `parse` returned.
        headers: Sent as they are, beside Host.
        timeout: Seconds, to connect and between two reads.
        allow_private: Whether addresses go unjudged.
        method: GET, HEAD or POST.
        body: What is posted.

    Raises:
        SourceError: The address is refused or the certificate is not trusted.
        TryAgainError: No answer came.
    """
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    host, port, url = (parts.host or "").strip("[]"), port_of(parts), str(parts)
    places = [host] if allow_private else public_addresses(host, port, url=url)
    with translated(url):
        for place in places[:-1]:
            try:
                return _ask(method, place, parts, headers, timeout, body=body)
            except (ConnectTimeoutError, NewConnectionError):
                continue
        return _ask(method, places[-1], parts, headers, timeout, body=body)


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn urllib3's errors into ours.

    Raises:
        SourceError: The certificate is not trusted, which no second try changes.
        TryAgainError: Anything else that broke the exchange.
    """
    from urllib3.exceptions import HTTPError, SSLError

    try:
        yield
    except SSLError as error:
        cause = error.args[0] if error.args else None
        # Both kinds of failed verification are ValueErrors; a broken handshake is not.
        if not isinstance(cause, ValueError):
            raise TryAgainError(f"TLS failed ({cause})") from error
        raise SourceError(
            f"The certificate of {shown(url)} is not trusted ({cause}): correct the "
            "URL or name your certificate authorities in SSL_CERT_FILE.",
            url=url,
        ) from error
    except HTTPError as error:
        raise TryAgainError(_reason(error)) from error


def discard(response: "BaseHTTPResponse") -> None:
    """Be done with an answer whose body is of no interest."""
    from urllib3.exceptions import HTTPError

    try:
        response.read(SMALL_BODY, decode_content=False)
    except HTTPError:
        pass
    finally:
        response.close()


def _ask(
    method: str,
    place: str,
    parts: "Url",
    headers: Mapping[str, str],
    timeout: float,
    *,
    body: bytes | None,
) -> "BaseHTTPResponse":
    from urllib3 import Timeout

    pool = _manager().connection_from_host(
        place, port_of(parts), parts.scheme, pool_kwargs=_tls(parts)
    )
    return pool.urlopen(
        method,
        parts.request_uri,
        body=body,
        headers={"Host": parts.netloc or "", **headers},
        retries=False,
        redirect=False,
        timeout=Timeout(connect=timeout, read=timeout),
        preload_content=False,
        decode_content=False,
    )


def _tls(parts: "Url") -> dict[str, Any] | None:
    """Keep SNI and the certificate's check on the name, whatever address is used."""
    if parts.scheme != "https":
        return None
    return {
        "ssl_context": _verifying_context(),
        "server_hostname": (parts.host or "").strip("[]").rstrip("."),
    }


def _manager() -> "PoolManager":
    # One per process: a connection that a fork shares would mix two conversations.
    # The parent's stays referenced in the child, which must not close its sockets.
    manager = _managers.get(os.getpid())
    if manager is None:
        from urllib3 import PoolManager

        manager = _managers.setdefault(os.getpid(), PoolManager(32, maxsize=8))
    return manager


@cache
def _verifying_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    known = ssl.get_default_verify_paths()
    if known.cafile is None and known.capath is None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _reason(error: Exception) -> str:
    from http.client import IncompleteRead

    from urllib3.exceptions import (
        ConnectTimeoutError,
        NewConnectionError,
        ReadTimeoutError,
    )

    cause = error.__cause__ or error.__context__ or error
    told = getattr(cause, "strerror", None) or type(cause).__name__
    # To urllib3 what was refused at once is a timeout, too.
    if isinstance(error, NewConnectionError):
        return f"no connection ({told})"
    if isinstance(error, ConnectTimeoutError):
        return "no connection within the timeout"
    if isinstance(error, ReadTimeoutError):
        return "no answer within the timeout"
    if isinstance(cause, IncompleteRead):
        return "the connection broke"
    return f"the connection broke ({told})"
