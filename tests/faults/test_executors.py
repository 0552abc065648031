"""An executor that breaks its promises costs attempts, never the dispatcher."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from aero import Aero
from aero.compute.base import reference
from aero.compute.inline import InlineExecutor
from aero.config import ClientConf
from aero.testing import FrozenClock, make_app
from tests.conftest import Publisher
from tests.invariants import check_invariants


class Breaking(Executor):
    """Does what it should only after its first task."""

    def __init__(self, first: Callable[[], Future[Any]]) -> None:
        self._first: Callable[[], Future[Any]] | None = first
        self._rest = InlineExecutor()

    def submit(self, fn: Any, task: Any, /) -> Future[Any]:  # type: ignore[override]
        first, self._first = self._first, None
        return self._rest.submit(fn, task) if first is None else first()


def _refused() -> Future[Any]:
    raise RuntimeError("cannot schedule new futures")


def _raising() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(OSError("the pool is gone"))
    return future


def _nonsense() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result({"error": None, "unchanged": False})
    return future


def _nothing() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(None)
    return future


def _unheard_of() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result({"error": {"type": "E", "message": "no", "fault": "moon"}})
    return future


def _cancelled() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    return future


@pytest.mark.parametrize(
    "first", [_refused, _raising, _nonsense, _nothing, _unheard_of, _cancelled]
)
def test_the_run_is_tried_again(
    first: Callable[[], Future[Any]],
    tmp_path: Path,
    clock: FrozenClock,
    publisher: Publisher,
) -> None:
    url = publisher.publish("series", "1")
    with make_app(tmp_path, clock=clock, executor=Breaking(first)) as app:
        app.register_flow(
            "local", None, None, {"series": {"url": url}}, policy="INGESTION"
        )
        app.engine.run_ready()
        (run,) = app.list_runs()
        assert (run["status"], run["attempt"]) == ("PENDING", 2)
        assert run["error_message"]
        clock.advance(1)
        app.run_until_idle(10)
        (run,) = app.list_runs()
        assert run["status"] == "SUCCEEDED"
        assert check_invariants(app.db, store=app.settings.store, idle=True) == []


class Unhurried(Executor):
    """Lets whoever asks decide when a task is done."""

    def __init__(self) -> None:
        self.futures: list[Future[Any]] = []

    def submit(self, _fn: Any, _task: Any, /) -> Future[Any]:  # type: ignore[override]
        self.futures.append(Future())
        return self.futures[-1]


def test_a_run_that_is_claimed_again_has_its_older_work_killed(tmp_path: Path) -> None:
    executor = Unhurried()
    with make_app(tmp_path, executor=executor) as app:
        flow = app.register_flow("local", None, None, {"x": {"url": "http://x.org/x"}})
        run = app.run_flow(flow["id"], wait=False)
        dispatcher = app.engine._ready()
        dispatcher.step()
        # Another process does both, of which this one hears later.
        with make_app(tmp_path, executor=Unhurried()) as other:
            other.cancel_run(run["id"])
            other.retry_run(run["id"])
        dispatcher.wake()
        dispatcher.step()
        first, second = executor.futures
        assert first.cancelled()
        assert not second.done()
        dispatcher.step()
        assert app.get_run(run["id"])["status"] == "RUNNING"
        assert dispatcher.busy


def test_a_listener_that_fails_fails_no_run(
    tmp_path: Path, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    def listener(_event: str, _facts: Any) -> None:
        raise BrokenPipeError("nobody reads this")

    url = publisher.publish("series", "1")
    conf = ClientConf(home=tmp_path)
    with Aero(conf, executor=InlineExecutor(), listener=listener) as app:
        flow = app.register_flow("local", None, None, {"series": {"url": url}})
        assert app.run_flow(flow["id"], timeout=10)["status"] == "SUCCEEDED"
    assert "listener" in caplog.text


def test_what_cannot_be_handed_back_keeps_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = InlineExecutor()
    app = make_app(tmp_path, executor=executor)
    app.run_until_idle(10)
    (lock,) = (app.settings.home / "workers").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(app.engine._db, "write", _unreachable)
        with pytest.raises(OSError, match="unreachable"):
            app.close()
    assert not lock.exists()
    assert app._db._engine is None
    with pytest.raises(RuntimeError):
        executor.submit(reference, {"workdir": str(tmp_path / "w")})


def _unreachable(_work: Any) -> None:
    raise OSError("the database is unreachable")
