"""Processes wake each other: on PostgreSQL by its notifications, and by nothing else.

All that looks from time to time is put off for ten minutes here, in both processes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

import aero.engine
from aero.app import Aero
from aero.runs import presence
from aero.runs.dispatch import Dispatcher
from aero.testing import make_app
from tests.scenarios import tick
from tests.waiting import until

PATIENCE = 60
NEVER = 600.0
SELDOM = {"lease": 2 * NEVER, "heartbeat": NEVER}

WORKER = f"""
import aero.engine, aero.scheduling, aero.db.changes
from aero.cli import main
from datetime import timedelta
aero.engine._PATIENCE = aero.engine._BUSY_PATIENCE = {NEVER}
aero.scheduling.LONGEST_SLEEP = timedelta(seconds={NEVER})
if {{deaf}}:
    aero.db.changes.Notified.listen = lambda self, hearer: None
main()
"""


def numbered(number):
    """Write nothing."""
    return None


def hang(path):
    """Say who this is and never end."""
    import os
    import time
    from pathlib import Path

    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


@pytest.fixture
def app(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Aero]:
    """A process that triggers and waits; whatever runs, runs elsewhere."""
    monkeypatch.setattr(aero.engine, "_PATIENCE", NEVER)
    monkeypatch.setattr(aero.engine, "_BUSY_PATIENCE", NEVER)
    monkeypatch.setattr(Dispatcher, "_claim", lambda self: None)
    with make_app(tmp_path / "home", database_url=postgres_url, **SELDOM) as made:
        made.register_function(tick)
        yield made


@contextmanager
def worker(app: Aero, *, deaf: bool = False) -> Iterator[None]:
    """Let another process work until the block ends."""
    log = app.settings.home.with_suffix(".log")
    settings = {
        "AERO_HOME": str(app.settings.home),
        "AERO_DATABASE_URL": app.settings.database_url,
        "AERO_WORKERS": "1",
        "AERO_LEASE": str(SELDOM["lease"]),
        "AERO_HEARTBEAT": str(SELDOM["heartbeat"]),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER.format(deaf=deaf), "work"],
            env=os.environ | settings,
            stdout=out,
            stderr=out,
        )
    try:
        yield
        process.terminate()
        assert process.wait(PATIENCE) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait(20)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def report(what: str, seconds: Sequence[float]) -> None:
    found = sorted(1000 * each for each in seconds)
    p50, p99 = found[len(found) // 2], found[-1 - len(found) // 100]
    print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(found)}")


def flow_of(app: Aero, function: Any, **given: Any) -> Any:
    options = {k: given.pop(k) for k in ("policy", "timer_delay") if k in given}
    return app.register_flow(
        "local", app.register_function(function), kwargs=given, **options
    )


def test_a_run_elsewhere_and_its_end_here(app: Aero) -> None:
    flow = flow_of(app, tick)["id"]
    claims, ends = [], []
    with worker(app):
        app.run_flow(flow, timeout=PATIENCE)
        for _ in range(50):
            run = app.run_flow(flow, timeout=PATIENCE)
            ends.append(time.time() - moment(run["finished_at"]))
            claims.append(moment(run["started_at"]) - moment(run["created_at"]))
            assert run["status"] == "SUCCEEDED"
        with app.db.read() as tx:
            listening = tx.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN aero'"
                " AND datname = current_database()"
            ).scalar_one()
        assert listening == 2
    report("trigger here to claim elsewhere", claims)
    report("commit elsewhere to run_flow(wait=True) returning here", ends)


def test_a_flow_registered_here_is_ticked_elsewhere(app: Aero) -> None:
    flow = flow_of(app, tick)["id"]
    with worker(app):
        app.run_flow(flow, timeout=PATIENCE)
        due = {}
        for number in range(1, 21):
            timer = {"policy": "TIMER", "timer_delay": 1 + number / 20}
            made = flow_of(app, numbered, number=number, **timer)
            due[made["id"]] = moment(made["next_due"])
        until(lambda: all(len(list(app.list_runs(f))) > 1 for f in due), pause=0.2)
    lags = []
    for each, planned in due.items():
        runs = sorted(app.list_runs(each), key=lambda run: run["created_at"])
        lags.append(moment(runs[1]["created_at"]) - planned)
    assert min(lags) >= 0
    report("due time of a flow registered here to its tick elsewhere", lags)


def test_a_run_cancelled_here_is_killed_elsewhere(app: Aero, tmp_path: Path) -> None:
    told = tmp_path / "pid"
    flow = flow_of(app, hang, path=str(told))["id"]
    kills = []
    with worker(app):
        for _ in range(4):
            run = app.run_flow(flow, wait=False)["id"]
            until(lambda: told.exists() and told.read_text())
            pid = int(told.read_text())
            told.unlink()
            cancelled = app.cancel_run(run)
            until(lambda pid=pid: _gone(pid), pause=0.001)
            kills.append(time.time() - moment(cancelled["finished_at"]))
    report("cancel here to the end of its process elsewhere", kills)


def test_without_notifications_nobody_wakes(app: Aero) -> None:
    """What the other tests rely on: here nothing else does it."""
    flow = flow_of(app, tick)["id"]
    with worker(app, deaf=True):
        until(lambda: app.db.look(presence.neighbours))
        # It may still be looking, after one of its own.
        for _ in range(5):
            run = app.run_flow(flow, wait=False)["id"]
            if not _ends(app, run, 1.0):
                return
    pytest.fail("it woke")


def _ends(app: Aero, run: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while app.get_run(run)["status"] != "SUCCEEDED":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
