"""The background goes on after what nobody expected."""

import logging

import pytest

from aero.runs.dispatch import Dispatcher
from aero.testing import make_app
from tests.scenarios import tick


class Once:
    """Raises the first time it is called, then does what it stands in for."""

    def __init__(self, stands_for):
        self.calls = 0
        self.stands_for = stands_for

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == 1:
            raise ZeroDivisionError("nobody expected this")
        return self.stands_for(*arguments)


@pytest.fixture
def background(tmp_path, database_url):
    with make_app(tmp_path, database_url=database_url) as app:
        flow = app.register_flow("local", app.register_function(tick))
        yield app, flow["id"]


def test_a_dispatcher_that_fails_goes_on(background, monkeypatch, caplog):
    app, flow_id = background
    step = Once(Dispatcher.step)
    monkeypatch.setattr(Dispatcher, "step", lambda self: step(self))
    with caplog.at_level(logging.ERROR):
        app.start()
        run = app.run_flow(flow_id, timeout=30)
    app.stop()
    assert run["status"] == "SUCCEEDED"
    assert "nobody expected this" in caplog.text


def test_a_scheduler_that_fails_goes_on(background, monkeypatch, caplog):
    import aero.scheduling

    app, _ = background
    failing = Once(aero.scheduling.tick)
    monkeypatch.setattr(aero.scheduling, "tick", failing)
    with caplog.at_level(logging.ERROR):
        app.start()
        app.engine.run_until(lambda _tx: failing.calls > 1, timeout=30)
    app.stop()
    assert failing.calls > 1
    assert "nobody expected this" in caplog.text
