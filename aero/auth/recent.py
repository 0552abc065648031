"""What was found out a short while ago, and what is being found out just now."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

V = TypeVar("V")

Seconds = Callable[[], float]
"""A monotonic clock."""


class Recent(Generic[V]):
    """Answers that are good for a while; thread-safe.

    Args:
        most: How many are kept; the one that was asked for longest ago goes first.
        seconds: The clock that they end by.
    """

    def __init__(self, most: int, seconds: Seconds = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        """Return what is kept of `key`, None if nothing is that is still good."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            until, answer = found
            if until <= self._seconds():
                del self._kept[key]
                return None
            self._kept.move_to_end(key)
            return answer

    def drop(self, key: str) -> None:
        """Keep it no longer."""
        with self._lock:
            self._kept.pop(key, None)

    def keep(self, key: str, answer: V, *, until: float) -> None:
        """Keep an answer until a moment of the clock."""
        with self._lock:
            self._kept[key] = until, answer
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)


class Once(Generic[V]):
    """Lets one of those who ask the same at the same time ask for all; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[str, Future[V]] = {}

    def ask(self, key: str, question: Callable[[], V]) -> V:
        """Return, or raise, what `question` does, which others may just be asking."""
        with self._lock:
            others = self._under_way.get(key)
            mine: Future[V] = Future()
            if others is None:
                self._under_way[key] = mine
        if others is not None:
            return others.result()
        try:
            answer = question()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._under_way[key]
