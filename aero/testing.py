"""For tests, yours and ours: a workspace of its own, time that stands still.

    def test_my_flow(tmp_path):
        clock = FrozenClock()
        with make_app(tmp_path, clock=clock) as app:
            function = app.register_function(my_function)
            ...
            clock.advance(timedelta(days=1))
            app.run_until_idle()

Everything here is real but for where functions run and what time it is.
"""

import threading
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from aero.app import Aero
from aero.clock import Clock, utc_now
from aero.compute.inline import InlineExecutor
from aero.config import ClientConf
from aero.error import InvalidValueError

__all__ = ["FrozenClock", "InlineExecutor", "make_app"]

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class FrozenClock:
    """A clock that shows the same time until it is told another; thread-safe.

    Args:
        start: The time it shows first, aware.

    Raises:
        InvalidValueError: `start` is naive.
    """

    def __init__(self, start: datetime = EPOCH) -> None:
        self._lock = threading.Lock()
        self._now = _utc(start)

    def __call__(self) -> datetime:
        """Return the time, aware and in UTC."""
        with self._lock:
            return self._now

    def __repr__(self) -> str:
        return f"FrozenClock({self().isoformat()})"

    def advance(self, by: timedelta | float) -> datetime:
        """Move the time on (or back) by a timedelta or seconds; return the new one."""
        step = by if isinstance(by, timedelta) else timedelta(seconds=by)
        with self._lock:
            self._now += step
            return self._now

    def set(self, moment: datetime) -> datetime:
        """Show `moment`, aware, from now on; return it in UTC.

        Raises:
            InvalidValueError: `moment` is naive.
        """
        now = _utc(moment)
        with self._lock:
            self._now = now
        return now


def make_app(
    tmp_path: Path,
    *,
    clock: Clock | None = None,
    executor: Literal["inline"] | Executor | None = "inline",
    **conf: Any,
) -> Aero:
    """Return a workspace of its own below `tmp_path`; `close` it, or use `with`.

    No configuration file or environment variable is read.

    Args:
        tmp_path: Its data directory; calls with the same one share the workspace.
        clock: Its clock, such as a `FrozenClock`; default: the real time. A PostgreSQL
            database has one of its own.
        executor: Where functions run: "inline", in the calling thread, which is quick
            and lets a debugger in; an executor of yours; or None, for the worker
            processes that are used outside tests.
        conf: Other settings, by their names in `ClientConf`.
    """
    return Aero(
        ClientConf(home=tmp_path, **conf),
        clock=clock or utc_now,
        executor=InlineExecutor() if isinstance(executor, str) else executor,
    )


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidValueError(f"{moment} is naive: give an aware time.")
    return moment.astimezone(UTC)
