"""A graceful stop finishes what runs, or hands it back as if it had not been begun."""

import signal
import subprocess
import sys
import threading
from collections import Counter

import pytest

from aero import engine
from aero.testing import make_app
from tests.executors import Held
from tests.waiting import until

WORKERS = 2
LONG = 60


def numbered(number=0):
    """Write nothing."""
    return None


def waiting(started, go):
    """Say that it runs, and wait until it may end."""
    import os
    import time
    from pathlib import Path

    log = os.open(started, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, b"started\n")
    os.close(log)
    while not Path(go).exists():
        time.sleep(0.02)


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def app(tmp_path, held):
    with make_app(tmp_path / "home", executor=held, workers=WORKERS) as app:
        function = app.register_function(numbered)
        for number in range(4):
            flow = app.register_flow("local", function, kwargs={"number": number})
            app.run_flow(flow["id"], wait=False)
        yield app
        held.forget()


def statuses(app):
    return Counter(run["status"] for run in app.list_runs())


class Stopping(threading.Thread):
    """Stops an app beside the test."""

    def __init__(self, app, grace, **options):
        super().__init__(daemon=True)
        self.work = lambda: app.stop(grace, **options)
        self.start()
        until(lambda: not app.engine._dispatcher._claiming)

    def run(self):
        self.work()

    def end(self):
        self.join(LONG)
        assert not self.is_alive()


def test_what_runs_is_finished_and_nothing_more_is_claimed(app, held):
    app.start()
    until(lambda: len(held.futures) == WORKERS)
    held.begin(WORKERS)
    stopping = Stopping(app, LONG)
    app.run_flow(next(app.list_runs())["flow_id"], wait=False)
    held.answer()
    until(lambda: statuses(app)["SUCCEEDED"] == 1)
    assert stopping.is_alive()
    held.answer()
    stopping.end()
    assert statuses(app) == {"SUCCEEDED": 2, "PENDING": 2}
    assert not app.engine.running
    assert not held.futures


def test_what_was_claimed_ahead_goes_back_at_once(app, held):
    app.start()
    until(lambda: len(held.futures) == WORKERS)
    held.begin(1)
    stopping = Stopping(app, LONG)
    until(lambda: statuses(app) == {"RUNNING": 1, "PENDING": 3})
    assert stopping.is_alive()
    held.answer()
    stopping.end()
    assert statuses(app) == {"SUCCEEDED": 1, "PENDING": 3}


@pytest.mark.parametrize("how", ["no grace", "its end", "hurry"])
def test_what_has_not_ended_is_handed_back(app, held, how):
    app.start()
    until(lambda: len(held.futures) == WORKERS)
    held.begin(WORKERS)
    if how == "hurry":
        hurried = threading.Event()
        stopping = Stopping(app, LONG, hurry=hurried.is_set)
        stopping.join(0.3)
        assert stopping.is_alive()
        hurried.set()
        stopping.end()
    else:
        app.stop(0.0 if how == "no grace" else 0.3)
    assert statuses(app) == {"PENDING": 4}
    with app.db.read() as tx:
        rows = tx.exec_driver_sql(
            "SELECT function_failures, lost_tries, error_type, claim FROM run"
        ).all()
    assert set(rows) == {(0, 0, None, None)}


def test_a_stopped_app_can_start_again(app, held):
    app.start()
    until(lambda: len(held.futures) == WORKERS)
    app.stop()
    held.forget()
    app.start()
    until(lambda: len(held.futures) == WORKERS)
    for done in range(4):
        until(lambda: held.futures)
        held.answer()
        until(lambda done=done: statuses(app)["SUCCEEDED"] == done + 1)
    app.stop(LONG)
    assert statuses(app) == {"SUCCEEDED": 4}


