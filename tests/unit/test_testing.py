"""What is shipped for tests holds what it promises."""

import threading
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from aero.clock import utc_now
from aero.compute.local import LocalExecutor
from aero.error import InvalidValueError
from aero.testing import FrozenClock, InlineExecutor, make_app


def shout(text):
    print(text)


def test_time_stands_still_until_it_is_moved() -> None:
    clock = FrozenClock()
    assert clock() == clock() == datetime(2026, 1, 1, tzinfo=UTC)
    assert clock.advance(90) == clock() == datetime(2026, 1, 1, 0, 1, 30, tzinfo=UTC)
    assert clock.advance(timedelta(days=-1)) == datetime(
        2025, 12, 31, 0, 1, 30, tzinfo=UTC
    )
    assert repr(clock) == "FrozenClock(2025-12-31T00:01:30+00:00)"


def test_it_is_set_in_any_zone_and_shows_utc() -> None:
    moment = datetime(2026, 6, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    clock = FrozenClock(moment)
    assert clock() == moment
    assert clock().tzinfo is UTC
    assert clock.set(moment + timedelta(hours=1)) == clock()
    assert clock().hour == 13


def test_naive_times_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="naive"):
        FrozenClock(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidValueError, match="naive"):
        FrozenClock().set(datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def test_threads_move_it_together() -> None:
    clock = FrozenClock()

    def move() -> None:
        for _ in range(1000):
            clock.advance(1)

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock() == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=4000)


def test_a_workspace_runs_functions_here_at_its_own_time(tmp_path: Path) -> None:
    clock = FrozenClock()
    with make_app(tmp_path, clock=clock) as app:
        function = app.register_function(shout)
        flow = app.register_flow("local", function, kwargs={"text": "hello"})
        run = app.run_flow(flow["id"], timeout=30)
    assert run["status"] == "SUCCEEDED"
    assert run["log_tail"] == "hello\n"
    assert run["finished_at"] == clock().isoformat()


def test_an_executor_of_ones_own_is_used(tmp_path: Path, database_url: str) -> None:
    used: list[object] = []

    class Watched(InlineExecutor):
        def submit(self, fn, task, /):  # type: ignore[no-untyped-def]
            used.append(fn)
            return super().submit(fn, task)

    executor: Executor = Watched()
    with make_app(tmp_path, executor=executor, database_url=database_url) as app:
        function = app.register_function(shout)
        flow = app.register_flow("local", function, kwargs={"text": "hello"})
        app.run_flow(flow["id"], timeout=30)
    assert len(used) == 1


def test_without_one_there_are_worker_processes_in_real_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[object] = []
    submit = LocalExecutor.submit

    def watched(self, fn, task, /):  # type: ignore[no-untyped-def]
        used.append(fn)
        return submit(self, fn, task)

    monkeypatch.setattr(LocalExecutor, "submit", watched)
    with make_app(tmp_path, executor=None, workers=1) as app:
        function = app.register_function(shout)
        flow = app.register_flow("local", function, kwargs={"text": "hello"})
        run = app.run_flow(flow["id"], timeout=60)
    assert run["status"] == "SUCCEEDED"
    assert len(used) == 1
    assert abs(datetime.fromisoformat(run["finished_at"]) - utc_now()) < timedelta(
        minutes=1
    )


def test_settings_are_given_by_name_and_nothing_else_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AERO_RETENTION_DAYS", "1")
    with make_app(tmp_path, workers=3) as app:
        assert app.settings.home == tmp_path
        assert app.settings.workers == 3
        assert app.settings.retention_days == 30
