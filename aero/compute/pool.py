"""The pool of worker processes: Pebble's, with workers that die as a group."""

import os
from collections.abc import Callable
from typing import Any

from loky.backend.context import LokyContext
from loky.backend.process import LokyProcess
from pebble import ProcessPool

from aero.compute.processes import kill_group, kill_tree
from aero.compute.worker import Lifetime, initialize

EXITED = 256
"""Stands for exit code 0 of a worker that had a task: Pebble takes 0 for a wish."""


class WorkerProcess(LokyProcess):  # type: ignore[misc]
    """A process that never imports the user's `__main__`, as the pool sees it.

    Args:
        busy: Tells whether the worker with a process id has a task.
        options: As for a multiprocessing.Process.
    """

    def __init__(self, *, busy: Callable[[int], bool], **options: Any) -> None:
        super().__init__(**options)
        self._busy = busy
        self._dead = self._ended = False

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_busy"}

    def is_alive(self) -> bool:
        """Tell whether it lives; a death that came by itself is told one call late.

        Meanwhile the pool reads what the worker sent last. It would lose a task whose
        taking it hears of after the taker's death.
        """
        if super().is_alive():
            return True
        late = self._dead or self._ended
        if not self._dead:
            self._dead = True
            kill_group(self.pid)
        return not late

    def terminate(self) -> None:
        """Kill the process and all that it started, at once."""
        self._ended = True
        # A fork of the pool's process inherits this object, not the right to kill.
        if self._parent_pid == os.getpid() and self._popen.poll() is None:
            kill_tree(self.pid)

    @property
    def exitcode(self) -> int | None:
        """As multiprocessing has it, but EXITED for a 0 in the midst of a task."""
        code: int | None = super().exitcode
        return EXITED if code == 0 and self._busy(self.pid) else code


class WorkerContext(LokyContext):  # type: ignore[misc]
    """A multiprocessing context whose processes are `WorkerProcess`."""

    def __init__(self, busy: Callable[[int], bool]) -> None:
        super().__init__()
        self._busy = busy

    def Process(self, **options: Any) -> WorkerProcess:  # noqa: N802 - the base's name
        """Return a worker to be."""
        return WorkerProcess(busy=self._busy, **options)


def make_pool(
    workers: int, memory_limit: int | None, busy: Callable[[int], bool]
) -> Any:
    """Return a pool, not started yet, of `workers` processes.

    `memory_limit` is in bytes per worker; `busy` as for `WorkerProcess`.
    """
    return ProcessPool(
        max_workers=workers,
        max_tasks=Lifetime(1),
        initializer=initialize,
        initargs=(os.getpid(), memory_limit),
        context=WorkerContext(busy),
    )
