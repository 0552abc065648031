"""Waits in tests for what happens elsewhere: in another thread or process."""

import time
from collections.abc import Callable
from typing import Any


def until(holds: Callable[[], Any], seconds: float = 60.0, pause: float = 0.02) -> None:
    """Wait until something holds, which must come to pass within so many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(pause)
