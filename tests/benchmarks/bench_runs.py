"""What a run costs: `pytest tests/benchmarks/bench_runs.py -s`.

Every record is written and every function runs in a process of its own, as always.
The budgets in milliseconds are of a machine on which the same work without any
orchestrator takes half a millisecond. That script is timed beside each measurement:
milliseconds are printed, asserted are the multiples of it, since machines differ.
"""

import hashlib
import http.client
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from aero import Aero, AeroOutput
from aero.config import ClientConf
from aero.testing import FrozenClock

RUNS = 200
DEPENDENTS = 100
SOURCES = 100
PLAIN = 0.5  # ms on the machine of the budgets


def identity(cases):
    return AeroOutput("cases", cases)


def first_line(cases, k=0):
    from pathlib import Path

    path = Path("line.txt")
    path.write_text(Path(cases).read_text()[:16] + str(k))
    return AeroOutput("line", path)


@pytest.fixture(scope="module")
def source():
    script = Path(__file__).with_name("kilobyte_server.py")
    with subprocess.Popen(
        [sys.executable, script], stdin=-1, stdout=-1, text=True
    ) as server:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.stdin.close()


@pytest.fixture
def app(tmp_path):
    with Aero(ClientConf(home=tmp_path / "home", workers=2)) as app:
        yield app


def ingestion(app, url, function=identity):
    function_id = None if function is None else app.register_function(function)
    flow = app.register_flow(
        "local", function_id, None, {"cases": {"url": url}}, policy="NONE"
    )
    for _ in range(5):
        assert app.run_flow(flow["id"])["status"] in {"SUCCEEDED", "UNCHANGED"}
    return flow


def report(capsys, name, seconds, budget, plains=()):
    milliseconds = sorted(1e3 * s for s in seconds)
    middle = statistics.median(milliseconds)
    with capsys.disabled():
        print(
            f"\n{name}: median {middle:.2f} ms, p90 "
            f"{milliseconds[int(len(milliseconds) * 0.9)]:.2f} ms (budget {budget} ms)"
        )
    if plains:
        bare = 1e3 * statistics.median(plains)
        ratio, most = middle / bare, budget / PLAIN
        with capsys.disabled():
            print(f"{ratio:.1f} plain scripts of {bare:.2f} ms (budget {most:.0f})")
        assert ratio <= most
    return middle


def cpu_seconds():
    process = psutil.Process()
    each = [process, *process.children(recursive=True)]
    times = [one.cpu_times() for one in each]
    return sum(t.user + t.system for t in times)


def timed(work, rounds):
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


