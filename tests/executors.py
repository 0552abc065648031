"""Executors whose work goes on when a test says so."""

from concurrent.futures import Executor, Future
from typing import Any


class Held(Executor):
    """Keeps what is submitted until it is told to answer."""

    def __init__(self) -> None:
        self.futures: list[tuple[Future[Any], Any, dict[str, Any]]] = []

    def submit(self, fn: Any, task: dict[str, Any], /) -> Future[Any]:  # type: ignore[override]
        self.futures.append((Future(), fn, task))
        return self.futures[-1][0]

    def begin(self, count: int) -> None:
        """Let the first `count` of what is kept run; the others still wait."""
        for future, _, _ in self.futures[:count]:
            future.set_running_or_notify_cancel()

    def answer(self) -> str:
        """Do what was submitted first; return its flow."""
        future, fn, task = self.futures.pop(0)
        future.set_result(fn(task))
        return str(task["aero"]["flow_id"])

    def forget(self) -> None:
        """Cancel what is left."""
        while self.futures:
            self.futures.pop()[0].cancel()
