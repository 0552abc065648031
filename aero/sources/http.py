"""Downloads over http and https.

One download is a series of attempts. Each asks for what is still missing, and only
goes on where an earlier one broke off if the source proves that it is still the same.
Bytes behind a message's Content-Length are not part of it: they are never stored, and
the connection that carried them is not used again.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from aero.auth.hosts import Login, read_logins
from aero.clock import utc_now
from aero.error import SourceError
from aero.sources import headers as meaning
from aero.sources.answer import Answer
from aero.sources.base import CHUNK, FetchPolicy, Progress
from aero.sources.connections import discard, parse, shown, translated
from aero.sources.redirects import follow
from aero.sources.retry import Sleep, TryAgainError, insist
from aero.sources.sink import Sink
from aero.types import Fetched, NotModified, Validators

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.util import Url

OK, PARTIAL, NOT_MODIFIED, OUT_OF_RANGE = 200, 206, 304, 416
PASSING = frozenset({408, 425, 429})

_ADVICE = {
    401: "put a login for this host into the credentials file",
    403: "ask its owner for access",
    404: "correct the URL",
    410: "it was withdrawn, look for its successor",
}


class HttpSource:
    """The `Source` of http and https URLs.

    Args:
        sleep: Waits so many seconds between two attempts.
    """

    schemes = ("http", "https")

    def __init__(self, *, sleep: Sleep = time.sleep) -> None:
        self._sleep = sleep

    def fetch(
        self,
        url: str,
        path: Path,
        *,
        previous: Validators | None = None,
        policy: FetchPolicy | None = None,
        progress: Progress | None = None,
    ) -> Fetched | NotModified:
        """Bring the bytes of `url` to `path`; the contract is `Source.fetch`'s."""
        parts = parse(url)
        policy = policy or FetchPolicy()
        logins = read_logins(policy.credentials) if policy.credentials else {}
        with Sink(path) as sink:
            download = _Download(
                url=url,
                parts=parts,
                previous=previous or Validators(),
                policy=policy,
                logins=logins,
                sink=sink,
                progress=progress,
            )
            return insist(
                download.attempt,
                url=url,
                name=shown(url),
                attempts=policy.attempts,
                sleep=self._sleep,
            )


class _Download:
    """The state of one download between its attempts."""

    def __init__(
        self,
        *,
        url: str,
        parts: "Url",
        previous: Validators,
        policy: FetchPolicy,
        logins: Mapping[str, Login],
        sink: Sink,
        progress: Progress | None,
    ) -> None:
        self.url = url
        self.parts = parts
        self.previous = previous
        self.policy = policy
        self.logins = logins
        self.sink = sink
        self.progress = progress
        self.answer: Answer | None = None

    def attempt(self) -> Fetched | NotModified:
        """Ask once, and take what comes.

        Raises:
            TryAgainError: Something broke; what was received so far is kept.
        """
        resumption = self._resumption()
        conditions = {} if resumption else self._conditions()
        response, final_url = follow(
            self.parts,
            resumption or conditions,
            policy=self.policy,
            logins=self.logins,
        )
        if response.status == NOT_MODIFIED and conditions:
            discard(response)
            return self._not_modified(response)
        if response.status not in {OK, PARTIAL}:
            discard(response)
            self._give_up(response, final_url)
        try:
            self.answer = self._accept(response, final_url)
            self._receive(response, self.answer)
        finally:
            response.close()
        return self._fetched(self.answer)

    def _resumption(self) -> dict[str, str]:
        if not self.sink.size or self.answer is None or not self.answer.resume_with:
            return {}
        return {
            "Range": f"bytes={self.sink.size}-",
            "If-Range": self.answer.resume_with,
        }

    def _conditions(self) -> dict[str, str]:
        conditions = {
            "If-None-Match": self.previous.etag,
            "If-Modified-Since": self.previous.last_modified,
        }
        return {
            name: value
            for name, value in conditions.items()
            if value and meaning.sendable(value)
        }

    def _accept(self, response: "BaseHTTPResponse", final_url: str) -> Answer:
        """Return whose bytes follow; the sink is where they go on.

        Raises:
            TryAgainError: They are not the ones asked for; the sink is empty again.
        """
        if response.status == OK:
            self._forget()
            return Answer.of(response, final_url, response.length_remaining)
        part = meaning.content_range(response.headers.get("Content-Range"))
        known = self.answer
        if part is not None and part.first == self.sink.size:
            later = Answer.of(response, final_url, part.total)
            length = response.length_remaining
            whole = length in (None, part.last - part.first + 1)
            if whole and (not self.sink.size or (known and known.goes_on_in(later))):
                return known if self.sink.size and known else later
        self._forget()
        raise TryAgainError("the source changed while it was read", status=PARTIAL)

    def _receive(self, response: "BaseHTTPResponse", answer: Answer) -> None:
        self._check_size(answer.total or 0)
        try:
            with translated(answer.url):
                self._pour(response, answer)
        except TryAgainError as error:
            whole = "" if answer.total is None else f" of {answer.total}"
            raise TryAgainError(
                f"{error} after {self.sink.size}{whole} bytes"
            ) from error
        if answer.total is None or self.sink.size == answer.total:
            return
        received = self.sink.size
        if received > answer.total:
            self._forget()
        raise TryAgainError(f"{received} bytes came instead of {answer.total}")

    def _pour(self, response: "BaseHTTPResponse", answer: Answer) -> None:
        while piece := response.read1(CHUNK):
            self._check_size(self.sink.size + len(piece))
            self.sink.write(piece)
            if self.progress is not None:
                self.progress(self.sink.size, answer.total)

    def _check_size(self, size: int) -> None:
        limit = self.policy.max_size
        if limit is not None and size > limit:
            raise SourceError(
                f"{shown(self.url)} is larger than the limit of {limit} bytes: raise "
                "max_download to fetch it.",
                url=self.url,
                size=size,
                max_size=limit,
            )

    def _forget(self) -> None:
        self.answer = None
        if self.sink.size:
            self.sink.restart()

    def _give_up(self, response: "BaseHTTPResponse", final_url: str) -> NoReturn:
        status = response.status
        if status == OUT_OF_RANGE and self.sink.size:
            self._forget()
            raise TryAgainError("the source changed while it was read", status=status)
        if status in PASSING or status >= 500:
            raise TryAgainError(
                f"status {status}",
                status=status,
                after=meaning.retry_after(response.headers.get("Retry-After")),
            )
        advice = _ADVICE.get(status, "correct the URL")
        raise SourceError(
            f"{shown(final_url)} answered with status {status} instead of data: "
            f"{advice}.",
            url=self.url,
            final_url=final_url,
            status=status,
        )

    def _not_modified(self, response: "BaseHTTPResponse") -> NotModified:
        found = response.headers
        return NotModified(
            url=self.url,
            etag=found.get("ETag") or self.previous.etag,
            last_modified=found.get("Last-Modified") or self.previous.last_modified,
            retrieved_at=utc_now(),
        )

    def _fetched(self, answer: Answer) -> Fetched:
        name = meaning.file_name(answer.disposition, answer.url)
        media_type, encoding = meaning.content_type(answer.content_type)
        return Fetched(
            path=self.sink.path,
            url=self.url,
            final_url=answer.url,
            etag=answer.etag,
            last_modified=answer.last_modified,
            sha256=self.sink.finish(),
            size=self.sink.size,
            media_type=media_type or meaning.guessed_type(name),
            encoding=encoding,
            file_name=name,
            retrieved_at=utc_now(),
        )
