"""`aero serve`: what it logs, how it names requests, and how it stops."""

import json
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from click.testing import CliRunner

from aero.app import Aero
from aero.cli.root import aero
from aero.client import AeroClient
from aero.error import ClientError
from aero.server.logs import JsonLines, request_id
from aero.server.serving import serving
from aero.testing import make_app
from tests.conftest import Publisher
from tests.globus_cloud import SECRET, globus_cloud

LONG = 60
Serve = Callable[..., "Served"]


def waiting(started, go):
    """Say that it runs, and wait until it may end."""
    import time
    from pathlib import Path

    Path(started).touch()
    while not Path(go).exists():
        time.sleep(0.02)


class Served:
    """An `aero serve` of its own process, whose log is read line by line."""

    def __init__(self, *args: str) -> None:
        command = [sys.executable, "-m", "aero", "serve", "--port", "0", *args]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[dict[str, Any]] = []
        self.url = self.until("Serving at")["message"].split()[2].rstrip(";")

    def until(self, word: str) -> dict[str, Any]:
        """Read the log until a message with that word."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if word in self.lines[-1]["message"]:
                return self.lines[-1]
        raise AssertionError(f"{word!r} was not logged")

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        _, rest = self.process.communicate(timeout=LONG)
        self.lines += [json.loads(line) for line in rest.splitlines()]
        return self.process.returncode


@pytest.fixture
def serve() -> Iterator[Serve]:
    begun: list[Served] = []

    def begin(*args: str) -> Served:
        begun.append(Served(*args))
        return begun[-1]

    yield begin
    for served in begun:
        served.process.kill()
        served.process.communicate()


@pytest.fixture
def flow(isolation: Path, tmp_path: Path) -> str:
    """A flow whose run waits for the file `go`, waiting to be run."""
    with make_app(isolation) as app:
        kwargs = {"started": str(tmp_path / "started"), "go": str(tmp_path / "go")}
        function = app.register_function(waiting)
        found = app.register_flow("local", function, kwargs=kwargs)
        app.run_flow(found["id"], wait=False)
        return str(found["id"])


def begun(path: Path) -> None:
    deadline = time.monotonic() + LONG
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def statuses(home: Path) -> list[str]:
    with make_app(home) as app:
        return [run["status"] for run in app.list_runs()]


def test_told_to_stop_it_ends_what_runs_and_logs_all_of_it(
    serve: Serve, flow: str, isolation: Path, tmp_path: Path
) -> None:
    served = serve()
    begun(tmp_path / "started")
    with urllib3.PoolManager() as pool:
        answer = pool.request(
            "GET", f"{served.url}/flow/{flow}", headers={"X-Request-ID": "mine-1"}
        )
        assert answer.headers["X-Request-ID"] == "mine-1"
        pool.request("GET", f"{served.url}/health/live")
        more = {
            "function_uuid": answer.json()["function_id"],
            "flow_kwargs": {"started": "here", "go": "there"},
            "output_data": {"out": {"tmp_dir": "/tmp"}},
        }
        warned = pool.request("POST", f"{served.url}/flow/register", json=more)
        assert warned.status == 200
        served.stop()
        assert "25 s to end" in served.until("Stopping")["message"]
        (tmp_path / "go").touch()
    assert served.end() == 0
    assert statuses(isolation) == ["SUCCEEDED"]

    of_run = [line for line in served.lines if line.get("flow_id") == flow]
    assert [line["message"].split()[2] for line in of_run] == ["started", "SUCCEEDED"]
    assert {line["run_id"] for line in of_run} == {of_run[0]["message"].split()[1]}
    warning = next(each for each in served.lines if each["level"] == "WARNING")
    assert "tmp_dir" in warning["message"]
    asked, registered = [line for line in served.lines if "method" in line]
    assert registered["request_id"] == warning["request_id"]
    assert (asked["request_id"], asked["path"]) == ("mine-1", f"/flow/{flow}")
    assert (asked["status"], asked["level"]) == (200, "INFO")
    assert all(line["time"].endswith("+00:00") for line in served.lines)


def test_a_second_signal_hands_back_what_runs(
    serve: Serve, flow: str, isolation: Path, tmp_path: Path
) -> None:
    served = serve("--grace", "600")
    begun(tmp_path / "started")
    served.stop()
    served.until("Stopping")
    served.stop(signal.SIGINT)
    assert served.end() == 0
    assert statuses(isolation) == ["PENDING"]


def test_the_grace_ends(
    serve: Serve, flow: str, isolation: Path, tmp_path: Path
) -> None:
    served = serve("--grace", "0")
    begun(tmp_path / "started")
    served.stop()
    assert served.end() == 0
    assert statuses(isolation) == ["PENDING"]


def test_on_a_terminal_lines_are_plain() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "aero", "serve", "--port", "0", "--api-only"]
    with subprocess.Popen(command, stderr=theirs) as process:
        os.close(theirs)
        with os.fdopen(ours) as terminal:
            line = next(line for line in terminal if "Serving at" in line)
            process.terminate()
            assert process.wait(LONG) == 0
    assert not line.startswith("{")
    assert " INFO Serving at http://127.0.0.1:" in line


def test_an_error_is_found_in_the_log_by_what_was_answered(
    sqlite_app: Aero, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("nobody expected this")

    monkeypatch.setattr(sqlite_app, "get_data", fail)
    bad = "not an id; at all"
    with serving(sqlite_app, api_only=True) as url, urllib3.PoolManager() as pool:
        answer = pool.request("GET", f"{url}/data/x", headers={"X-Request-ID": bad})
    named = answer.headers["X-Request-ID"]
    assert answer.status == 500
    assert named != bad
    assert named in answer.json()["detail"]
    assert "nobody" not in answer.data.decode()
    [record] = [r for r in caplog.records if named in r.getMessage()]
    assert "nobody expected this" in JsonLines().format(record)


def test_a_line_is_one_object_with_what_is_known() -> None:
    record = logging.makeLogRecord(
        {
            "msg": "Run %s\nended",
            "args": ("r",),
            "name": "aero",
            "levelname": "INFO",
            "run_id": "r",
        }
    )
    request_id.set("q")
    try:
        text = JsonLines().format(record)
    finally:
        request_id.set(None)
    line = json.loads(text)
    assert "\n" not in text
    assert line.keys() == {"time", "level", "logger", "message", "request_id", "run_id"}
    assert (line["message"], line["request_id"]) == ("Run r\nended", "q")


@pytest.mark.parametrize("said", [None, "true"])
def test_serving_others_reaches_no_private_address_unless_told_to(
    serve: Serve,
    isolation: Path,
    tmp_path: Path,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
    said: str | None,
) -> None:
    (tmp_path / "cases.csv").write_text("one")
    with make_app(isolation) as app:
        token = app.create_token("t", scopes=["admin"])["token"]
        for name, url in (
            ("web", publisher.publish("cases.csv", "one")),
            ("file", (tmp_path / "cases.csv").as_uri()),
        ):
            app.create_source(name, url, policy="INGESTION")
    if said:
        monkeypatch.setenv("AERO_ALLOW_PRIVATE_ADDRESSES", said)
        monkeypatch.setenv("AERO_FILE_ROOTS", str(tmp_path))
    served = serve("--host", "0.0.0.0", "--auth", "tokens")
    url = served.url.replace("0.0.0.0", "127.0.0.1")
    with AeroClient(url, token=token) as client:
        client.run_until_idle(LONG)
        found = {run["status"] for run in client.list_runs()}
    assert found == {"SUCCEEDED" if said else "FAILED"}
    assert publisher.requests("cases.csv") == bool(said)


def test_globus_says_who_is_let_in(
    serve: Serve, isolation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolation.mkdir()
    secret = isolation / "default.client_secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with globus_cloud() as cloud:
        monkeypatch.setenv("AERO_PORTAL_CLIENT_ID", cloud.client_id)
        monkeypatch.setenv("AERO_ADMINS", "eve@example.org,root@example.org")
        served = serve("--auth", "globus", "--api-only", "--host", "0.0.0.0")
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        found = {}
        for token in (
            "aero_static",
            "bad",
            cloud.issue("ada", username="ada@example.org"),
            cloud.issue("eve", username="eve@example.org"),
            cloud.issue("other", aud=["another"]),
        ):
            with AeroClient(url, token=token) as client:
                try:
                    client.gc(dry_run=True)
                except ClientError as error:
                    found[token] = error.code
                else:
                    found[token] = 200
        served.stop()
        assert served.end() == 0
    bad = {"aero_static": 401, "bad": 401, "other": 401}
    assert found == {**bad, "ada": 403, "eve": 200}
    log = json.dumps(served.lines)
    assert "POST /gc" in log
    assert "What runs the flows must be told" in log
    assert SECRET not in log


def test_globus_needs_a_client_of_the_server(isolation: Path) -> None:
    done = CliRunner().invoke(aero, ["serve", "--auth", "globus"])
    assert done.exit_code == 1
    assert "AERO_PORTAL_CLIENT_SECRET" in done.stderr
