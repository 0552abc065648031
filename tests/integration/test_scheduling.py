"""Ticks: due times kept in the database, missed ones coalesced, in the background."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_STOPPED

from aero import scheduling
from aero.engine import Engine
from aero.scheduling import Scheduler, tick
from aero.testing import make_app
from tests.scenarios import another, statuses, ticked_at_once
from tests.scenarios import tick as nothing


def timed(app, name="out", **options):
    options.setdefault("policy", "TIMER")
    return app.register_flow(
        "local",
        app.register_function(nothing),
        {},
        {},
        {},
        description=name,
        **options,
    )


def next_due(app, flow):
    return app.get_flow(flow["id"], inputs_only=False)["next_due"]


def wait_for(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


@pytest.fixture
def live(tmp_path, database_url):
    """A workspace in real time."""
    with make_app(tmp_path / "h", database_url=database_url) as app:
        yield app


def test_missed_ticks_become_one_run_and_the_grid_stays(app, clock):
    flow = timed(app, timer_delay=60)
    app.run_until_idle(10)
    clock.advance(60 * 5 + 17)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]
    assert next_due(app, flow) == "2026-01-01T00:06:00+00:00"
    newest = next(app.list_runs(flow["id"]))
    assert newest["trigger_key"] == "timer:2026-01-01T00:01:00+00:00"


def test_ticks_while_a_run_waits_join_it(app, clock):
    flow = timed(app, timer_delay=60)
    for _ in range(3):
        clock.advance(60)
        assert tick(app.db) == 1
    [run] = app.list_runs(flow["id"])
    assert run["status"] == "PENDING"
    assert run["trigger_key"] == "timer:2026-01-01T00:03:00+00:00"
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]


def test_nothing_is_due_twice(app, clock):
    timed(app, timer_delay=60)
    clock.advance(60)
    assert [tick(app.db), tick(app.db)] == [1, 0]


def test_two_schedulers_tick_a_flow_once(app, clock):
    with another(app, clock=clock) as two:
        flow = timed(app, timer_delay=60)
        app.run_until_idle(10)
        clock.advance(60)
        assert ticked_at_once(app, two) == [0, 1]
        two.run_until_idle(10)
        assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]


def test_a_restart_forgets_nothing(app, clock):
    with another(app, clock=clock) as before:
        flow = timed(before, timer_delay=60)
        before.run_until_idle(10)
    clock.advance(3600)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]


def test_a_clock_that_goes_back_fires_nothing_again(app, clock):
    flow = timed(app, timer_delay=60)
    clock.advance(60)
    app.run_until_idle(10)
    clock.advance(-120)
    app.run_until_idle(10)
    clock.advance(120)
    app.run_until_idle(10)
    assert statuses(app, flow).count("SUCCEEDED") == 1
    assert next_due(app, flow) == "2026-01-01T00:02:00+00:00"


def test_cron_follows_the_zone_over_the_change_of_clocks(app, clock):
    clock.set(datetime(2026, 3, 28, 12, tzinfo=UTC))
    flow = timed(app, cron="0 6 * * *", timezone="Europe/Berlin")
    assert flow["next_due"] == "2026-03-29T04:00:00+00:00"
    clock.advance(timedelta(days=300))
    app.run_until_idle(10)
    assert next_due(app, flow).endswith("T05:00:00+00:00")


def test_more_flows_than_a_batch_are_all_ticked(app, clock, monkeypatch):
    monkeypatch.setattr(scheduling, "BATCH", 2)
    for n in range(5):
        app.register_flow(
            "local",
            app.register_function(nothing),
            {},
            {f"out{n}": {}},
            policy="TIMER",
            cron="* * * * *",
        )
    clock.advance(60)
    assert [tick(app.db) for _ in range(4)] == [2, 2, 1, 0]


def test_in_the_background_timers_fire(live):
    live.start()
    assert live.engine.running
    flow = timed(live, timer_delay=0.2)
    wait_for(lambda: statuses(live, flow).count("SUCCEEDED") >= 3)
    live.stop()
    assert not live.engine.running
    before = len(statuses(live, flow))
    time.sleep(0.3)
    assert len(statuses(live, flow)) == before


def test_start_and_stop_may_be_repeated(live):
    live.stop()
    for _ in range(2):
        live.start()
        live.start()
        flow = timed(live, timer_delay=86400, exist_ok=True)
        live.run_until_idle(20)
        live.stop()
        live.stop()
    assert statuses(live, flow) == ["SUCCEEDED"]


def test_waiting_in_the_background_has_a_timeout(live):
    live.start()
    flow = timed(live, timer_delay=0.05)
    live.pause_flow(flow["id"])
    with pytest.raises(TimeoutError):
        live.engine.run_until(lambda tx: False, 0.3)


def test_a_wake_during_a_tick_is_not_slept_over(live, monkeypatch):
    """What falls due while a tick looks is not left until the tick's own plan."""
    assert tick(live.db) == 0
    looking, go = threading.Event(), threading.Event()
    real = scheduling.flow_queries.next_due
    calls = []

    def slow(tx):
        found = real(tx)
        calls.append(found)
        if threading.current_thread() is not threading.main_thread() and (
            len(calls) == 2
        ):
            looking.set()
            go.wait(10)
        return found

    monkeypatch.setattr(scheduling.flow_queries, "next_due", slow)
    scheduler = Scheduler(live.db, lambda: None)
    scheduler.start()
    try:
        assert looking.wait(10)
        flow = timed(live, timer_delay=0.05)
        scheduler.wake()
        time.sleep(0.2)
        go.set()
        first = next_due(live, flow)
        wait_for(lambda: next_due(live, flow) != first, 10)
    finally:
        go.set()
        scheduler.stop()


def test_an_engine_that_never_ran_closes(tmp_path):
    with make_app(tmp_path / "h") as app:
        assert isinstance(app.engine, Engine)
        app.engine.kill(["nothing"])
        app.engine.wake()
    assert not (tmp_path / "h").exists()


def test_a_scheduler_that_is_stopped_as_it_ticks_stops_quietly(app, monkeypatch):
    ticking = threading.Event()
    remove = BackgroundScheduler.remove_job

    def late(self, *args):
        ticking.set()
        deadline = time.monotonic() + 0.5
        while self.state != STATE_STOPPED and time.monotonic() < deadline:
            time.sleep(0.01)
        remove(self, *args)

    monkeypatch.setattr(BackgroundScheduler, "remove_job", late)
    scheduler = Scheduler(app.db, lambda: None)
    scheduler.start()
    assert ticking.wait(20)
    scheduler.stop()