class PlainScript:
    """The same work without any orchestrator: download, function, file, SQLite."""

    def __init__(self, folder, source):
        folder.mkdir()
        self.folder = folder
        self.connection = http.client.HTTPConnection(source.removeprefix("http://"))
        self.database = sqlite3.connect(folder / "plain.db", isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=FULL")
        self.database.execute("CREATE TABLE version (sha256, size, path, at)")

    def run(self):
        self.connection.request("GET", "/changing")
        body = self.connection.getresponse().read()
        downloaded = self.folder / "download"
        downloaded.write_bytes(body)
        made = identity(downloaded)
        content = made.path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        kept = self.folder / sha256
        kept.write_bytes(content)
        row = (sha256, len(content), str(kept), time.time())
        self.database.execute("INSERT INTO version VALUES (?, ?, ?, ?)", row)

    def close(self):
        self.connection.close()
        self.database.close()


@pytest.fixture
def plain(source, tmp_path):
    script = PlainScript(tmp_path / "plain", source)
    timed(script.run, 20)
    yield script
    script.close()


def beside(plain, work, rounds):
    """Time `work`, and the plain script before each tenth of the rounds and after."""
    seconds, plains = [], timed(plain.run, 10)
    for _ in range(10):
        seconds += timed(work, max(1, rounds // 10))
        plains += timed(plain.run, 10)
    return seconds, plains


def test_run_of_download_identity_commit(app, source, plain, capsys, benchmark):
    flow = ingestion(app, f"{source}/changing")
    writes, cpu = app.db.writes, cpu_seconds()
    seconds, plains = beside(plain, lambda: app.run_flow(flow["id"]), RUNS)
    cpu = (cpu_seconds() - cpu - sum(plains)) / RUNS
    per_run = (app.db.writes - writes) / RUNS
    report(capsys, "run", seconds, 8, plains)
    with capsys.disabled():
        print(f"CPU {1e3 * cpu:.1f} ms, write transactions {per_run:.2f} (budget 3)")
    assert per_run <= 3.05
    assert app.get_data("cases")["available_versions"] == RUNS + 5
    benchmark.pedantic(app.run_flow, args=[flow["id"]], rounds=20)


def test_unchanged_poll_that_is_asked_for(app, source, capsys, benchmark):
    flow = ingestion(app, f"{source}/fixed")
    seconds = timed(lambda: app.run_flow(flow["id"]), RUNS)
    report(capsys, "unchanged poll, run now and waited for", seconds, 8)
    assert app.get_data("cases")["available_versions"] == 1
    assert next(app.list_runs())["status"] == "UNCHANGED"
    benchmark.pedantic(app.run_flow, args=[flow["id"]], rounds=20)


def test_unchanged_polls_that_a_timer_fires(source, tmp_path, plain, capsys, benchmark):
    clock = FrozenClock()
    conf = ClientConf(home=tmp_path / "home", workers=2)
    with Aero(conf, clock=clock) as app:
        for number in range(SOURCES):
            url = f"{source}/fixed?{number}"
            app.register_flow(
                "local", None, None, {"cases": {"url": url}}, policy="INGESTION"
            )
        app.run_until_idle(60)

        def a_day_passes():
            clock.advance(86400)
            app.run_until_idle(60)

        a_day_passes()
        days, plains = beside(plain, a_day_passes, 10)
        each = [seconds / SOURCES for seconds in days]
        report(capsys, f"unchanged poll, one of {SOURCES} due at once", each, 4, plains)
        ended = Counter(run["status"] for run in app.list_runs())
        assert ended == {"SUCCEEDED": SOURCES, "UNCHANGED": 11 * SOURCES}
        benchmark.pedantic(a_day_passes, rounds=3)


def test_hundred_dependents_of_one_new_version(app, source, plain, capsys, benchmark):
    flow = ingestion(app, f"{source}/changing")
    function = app.register_function(first_line)
    lines = []
    for k in range(DEPENDENTS):
        dependent = app.register_flow(
            "local",
            function,
            {"cases": {"id": "cases"}},
            {"line": {}},
            {"k": k},
            policy="ANY",
        )
        lines.append(dependent["contributed_to"][0]["id"])
    app.run_until_idle(60)

    def one_more_version():
        app.run_flow(flow["id"], wait=False)
        app.run_until_idle(60)

    seconds, plains = beside(plain, one_more_version, 10)
    report(capsys, f"{DEPENDENTS} dependents", seconds, 400, plains)
    assert {app.get_data(line)["available_versions"] for line in lines} == {11}
    benchmark.pedantic(one_more_version, rounds=3)


def test_from_committed_version_to_start_of_first_dependent(
    app, source, capsys, benchmark
):
    flow = ingestion(app, f"{source}/changing")
    app.register_flow(
        "local",
        app.register_function(first_line),
        {"cases": {"id": "cases"}},
        {"line": {}},
        policy="ANY",
    )
    app.start()
    app.engine.run_until_idle(30)
    gaps = []
    for _ in range(20):
        app.run_flow(flow["id"])
        app.engine.run_until_idle(30)
        committed = app.get_version("cases")["created_at"]
        started = app.get_run(next(app.list_runs("line"))["id"])["started_at"]
        gaps.append(_seconds(committed, started))
    report(capsys, "committed version to dependent's start", gaps, 50)
    assert all(gap >= 0 for gap in gaps)
    benchmark.pedantic(app.run_flow, args=[flow["id"]], rounds=5)


def _seconds(earlier, later):
    from datetime import datetime

    gap = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return gap.total_seconds()


@pytest.mark.parametrize(
    ("what", "arguments", "budget"),
    [
        ("import aero", ["-c", "import aero"], 100),
        ("aero --help", ["-m", "aero", "--help"], 300),
        ("aero list", ["-m", "aero", "list"], 600),
    ],
)
def test_start_up(what, arguments, budget, tmp_path, capsys, monkeypatch, benchmark):
    monkeypatch.setenv("AERO_HOME", str(tmp_path))

    def start(command=(sys.executable, *arguments)):
        subprocess.run(command, check=True, capture_output=True)

    start()
    bare = timed(lambda: start((sys.executable, "-c", "pass")), 10)
    seconds = timed(start, 10)
    middle = report(capsys, what, seconds, budget)
    idle = 1e3 * statistics.median(bare)
    with capsys.disabled():
        print(f"of which the interpreter itself {idle:.0f} ms")
    assert middle > idle
    benchmark.pedantic(start, rounds=5)
