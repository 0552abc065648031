"""Ends processes together with all that they started."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from typing import Any

PATIENCE = 5.0
"""Seconds that a worker tries to be rid of a function's processes."""


def kill_tree(pid: int) -> None:
    """Kill a worker, its group and all its descendants, in their own sessions too."""
    try:
        kill_descendants(pid)
    finally:
        kill_group(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads or led; none is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_descendants(pid: int) -> None:
    """Kill every descendant of `pid` that can be found, but not itself."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def leave_group() -> None:
    """Lead a session and a process group of its own."""
    if os.getsid(0) != os.getpid():
        os.setsid()


def adopt_orphans() -> None:
    """Become the parent of orphaned descendants where the system has that (Linux)."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        _c("prctl")(pr_set_child_subreaper, 1, 0, 0, 0)


def flush_c() -> None:
    """Write out what C code holds in its buffers."""
    _c("fflush")(None)


def end_children() -> bool:
    """Kill and reap the children of this process; tell whether any was alive.

    A worker that is not rid of them within `PATIENCE` kills itself with them.
    """
    alive = sys.platform != "linux" and end_orphans()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return alive
        if not pid:
            alive = True
            kill_descendants(os.getpid())
            time.sleep(0.001)
        if time.monotonic() > deadline:
            kill_tree(os.getpid())


def end_orphans() -> bool:
    """Kill the other members of the group this process leads; tell if there were any.

    For systems that do not hand an orphan to the worker it descends from.
    """
    import psutil

    me, found = os.getpid(), False
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if pid not in {0, me} and os.getpgid(pid) == me:
                os.kill(pid, signal.SIGKILL)
                found = True
    return found


@cache
def _c(name: str) -> Callable[..., Any]:
    import ctypes

    return getattr(ctypes.CDLL(None), name)  # type: ignore[no-any-return]
