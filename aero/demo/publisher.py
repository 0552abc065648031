"""The demo's source: a local web server that publishes a series as it grew."""

import hashlib
import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from aero.error import ConflictError

HOST = "127.0.0.1"
HEADER = "date,deaths\n"
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII)


class Edition(NamedTuple):
    """One state of a file: its bytes, its strong ETag, when it was published."""

    body: bytes
    etag: str
    last_modified: str


class Publisher:
    """Serves one growing CSV per series on loopback, from its construction on.

    Every file has the columns `date,deaths`. It grows by a week every Monday; the
    first day of 1849 was one, and so was the last.
    GET and HEAD, If-None-Match, and Range with If-Range are understood.

    Args:
        series: The rows of each series, without a header, by the name of its file.
        week: How many weeks after its first day every series ends.
        port: Where to serve.

    Raises:
        ConflictError: The port is taken.
    """

    def __init__(
        self, series: Mapping[str, Sequence[str]], *, week: int, port: int
    ) -> None:
        self.week = week
        self._series = series
        self._editions: dict[str, Edition] = {}
        self._lock = threading.Lock()
        self._unchanged = Counter(dict.fromkeys(series, 0))
        self._server = _listen(port, self)
        self._publish()
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="aero-demo-publisher"
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def complete(self) -> bool:
        """Whether every row is out."""
        return all(self._days >= len(rows) for rows in self._series.values())

    @property
    def unchanged(self) -> Mapping[str, int]:
        """How often each file's 304 was answered."""
        with self._lock:
            return dict(self._unchanged)

    @property
    def _days(self) -> int:
        return 7 * self.week + 1

    def advance(self) -> None:
        """Publish one more week."""
        self.week += 1
        self._publish()

    def urls(self) -> list[str]:
        """Return where the files are."""
        port = self._server.server_address[1]
        return [f"http://{HOST}:{port}/{name}" for name in self._series]

    def last_day(self) -> str:
        """Return the last day that is out, as ISO 8601."""
        return max(
            rows[: self._days][-1].partition(",")[0] for rows in self._series.values()
        )

    def sha256s(self) -> set[str]:
        """Return the SHA-256 of every file as it is now."""
        with self._lock:
            return {
                hashlib.sha256(edition.body).hexdigest()
                for edition in self._editions.values()
            }

    def edition(self, name: str) -> Edition | None:
        """Return a file's present state, None where there is no such file."""
        with self._lock:
            return self._editions.get(name)

    def count_unchanged(self, name: str) -> None:
        """Remember that a poll transferred nothing."""
        with self._lock:
            self._unchanged[name] += 1

    def _publish(self) -> None:
        now = formatdate(usegmt=True)
        editions = {}
        for name, rows in self._series.items():
            body = (HEADER + "".join(rows[: self._days])).encode()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            editions[name] = Edition(body, etag, now)
        with self._lock:
            self._editions = editions


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    publisher: Publisher


def _listen(port: int, publisher: Publisher) -> _Server:
    try:
        server = _Server((HOST, port), _Handler)
    except OSError as error:
        raise ConflictError(
            f"Port {port} of {HOST}, where the demo's source is, is taken: end the "
            "program that uses it (perhaps another 'aero demo') and try again.",
            port=port,
        ) from error
    server.publisher = publisher
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    server: _Server

    def do_GET(self) -> None:
        self._answer(self._part())

    def do_HEAD(self) -> None:
        self._answer(None)

    def _answer(self, part: slice | None) -> None:
        publisher, name = self.server.publisher, self.path.lstrip("/")
        edition = publisher.edition(name)
        if edition is None:
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
            return
        validators = {"ETag": edition.etag, "Last-Modified": edition.last_modified}
        if self._is_current(edition):
            # Counted first: who waits for the count must not see the answer before.
            publisher.count_unchanged(name)
            self._head(HTTPStatus.NOT_MODIFIED, validators)
            return
        self._send(edition, validators, part)

    def _send(
        self, edition: Edition, validators: Mapping[str, str], part: slice | None
    ) -> None:
        size = len(edition.body)
        headers = {
            **validators,
            "Content-Type": "text/csv; charset=utf-8",
            "Accept-Ranges": "bytes",
        }
        status, body = HTTPStatus.OK, edition.body
        if part is not None and self.headers.get("If-Range", edition.etag) == (
            edition.etag
        ):
            first, last, _ = part.indices(size)
            if first >= last:
                headers |= {"Content-Range": f"bytes */{size}", "Content-Length": "0"}
                self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
                return
            status, body = HTTPStatus.PARTIAL_CONTENT, edition.body[first:last]
            headers["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
        self._head(status, {**headers, "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: HTTPStatus, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        # Nobody keeps a connection that would outlive the server.
        self.send_header("Connection", "close")
        self.end_headers()

    def _is_current(self, edition: Edition) -> bool:
        asked = self.headers.get("If-None-Match")
        if asked is None:
            return False
        tags = {tag.strip().removeprefix("W/") for tag in asked.split(",")}
        return edition.etag in tags or "*" in tags

    def _part(self) -> slice | None:
        """Return the bytes that a Range asks for, None for all or what is unclear."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or match[0] == "bytes=-":
            return None
        first, last = match.groups()
        if not first:
            return slice(-int(last), None) if int(last) else slice(0, 0)
        return slice(int(first), int(last) + 1 if last else None)

    def log_message(self, *args: Any) -> None:
        """Say nothing: the demo shows what happens."""
