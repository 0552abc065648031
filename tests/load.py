"""Many clients of one server at once: each keeps its connection and asks in turn.

A client waits for its answer, thinks for a while, and asks again. What it asks is drawn
by weight from what people and their programs ask; a share of it changes something.
"""

import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Ask = tuple[str, str, Any]
"""Method, path and body of a request."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of request: how often it is made, and how it is made each time."""

    name: str
    weight: float
    writes: bool
    make: Callable[[random.Random], Ask]


@dataclass
class Measured:
    """What became of the requests; times in seconds."""

    seconds: float = 0.0
    connected: int = 0
    took: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def of(self, kinds: Sequence[Kind], *, writes: bool) -> list[float]:
        """Return the times of all reads, or of all writes, shortest first."""
        named = [kind.name for kind in kinds if kind.writes is writes]
        return sorted(t for name in named for t in self.took.get(name, []))

    @property
    def rate(self) -> float:
        """Answers in a second."""
        return sum(map(len, self.took.values())) / self.seconds


def quantile(times: Sequence[float], share: float) -> float:
    """Return the time that this share of `times`, shortest first, stays within."""
    return times[min(len(times) - 1, int(share * len(times)))]


def told(measured: Measured, kinds: Sequence[Kind]) -> str:
    """Return a line for reads and one for writes, and how fast it went altogether."""
    lines = [
        f"{measured.connected} connections, {measured.rate:.0f} answers a second, "
        f"{len(measured.errors)} errors"
    ]
    for name, writes in (("reads", False), ("writes", True)):
        times = measured.of(kinds, writes=writes)
        lines.append(
            f"{name}: {len(times)}, p50 {1000 * statistics.median(times):.0f} ms, "
            f"p99 {1000 * quantile(times, 0.99):.0f} ms, "
            f"longest {1000 * times[-1]:.0f} ms"
        )
    return "\n".join(lines)


def load(
    url: str,
    kinds: Sequence[Kind],
    *,
    clients: int,
    seconds: float,
    think: float,
    token: str | None = None,
    seed: int = 0,
) -> Measured:
    """Let `clients` ask a server for some seconds.

    Args:
        url: The server's.
        kinds: What they ask.
        clients: How many connections are open at once, from the first to the last.
        seconds: How long, counted from when all are connected.
        think: Seconds from an answer to the next question, on average; uniformly
            from none to twice as much.
        token: Sent with each request.
        seed: Of what is drawn.
    """
    crowd = _Crowd(url, kinds, think=think, token=token)
    return asyncio.run(crowd.ask(clients, seconds, seed))


class _Crowd:
    def __init__(
        self, url: str, kinds: Sequence[Kind], *, think: float, token: str | None
    ) -> None:
        self._host, self._port = urlsplit(url).hostname, urlsplit(url).port
        self._kinds = kinds
        self._weights = [kind.weight for kind in kinds]
        self._think = think
        self._bearer = f"Authorization: Bearer {token}\r\n" if token else ""
        self._measured = Measured()

    async def ask(self, clients: int, seconds: float, seed: int) -> Measured:
        ready = asyncio.Barrier(clients + 1)
        tasks = [
            asyncio.create_task(self._client(random.Random(seed + n), ready, seconds))
            for n in range(clients)
        ]
        await ready.wait()
        began = time.monotonic()
        await asyncio.gather(*tasks)
        self._measured.seconds = time.monotonic() - began
        return self._measured

    async def _client(
        self, rng: random.Random, ready: asyncio.Barrier, seconds: float
    ) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        self._measured.connected += 1
        await ready.wait()
        end = time.monotonic() + seconds
        await self._pause(rng, end)
        while time.monotonic() < end:
            kind = rng.choices(self._kinds, self._weights)[0]
            await self._answered(kind, kind.make(rng), reader, writer)
            await self._pause(rng, end)
        writer.close()

    async def _pause(self, rng: random.Random, end: float) -> None:
        if self._think:
            pause = rng.uniform(0, 2 * self._think)
            await asyncio.sleep(max(0, min(pause, end - time.monotonic())))

    async def _answered(
        self,
        kind: Kind,
        ask: Ask,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        began = time.monotonic()
        try:
            writer.write(self._request(*ask))
            status, body = await asyncio.wait_for(_answer(reader), 60)
        except (OSError, EOFError, TimeoutError) as error:
            self._measured.errors.append(f"{kind.name}: {error!r}")
            return
        self._measured.took.setdefault(kind.name, []).append(time.monotonic() - began)
        if status != 200:
            self._measured.errors.append(f"{kind.name}: {status} {body[:300]!r}")

    def _request(self, method: str, path: str, body: Any) -> bytes:
        sent = b"" if body is None else json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"{self._bearer}"
        )
        if method != "GET":
            # As our own client does: repeated, it would count once.
            head += (
                f"Idempotency-Key: {uuid.uuid4()}\r\nContent-Length: {len(sent)}\r\n"
                "Content-Type: application/json\r\n"
            )
        return f"{head}\r\n".encode() + sent


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head.split(b" ", 2)[1])
    if b"transfer-encoding: chunked" in head:
        body = b""
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, body
    length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
    return status, await reader.readexactly(length)


