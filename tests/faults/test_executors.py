"""An executor that breaks its promises costs attempts, never the dispatcher."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import pytest

from aero.compute.inline import InlineExecutor
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


@pytest.mark.parametrize("first", [_refused, _raising, _nonsense])
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
