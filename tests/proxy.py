"""A TCP proxy before PostgreSQL that cuts connections, or falls silent, as told."""

import random
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# What the server says last when it awaits a statement within a transaction.
_IN_TRANSACTION = b"Z\x00\x00\x00\x05T"
_SIZE = 65536


class Proxy:
    """Forwards connections; see `proxy`.

    Attributes:
        cuts: The connections that were cut in the middle of a transaction.
        lost_answers: Those of them whose last statement the server had got.
        holes: How often it fell silent.
    """

    def __init__(self, target: tuple[str, int], seed: int) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._lines: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._silent = threading.Event()
        self._spoken = threading.Event()
        self._spoken.set()
        self.port = self._listener.getsockname()[1]
        self.cutting = False
        self.cuts = self.lost_answers = self.holes = 0

    def fall_silent(self, seconds: float) -> None:
        """Accept, answer nothing and forward nothing; then cut every connection."""
        self.holes += 1
        self._spoken.clear()
        self._stopping.wait(seconds)
        self._hang_up()
        self._spoken.set()

    def serve(self) -> None:
        """Accept until `stop`."""
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._follow, args=(client,))
            with self._lock:
                self._lines.add(client)
                self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Cut everything and end."""
        self._stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()
        for thread in self._threads:
            thread.join(20)

    def _hang_up(self) -> None:
        with self._lock:
            for line in self._lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _follow(self, client: socket.socket) -> None:
        with client, socket.socket() as server, suppress(OSError):
            self._spoken.wait(20)
            server.connect(self._target)
            for line in (client, server):
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._lines.add(server)
            self._forward(client, server)
        with self._lock:
            self._lines -= {client, server}

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Forward until the connection ends or has had its share of statements."""
        with self._lock:
            left = self._random.randint(1, 120)
            with_statement = self._random.random() < 0.5
        in_transaction = False
        with selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    line = key.fileobj
                    chunk = line.recv(_SIZE)
                    if not chunk:
                        return
                    self._spoken.wait(20)
                    if line is server:
                        in_transaction = chunk.endswith(_IN_TRANSACTION)
                        client.sendall(chunk)
                        continue
                    left -= in_transaction
                    if left <= 0 and in_transaction and self.cutting:
                        self._cut(server, chunk if with_statement else b"")
                        return
                    server.sendall(chunk)

    def _cut(self, server: socket.socket, chunk: bytes) -> None:
        """Let the server have a last statement, whose answer nobody gets."""
        self.cuts += 1
        if chunk:
            self.lost_answers += 1
            server.sendall(chunk)
            # It may be but a part of one, which the server does not answer.
            server.settimeout(0.5)
            server.recv(_SIZE)


@contextmanager
def proxy(host: str, port: int, seed: int) -> Iterator[Proxy]:
    """Give a proxy on loopback before a server, until the block ends."""
    made = Proxy((host, port), seed)
    thread = threading.Thread(target=made.serve)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(20)