@contextmanager
def served(**environment: str) -> Iterator[str]:
    """Let `aero serve` serve the environment's workspace; yield its URL."""
    command = [sys.executable, "-m", "aero", "serve", "--port", "0", "--grace", "5"]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr is not None
            found = None
            while found is None:
                line = server.stderr.readline()
                assert line, "The server did not start."
                found = re.search(r"Serving at (http://[0-9.:]+)", line)
            # What it logs from now on must not fill the pipe.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            server.terminate()


# -- what is asked ---------------------------------------------------------------------


def copied(cases, mark=""):
    """Write what was given, and a mark."""
    from pathlib import Path

    from aero import AeroOutput

    Path("made.csv").write_text(Path(cases).read_text() + mark)
    return AeroOutput("made", "made.csv")


def furnish(app: Any, url: str, *, sources: int = 20, versions: int = 5) -> list[Kind]:
    """Fill a workspace as after some days of use; return what is asked of it.

    Args:
        app: The workspace, which runs what is registered.
        url: Of a file that can be downloaded.
        sources: How many sources there are that keep no bytes.
        versions: How many versions each of these has.
    """
    cases = app.create_source("cases", url, policy="INGESTION")
    function = app.register_function(copied)
    inputs = {"cases": {"id": cases["id"]}}
    flows = [
        app.register_flow(
            "local", function, inputs, {"made": {}}, {"mark": str(n)}, policy="ANY"
        )
        for n in range(5)
    ]
    tracked = [
        app.create_source(f"s{n}", f"https://h/{n}/**", no_copy=True, type_name=f"s{n}")
        for n in range(sources)
    ]
    for n in range(sources):
        for number in range(versions):
            app.notify(key=f"{n}/{number}.csv", etag=str(number))
    app.run_until_idle()
    data = [d["id"] for d in app.list_metadata("data")]
    made = [flow["contributed_to"][0]["id"] for flow in flows]
    flow_ids = [flow["id"] for flow in flows]
    writes = _writes(tracked, flow_ids, inputs, function)
    return [*_reads(data, made, flow_ids), *writes]


def _reads(data: list[str], made: list[str], flows: list[str]) -> list[Kind]:
    def path(shape: str, ids: list[str]) -> Callable[[random.Random], Ask]:
        return lambda rng: ("GET", shape.format(rng.choice(ids)), None)

    shapes = {
        "list data": ("/data", data, 10),
        "list flows": ("/flow", flows, 5),
        "list runs": ("/run", flows, 5),
        "get": ("/data/{}", data, 15),
        "versions": ("/data/{}/versions", data, 10),
        "latest": ("/data/{}/latest", made, 10),
        "lineage": ("/data/{}/lineage", made, 10),
        "explain": ("/flow/{}/explain", flows, 5),
        "file": ("/data/{}/versions/1/file", made, 10),
    }
    return [
        Kind(name=name, weight=weight, writes=False, make=path(shape, ids))
        for name, (shape, ids, weight) in shapes.items()
    ]


def _writes(
    tracked: list[Any], flows: list[str], inputs: Any, function: str
) -> list[Kind]:
    def notify(rng: random.Random) -> Ask:
        key = f"{rng.randrange(len(tracked))}/{rng.randrange(50)}.csv"
        return "POST", "/data/notify", {"key": key, "etag": uuid.uuid4().hex}

    def run(rng: random.Random) -> Ask:
        return "POST", f"/flow/{rng.choice(flows)}/run", None

    def register(rng: random.Random) -> Ask:
        body = {
            "gc_endpoint": "local",
            "function_uuid": function,
            "input_data": inputs,
            "output_data": {"made": {}},
            "flow_kwargs": {"mark": uuid.uuid4().hex},
            "rule": -1,
        }
        return "POST", "/flow/register", body

    weights = {"notify": (notify, 12), "run now": (run, 4), "register": (register, 4)}
    return [
        Kind(name=name, weight=weight, writes=True, make=make)
        for name, (make, weight) in weights.items()
    ]
