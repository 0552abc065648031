"""A real HTTP server on loopback that answers, and misbehaves, as a test says."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One response. `length` is what Content-Length says (None: as long as `body`).

    `end` is what happens after the body: "keep" the connection, "close" it, "reset"
    it, or until the server stops "stall", or "drip": send a byte now and then.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    end: str = "keep"


Reply = Answer | Callable[[Message], Answer]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 10
    server: "_Server"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self.server.owner.bodies.append(self.rfile.read(length))
        self.do_GET()

    def do_GET(self) -> None:
        answer = self.server.owner.next_answer(self.path, self.headers)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in answer.headers:
            length = len(answer.body) if answer.length is None else answer.length
            if length >= 0:
                self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection = answer.end != "keep"
        if answer.end == "stall":
            self.server.owner.stopping.wait(10)
        while answer.end == "drip" and not self.server.owner.stopping.wait(0.05):
            self.wfile.write(b".")
        if answer.end == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    owner: "Loopback"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep open."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: Any) -> None:
        """Clients of these tests hang up; that is no news."""


class Loopback:
    """Answers in the order given to `script`; the last answer is repeated."""

    def __init__(self, server: _Server, scheme: str) -> None:
        self.port = server.server_address[1]
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.requests: list[tuple[str, Message]] = []
        self.bodies: list[bytes] = []
        self.stopping = threading.Event()
        self._replies: list[Reply] = [Answer(404)]
        self._by_path: dict[str, Reply] = {}
        self._lock = threading.Lock()

    def script(self, *replies: Reply) -> None:
        """Answer in this order from now on."""
        self._replies = list(replies)

    def at(self, path: str, reply: Reply) -> None:
        """Answer requests for `path` like this, whatever the script."""
        self._by_path[path] = reply

    def next_answer(self, path: str, headers: Message) -> Answer:
        """Return what the next request gets, and remember it."""
        with self._lock:
            self.requests.append((path, headers))
            reply = self._by_path.get(path)
            if reply is None:
                last = len(self._replies) == 1
                reply = self._replies[0] if last else self._replies.pop(0)
        return reply if isinstance(reply, Answer) else reply(headers)


@contextmanager
def loopback(
    wrap: Callable[[socket.socket], socket.socket] | None = None,
) -> Iterator[Loopback]:
    """Serve on loopback until the block ends; `wrap` makes the socket a TLS one."""
    server = _Server()
    if wrap is not None:
        server.socket = wrap(server.socket)
    server.owner = owner = Loopback(server, "http" if wrap is None else "https")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield owner
    finally:
        owner.stopping.set()
        server.shutdown()
        thread.join()
        server.hang_up()
        server.server_close()
