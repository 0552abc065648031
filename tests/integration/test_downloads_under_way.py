"""How far long downloads are is seen while they last, and only then."""

import io
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aero import Aero
from aero.cli.progress import downloads_shown, progress_shown
from aero.downloads import LONG, Progress, under_way
from tests.scenarios import source

REST = 1 << 20


class Slow(ThreadingHTTPServer):
    """Sends LONG bytes and a rest, which it keeps back until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(2 * LONG + REST))
        self.end_headers()
        self.wfile.write(bytes(2 * LONG))
        self.server.may_go_on.wait(30)
        self.wfile.write(bytes(REST))


@pytest.fixture
def slow() -> Iterator[Slow]:
    with Slow() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.may_go_on.set()
        server.shutdown()
        thread.join()


def test_a_long_download_is_seen_while_it_lasts(worker_app: Aero, slow: Slow):
    url = f"http://127.0.0.1:{slow.server_port}/big.bin"
    flow = source(worker_app, url)
    worker_app.start()
    run = worker_app.run_flow(flow["id"], wait=False)
    deadline = time.monotonic() + 30
    while not (found := worker_app.downloads()) and time.monotonic() < deadline:
        time.sleep(0.02)
    slow.may_go_on.set()
    worker_app.run_until_idle(30)
    assert [(each["run_id"], each["url"]) for each in found] == [(run["id"], url)]
    assert LONG <= found[0]["received"] <= 2 * LONG
    assert found[0]["expected"] == 2 * LONG + REST
    assert worker_app.downloads() == []
    assert worker_app.get_run(run["id"])["status"] == "SUCCEEDED"


def test_a_short_download_is_not_noted(tmp_path):
    folder = tmp_path / "run.1.claim" / ".aero" / "file"
    folder.mkdir(parents=True)
    progress = Progress(folder, "http://x/y")
    progress(LONG - 1, None)
    assert under_way(tmp_path) == []
    progress(LONG, None)
    progress(LONG + 1, None)
    assert [each["received"] for each in under_way(tmp_path)] == [LONG]
    progress.done()
    assert under_way(tmp_path) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Scripted:
    """An app whose downloads are told in advance, one answer a look."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.drained = threading.Event()

    def downloads(self):
        if not self.answers:
            self.drained.set()
            return []
        return self.answers.pop(0)


def download(run_id, received):
    url = "http://x/cases.csv"
    return {"run_id": run_id, "url": url, "received": received, "expected": 4 * LONG}


def test_bars_are_drawn_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    first, second = download("a", LONG), download("b", 2 * LONG)
    app = Scripted([first], [first], [first, second], [second])
    with downloads_shown(app):
        assert app.drained.wait(30)
    assert "cases.csv" in terminal.getvalue()
    assert "/33.6 MB" in terminal.getvalue()


def test_bars_end_with_what_they_are_about(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    app = Scripted(*[[download("a", LONG)]] * 1000)
    with downloads_shown(app):
        pass
    assert len(app.answers) > 900


def test_without_a_terminal_nothing_is_looked_at():
    app = Scripted([download("a", LONG)])
    with downloads_shown(app):
        pass
    assert len(app.answers) == 1


def test_a_command_draws_how_far_it_is_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_shown() as tell:
        tell("hashing", 1, 4)
    assert "hashing" in terminal.getvalue()
    assert "25%" in terminal.getvalue()


def test_without_a_terminal_a_command_draws_nothing(capsys):
    with progress_shown() as tell:
        tell("hashing", 1, 4)
    assert capsys.readouterr().err == ""


def test_what_is_printed_to_a_file_meanwhile_is_in_the_file(monkeypatch):
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", file)
    with progress_shown() as tell:
        tell("hashing", 1, 4)
        print("found")
    app = Scripted(*[[download("a", LONG)]] * 3)
    with downloads_shown(app):
        while "cases.csv" not in terminal.getvalue():
            time.sleep(0.01)
        print("found more")
    assert file.getvalue() == "found\nfound more\n"
    assert "found" not in terminal.getvalue()


def test_what_is_printed_to_the_same_terminal_is_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    with progress_shown() as tell:
        tell("hashing", 1, 4)
        print("found")
    lines = re.split(r"[\r\n]|\x1b\[2K", terminal.getvalue())
    assert "found" in lines