def test_what_waits_for_a_limit_is_claimed_elsewhere_as_soon_as_a_run_ends(
    tmp_path, app, held, monkeypatch
):
    # Whoever slept until something is due by itself would sleep for ever.
    monkeypatch.setattr(engine, "_PATIENCE", 10 * LONG)
    app.set_limit("local", 1)
    app.start()
    until(lambda: held.futures)
    held.begin(1)
    there = Held()
    with make_app(tmp_path / "home", executor=there, workers=WORKERS) as other:
        other.start()
        until(lambda: other.engine._dispatcher and not other.engine._dispatcher._look)
        stopping = Stopping(app, LONG)
        assert not there.futures
        held.answer()
        stopping.end()
        until(lambda: there.futures)
        assert statuses(app) == {"SUCCEEDED": 1, "RUNNING": 1, "PENDING": 2}
        other.stop()
        there.forget()


def test_leases_are_kept_while_what_runs_is_finished(tmp_path, held):
    with make_app(tmp_path / "home", executor=held, workers=1, heartbeat=0.05) as app:
        flow = app.register_flow("local", app.register_function(numbered))
        app.run_flow(flow["id"], wait=False)
        app.start()
        until(lambda: len(held.futures) == 1)
        held.begin(1)
        stopping = Stopping(app, LONG)
        until(lambda: not app.engine._scheduler)
        before = _lease(app)
        until(lambda: _lease(app) > before)
        held.answer()
        stopping.end()
        assert statuses(app) == {"SUCCEEDED": 1}


def _lease(app):
    with app.db.read() as tx:
        return tx.exec_driver_sql("SELECT lease_expires FROM run").scalar_one()


# -- the command line --------------------------------------------------------------


@pytest.fixture
def work(isolation, tmp_path):
    """Begin `aero work` on a run that waits for `go`; return it once that runs."""
    started, go = tmp_path / "started", tmp_path / "go"
    with make_app(isolation) as app:
        kwargs = {"started": str(started), "go": str(go)}
        function = app.register_function(waiting)
        flow = app.register_flow("local", function, kwargs=kwargs)
        app.run_flow(flow["id"], wait=False)
    begun = []

    def begin(*args):
        worker = subprocess.Popen(
            [sys.executable, "-m", "aero", "work", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(worker)
        number = len(begun)
        until(lambda: started.is_file() and len(started.read_text().split()) == number)
        return worker

    yield begin
    for worker in begun:
        worker.kill()
        worker.communicate()


@pytest.mark.parametrize("once", [(), ("--once",)])
def test_work_that_is_stopped_finishes_what_runs(work, isolation, tmp_path, once):
    worker = work(*once)
    worker.send_signal(signal.SIGTERM)
    assert "Stopping: what runs has 25 s to end" in _said(worker, "Stopping")
    (tmp_path / "go").touch()
    out, _ = worker.communicate(timeout=LONG)
    assert "SUCCEEDED" in out
    assert worker.returncode == (128 + signal.SIGTERM if once else 0)
    with make_app(isolation) as app:
        assert statuses(app) == {"SUCCEEDED": 1}


def test_a_second_signal_hands_back_and_another_process_takes_it_at_once(
    work, isolation, tmp_path
):
    first = work("--grace", "600")
    first.send_signal(signal.SIGINT)
    _said(first, "Stopping")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=LONG)
    assert first.returncode == 0
    with make_app(isolation) as app:
        assert statuses(app) == {"PENDING": 1}
    second = work("--once")
    (tmp_path / "go").touch()
    second.communicate(timeout=LONG)
    assert second.returncode == 0
    with make_app(isolation) as app:
        assert statuses(app) == {"SUCCEEDED": 1}
        (run,) = app.list_runs()
        assert run["attempt"] == 2
        assert len(list(app.list_metadata("prov"))) == 1
    assert (tmp_path / "started").read_text().split() == ["started"] * 2


def _said(worker, word):
    for line in worker.stderr:
        if word in line:
            return line
    raise AssertionError(f"{word!r} was not said")
