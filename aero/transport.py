"""How the client talks to its server: one place for connections, retries and errors."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Retry, Timeout, parse_url

from aero import error as errors
from aero.config.private import token_text
from aero.config.settings import is_loopback, masked
from aero.error import ClientError, InvalidValueError, ServerError, StorageError
from aero.types import Json

_CONNECT = 10.0
_RETRIES = 5
_BACKOFF = 0.2
_LONGEST_WAIT = 30
_BUSY = (429, 502, 503, 504)
_CHUNK = 1 << 18

Token = str | Callable[[], str]

_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')


class Transport:
    """Requests to one server; what it answers is JSON, its problems are raised.

    Args:
        url: The server's.
        token: Sent as a bearer token, never shown; or what returns the token to send.
        timeout: Seconds to wait for an answer.
        agent: What asks, as `User-Agent` says it.

    Raises:
        InvalidValueError: The token cannot be sent, or not so that only the server
            reads it.
    """

    def __init__(
        self, url: str, *, token: Token | None, timeout: float, agent: str
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = {"User-Agent": agent}
        self._token = _sendable(token) if isinstance(token, str) else token
        if token is not None:
            _refuse_clear(self.url)
        self._pool = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            timeout=Timeout(connect=_CONNECT, read=timeout),
            maxsize=10,
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.clear()

    def get(self, path: str, **params: Any) -> Any:
        """Return what is at `path`."""
        return self._answer(self._request("GET", self.url + path, params))

    def delete(self, path: str, *, key: str) -> Any:
        """Delete what is at `path`; return the answer, the same for the same `key`."""
        headers = {"Idempotency-Key": key}
        return self._answer(self._request("DELETE", self.url + path, headers=headers))

    def post(self, path: str, body: Json | None = None, *, key: str) -> Any:
        """Send `body`; with the same `key` it counts once, so that it can be resent."""
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        return self._answer(
            self._request(
                "POST",
                self.url + path,
                body=json.dumps(body or {}).encode(),
                headers=headers,
            )
        )

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """Yield the records of a list, page after page."""
        response = self._request("GET", self.url + path, params)
        while True:
            yield from self._answer(response)
            following = _NEXT.search(response.headers.get("Link", ""))
            if following is None:
                return
            # As this server is reached from here, whatever it calls itself.
            query = following.group(1).partition("?")[2]
            response = self._request("GET", f"{self.url}{path}?{query}")

    def download(self, path: str, target: Path, sha256: str) -> None:
        """Write the bytes at `path` to `target`, all of them verified or none.

        Raises:
            StorageError: They are not those of `sha256`.
        """
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        digest = hashlib.sha256()
        try:
            response = self._request("GET", self.url + path, stream=True)
            with part.open("wb") as file:
                for chunk in response.stream(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise StorageError(
                    f"What {self.url} sent is not what was stored: ask again."
                )
            part.replace(target)
        except HTTPError as error:
            # The server breaks off, too, where it finds that its file is damaged.
            raise StorageError(
                f"What {self.url} sent broke off ({type(error).__name__}): ask again, "
                "and look at the server's log if that does not help."
            ) from error
        finally:
            part.unlink(missing_ok=True)

    def _request(
        self,
        method: str,
        url: str,
        params: Mapping[str, Any] | None = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        stream: bool = False,
    ) -> Any:
        token = self._token() if callable(self._token) else self._token
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        given = {k: str(v) for k, v in (params or {}).items() if v is not None}
        try:
            response = self._pool.request(
                method,
                url,
                fields=given or None,
                body=body,
                headers={**self._headers, **bearer, **(headers or {})},
                retries=_retries(),
                redirect=False,
                preload_content=not stream,
            )
        except HTTPError as error:
            raise self._unreachable(error) from error
        if response.status >= 400:
            raise _error(response)
        if response.status >= 300:
            raise self._elsewhere(response)
        return response

    def _answer(self, response: Any) -> Any:
        try:
            return json.loads(response.data)
        except ValueError as error:
            raise ServerError(
                f"{self.url} did not answer as aero does: check the server_url.",
                url=self.url,
            ) from error

    def _elsewhere(self, response: Any) -> ServerError:
        # Whoever that is, the token is not theirs.
        place = masked(str(response.headers.get("Location"))).partition("?")[0]
        return ServerError(
            f"{self.url} sends its callers to {place[:200]}, which is not followed: "
            "set server_url to where aero is served.",
            url=self.url,
        )

    def _unreachable(self, error: HTTPError) -> ServerError:
        reason = getattr(error, "reason", None) or error
        return ServerError(
            f"The server {self.url} cannot be reached ({type(reason).__name__}): check "
            "the server_url and whether 'aero serve' runs there.",
            url=self.url,
        )


def _refuse_clear(url: str) -> None:
    """Refuse to send a token where whoever is in between can read it."""
    try:
        parts = parse_url(url)
    except HTTPError:
        raise InvalidValueError(
            f"{masked(url)} is not the URL of a server: write https://HOST[:PORT]."
        ) from None
    host = (parts.host or "").strip("[]")
    if parts.scheme != "https" and not is_loopback(host):
        raise InvalidValueError(
            f"The token would cross the network to {host} for everybody to read: "
            "write https:// into server_url, and serve with --certificate."
        )


def _sendable(token: str) -> str:
    try:
        return token_text(token)
    except (TypeError, ValueError) as error:
        # Unlike what the HTTP library would say, this does not quote it.
        raise InvalidValueError(f"The token cannot be sent: {error}") from None


class _Patience(Retry):
    """Waits as long as the server asks it to, within reason."""

    def parse_retry_after(self, retry_after: str) -> float:
        return min(super().parse_retry_after(retry_after), _LONGEST_WAIT)


def _retries() -> Retry:
    # Every request of ours counts once however often it is sent: what is not safe by
    # its method carries a key.
    return _Patience(
        total=_RETRIES,
        redirect=0,
        backoff_factor=_BACKOFF,
        backoff_max=_LONGEST_WAIT,
        backoff_jitter=_BACKOFF,
        status_forcelist=_BUSY,
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=True,
    )


def _error(response: Any) -> Exception:
    """Return the error that a problem tells of, of the class that raised it there."""
    try:
        problem = json.loads(response.data)
        name, detail = str(problem["type"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        return ServerError(
            f"The server answered {response.status}: check the server_url.",
            code=response.status,
        )
    if name == "urn:aero:timeout":
        return TimeoutError(detail)
    kind = _KINDS.get(name)
    facts = problem.get("facts") or {}
    if kind is None:
        return ServerError(detail, code=response.status, **facts)
    if issubclass(kind, ClientError):
        return kind(detail, code=response.status, **facts)
    return kind(detail, **facts)


_KINDS: dict[str, type[errors.AeroError]] = {
    errors.urn(kind): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.AeroError)
}
