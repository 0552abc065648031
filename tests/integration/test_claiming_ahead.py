"""Runs are claimed ahead of the workers only while they are short."""

from collections import Counter

import pytest

from aero.runs import dispatch
from aero.testing import make_app
from tests.executors import Held

WORKERS = 2


def numbered(number):
    """Write nothing."""
    return None


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def app(tmp_path, database_url, held):
    conf = {"workers": WORKERS, "database_url": database_url}
    with make_app(tmp_path, executor=held, **conf) as app:
        function = app.register_function(numbered)
        for number in range(8):
            flow = app.register_flow("local", function, kwargs={"number": number})
            app.run_flow(flow["id"], wait=False)
        yield app
        held.forget()


def statuses(app):
    return Counter(run["status"] for run in app.list_runs())


def step(app, times=3):
    dispatcher = app.engine._ready()
    for _ in range(times):
        dispatcher.wake()
        dispatcher.step()


def test_nothing_is_claimed_ahead_of_what_may_be_long(app, held):
    step(app)
    assert statuses(app) == {"RUNNING": WORKERS, "PENDING": 8 - WORKERS}


def test_short_runs_are_claimed_ahead(app, held):
    step(app)
    held.answer()
    step(app)
    assert statuses(app)["RUNNING"] == 2 * WORKERS


def test_long_runs_end_it(app, held, monkeypatch):
    monkeypatch.setattr(dispatch, "SHORT", 0.0)
    step(app)
    held.answer()
    step(app)
    assert statuses(app)["RUNNING"] == WORKERS


def test_no_worker_is_idle_while_a_run_waits(tmp_path, database_url, held, monkeypatch):
    monkeypatch.setattr(dispatch, "SHORT", 0.0)
    conf = {"workers": 4, "database_url": database_url}
    with make_app(tmp_path, executor=held, **conf) as app:
        function = app.register_function(numbered)
        for number in range(8):
            flow = app.register_flow("local", function, kwargs={"number": number})
            app.run_flow(flow["id"], wait=False)
        step(app)
        held.answer()
        step(app)
        assert statuses(app)["RUNNING"] == 4
        held.forget()
