"""The client over a line that loses answers, and to servers that are busy or silent."""

import json
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aero import AeroOutput
from aero.app import Aero
from aero.client import AeroClient
from aero.error import ConflictError, NotFoundError, ServerError
from aero.server.serving import serving
from aero.testing import make_app
from tests.conftest import Publisher
from tests.loopback import Answer, Loopback, loopback


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aero.transport._BACKOFF", 0.01)


class LossyLine:
    """A TCP proxy that lets every request through, and some answers not.

    Attributes:
        losing: How many of the next answers are lost.
        lost: How many were.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.losing = self.lost = 0
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._forward, args=(client,))
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)

    def _forward(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(self._target) as server,
            selectors.DefaultSelector() as ready,
            suppress(OSError),
        ):
            self._ends += [client, server]
            ready.register(client, selectors.EVENT_READ)
            ready.register(server, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    chunk = key.fileobj.recv(1 << 20)
                    if key.fileobj is server and self.losing:
                        self.losing -= 1
                        self.lost += 1
                        return
                    if not chunk:
                        return
                    (client if key.fileobj is server else server).sendall(chunk)


@contextmanager
def lossy(url: str) -> Iterator[LossyLine]:
    host, _, port = urlsplit(url).netloc.partition(":")
    line = LossyLine((host, int(port)))
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        yield line
    finally:
        line.stop()
        thread.join(20)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Aero]:
    with make_app(tmp_path / "home") as made:
        yield made


@pytest.fixture
def line(app: Aero) -> Iterator[LossyLine]:
    with serving(app, api_only=True) as url, lossy(url) as made:
        yield made


@pytest.fixture
def client(line: LossyLine) -> Iterator[AeroClient]:
    with AeroClient(line.url) as made:
        yield made


def copied(cases):
    from pathlib import Path

    Path("made.csv").write_text(Path(cases).read_text())
    return AeroOutput("made", "made.csv")


def broken(cases):
    raise ValueError("no good")


def test_what_is_created_is_created_once(
    app: Aero, client: AeroClient, line: LossyLine, publisher: Publisher
) -> None:
    url = publisher.publish("cases.csv", "one")
    line.losing = 2
    source = client.create_source("cases", url)
    line.losing = 2
    function = client.register_function(copied)
    line.losing = 2
    flow = client.register_flow(
        "local", function, {"cases": {"id": "cases"}}, {"made": {}}
    )
    line.losing = 2
    told = client.notify(file_id="cases")
    assert line.lost == 8
    app.run_until_idle()
    line.losing = 1
    run = client.run_flow(flow["id"], wait=False)
    assert line.lost == 9
    assert [d["id"] for d in app.list_metadata("data")][1:] == [source["id"]]
    assert len(list(app.list_metadata("flow"))) == 2
    assert {r["id"] for r in app.list_runs()} == {told["id"], run["id"]}


def test_what_is_changed_is_answered_as_the_first_time(
    app: Aero, client: AeroClient, line: LossyLine, publisher: Publisher
) -> None:
    source = client.create_source("cases", publisher.publish("cases.csv", "one"))
    client.notify(file_id="cases")
    app.run_until_idle()
    flow = client.register_flow(
        "local",
        client.register_function(broken),
        {"cases": {"id": "cases"}},
        {"made": {}},
    )
    run = client.run_flow(flow["id"], wait=False)
    app.run_until_idle()
    line.losing = 1
    assert client.retry_run(run["id"])["attempt"] == 2
    line.losing = 1
    assert client.cancel_run(run["id"])["status"] == "CANCELLED"
    line.losing = 1
    assert client.delete_flow(flow["id"])["id"] == flow["id"]
    line.losing = 1
    [entry] = client.delete_data_flows("cases")
    assert entry["flow_id"] == source["flow_id"]
    assert line.lost == 4
    # It is the key that makes them the same, not what they ask.
    with pytest.raises(NotFoundError):
        client.delete_flow(flow["id"])
    assert client.delete_data_flows("cases") == []


def test_without_remembered_answers_a_repetition_finds_nothing(
    app: Aero, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aero.server.repeats._mark", lambda _scope: None)
    flow = app.create_source("cases", "http://h/cases")["flow_id"]
    with (
        serving(app, api_only=True) as url,
        lossy(url) as line,
        AeroClient(line.url) as client,
    ):
        line.losing = 1
        with pytest.raises(NotFoundError):
            client.delete_flow(flow)


def test_what_failed_is_not_remembered(app: Aero, client: AeroClient) -> None:
    keyed = {"idempotency_key": "k"}
    with pytest.raises(NotFoundError):
        client.run_flow("cases", wait=False, **keyed)
    app.create_source("cases", "http://h/cases")
    assert client.run_flow("cases", wait=False, **keyed)["status"] == "PENDING"


def test_reads_are_repeated(client: AeroClient, line: LossyLine, app: Aero) -> None:
    app.create_source("cases", "http://h/cases")
    line.losing = 2
    assert [d["name"] for d in client.list_metadata("data")] == ["cases"]
    assert line.lost == 2


def test_a_server_that_loses_every_answer(client: AeroClient, line: LossyLine) -> None:
    line.losing = 99
    with pytest.raises(ServerError, match="cannot be reached"):
        client.status()
    line.losing = 0
    assert client.idle() is True


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with (
        AeroClient(f"http://127.0.0.1:{port}") as client,
        pytest.raises(ServerError, match="'aero serve' runs there") as caught,
    ):
        client.status()
    assert (caught.value.code, caught.value.url) == (503, f"http://127.0.0.1:{port}")


@pytest.fixture
def scripted() -> Iterator[Loopback]:
    with loopback() as server:
        yield server


IDLE = Answer(body=json.dumps({"idle": True, "note": None}).encode())


def test_a_busy_server_says_when_to_come_again(
    scripted: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    busy = Answer(429, headers={"Retry-After": "7"})
    scripted.script(busy, Answer(503, headers={"Retry-After": "3"}), IDLE)
    with AeroClient(scripted.url) as client:
        assert client.idle() is True
    assert waits == [7, 3]
    assert len(scripted.requests) == 3


def test_a_silent_server(scripted: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aero.transport._RETRIES", 1)
    scripted.script(Answer(length=10, end="stall"))
    with (
        AeroClient(scripted.url, timeout=0.2) as client,
        pytest.raises(ServerError, match="ReadTimeoutError"),
    ):
        client.idle()


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Answer(200, b"<html>"), ServerError, 503),
        (Answer(404, b"<html>"), ServerError, 404),
        (Answer(418, b'{"detail": 1}'), ServerError, 418),
        (Answer(302, headers={"Location": "http://h/"}), ServerError, 503),
        (
            Answer(409, b'{"type": "urn:aero:conflict", "detail": "No.", "facts": []}'),
            ConflictError,
            409,
        ),
    ],
)
def test_what_does_not_answer_as_aero_does(
    scripted: Loopback, answer: Answer, kind: Any, code: int
) -> None:
    scripted.script(answer)
    with AeroClient(scripted.url) as client, pytest.raises(kind) as caught:
        client.idle()
    assert caught.value.code == code
