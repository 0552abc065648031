"""Hears that the process shall stop, so that it can end what it does first."""

import os
import select
import signal
import threading
from types import FrameType
from typing import Any, Self

GRACE = 25.0
"""Below the 30 s after which Kubernetes, and the units of the README, kill."""


class StopRequest:
    """Hears SIGTERM, SIGINT (Ctrl-C) and SIGHUP while it is entered; the third kills.

    What is ignored already stays ignored, as SIGHUP is under nohup. A thread that gets
    no signals leaves them alone.

    Attributes:
        number: The first signal that was received, or None.
        hurried: Whether there was a second one.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.number: int | None = None
        self.hurried = False
        # A pipe, because a handler may not touch a lock that it may have interrupted.
        self._reader, self._writer = os.pipe()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self.SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._reader)
        os.close(self._writer)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.number is not None:
            self.hurried = True
            for each in self._before:
                signal.signal(each, signal.SIG_DFL)
            return
        self.number = number
        os.write(self._writer, b"!")

    def is_set(self) -> bool:
        """Whether the process shall stop."""
        return self.number is not None

    def wait(self, seconds: float) -> bool:
        """Wait, but no longer than until asked to stop; return whether that is so."""
        select.select([self._reader], [], [], seconds)
        return self.is_set()
