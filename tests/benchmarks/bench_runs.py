"""What a run costs: `pytest tests/benchmarks/bench_runs.py -s`.

Every record is written and every function runs in a process of its own, as always.
Milliseconds are printed with their budget; asserted are ratios within one run, since
machines differ, and what does not depend on the machine.
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
RATIO_BUDGET = 16


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


def report(capsys, name, seconds, budget):
    milliseconds = sorted(1e3 * s for s in seconds)
    middle = statistics.median(milliseconds)
    with capsys.disabled():
        print(
            f"\n{name}: median {middle:.2f} ms, p90 "
            f"{milliseconds[int(len(milliseconds) * 0.9)]:.2f} ms (budget {budget} ms)"
        )
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


def test_run_of_download_identity_commit(app, source, tmp_path, capsys, benchmark):
    flow = ingestion(app, f"{source}/changing")
    plain = PlainScript(tmp_path / "plain", source)
    timed(plain.run, 20)
    writes, cpu = app.db.writes, cpu_seconds()
    runs, plains = [], []
    for _ in range(RUNS // 10):
        runs += timed(lambda: app.run_flow(flow["id"]), 10)
        plains += timed(plain.run, 10)
    cpu = (cpu_seconds() - cpu) / RUNS
    per_run = (app.db.writes - writes) / RUNS
    middle = report(capsys, "run", runs, 8)
    bare = report(capsys, "plain script", plains, 0.5)
    plain.close()
    with capsys.disabled():
        print(f"ratio {middle / bare:.1f} (budget {RATIO_BUDGET}), CPU {1e3 * cpu:.1f}")
        print(f"write transactions per run {per_run:.2f} (budget 3)")
    assert per_run <= 3.05
    assert middle / bare <= RATIO_BUDGET
    assert app.get_data("cases")["available_versions"] == RUNS + 5
    benchmark.pedantic(app.run_flow, args=[flow["id"]], rounds=20)


def test_unchanged_poll(app, source, capsys, benchmark):
    flow = ingestion(app, f"{source}/fixed")
    seconds = timed(lambda: app.run_flow(flow["id"]), RUNS)
    report(capsys, "unchanged poll, run and waited for", seconds, 4)
    assert app.get_data("cases")["available_versions"] == 1
    assert next(app.list_runs())["status"] == "UNCHANGED"
    benchmark.pedantic(app.run_flow, args=[flow["id"]], rounds=20)


def test_unchanged_polls_that_a_timer_fires(source, tmp_path, capsys, benchmark):
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
        days = timed(a_day_passes, 5)
        each = [seconds / SOURCES for seconds in days]
        report(capsys, f"unchanged poll, one of {SOURCES} due at once", each, 4)
        ended = Counter(run["status"] for run in app.list_runs())
        assert ended == {"SUCCEEDED": SOURCES, "UNCHANGED": 6 * SOURCES}
        benchmark.pedantic(a_day_passes, rounds=3)


def test_hundred_dependents_of_one_new_version(app, source, capsys, benchmark):
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

    seconds = timed(one_more_version, 5)
    report(capsys, f"{DEPENDENTS} dependents", seconds, 400)
    assert {app.get_data(line)["available_versions"] for line in lines} == {6}
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
