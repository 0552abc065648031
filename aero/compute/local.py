"""Runs functions in processes of this machine that may crash, hang and be killed."""

import atexit
import contextlib
import json
import os
import signal
import threading
from concurrent.futures import Future, InvalidStateError, wait
from functools import partial
from typing import Any

from aero.compute.base import (
    ComputeExecutor,
    Mask,
    TaskFunction,
    checked,
    decode_error,
    reference,
)
from aero.compute.scratch import TIMEOUT, Scratch
from aero.error import (
    AeroError,
    FunctionDiedError,
    FunctionTimeoutError,
    InvalidValueError,
    WorkerLostError,
)
from aero.types import Json


class LocalExecutor(ComputeExecutor):
    """A pool of worker processes in which a function fails nothing but its own run.

    Start-up and imports are paid once per worker. A worker is replaced when a function
    ended it, left threads or processes behind, or ran out of memory. The workers never
    outlive this process, however it ends.

    Args:
        workers: How many functions run at once.
        memory_limit: Bytes of data that a worker may have while a function runs, or
            None. Enforced on Linux, as far as the system does so elsewhere.
    """

    def __init__(self, workers: int, *, memory_limit: int | None = None) -> None:
        if workers < 1:
            raise InvalidValueError(
                f"A pool of {workers} workers does nothing: ask for at least 1.",
                workers=workers,
            )
        self._workers = workers
        self._memory_limit = memory_limit
        self._lock = threading.RLock()
        self._pool: Any = None
        self._closed = False
        self._tasks: set[_TaskFuture] = set()
        self._burial: threading.Thread | None = None

    def start(self) -> None:
        """Start the workers now, so that the first task need not wait for them."""
        with self._lock:
            self._ready().active  # noqa: B018 - asking starts it

    def submit(self, fn: TaskFunction, task: Json, /) -> Future[Json]:  # type: ignore[override]
        """Run `fn(task)` in a worker; see the port."""
        from aero.compute.worker import guard

        name, text = reference(fn), checked(task)
        with self._lock:
            pool = self._ready()
            work = pool.schedule(guard, args=(name, text))
            future = _TaskFuture(task, pool, work)
            self._tasks.add(future)
        work.add_done_callback(partial(self._settle, future))
        if not pool.active:
            self._discard(pool)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and end; see the port."""
        with self._lock:
            self._closed = True
            tasks = list(self._tasks)
        if cancel_futures:
            for task in tasks:
                task.cancel()
        if wait:
            self._close(tasks)
        else:
            threading.Thread(target=self._close, args=(tasks,), daemon=True).start()

    def _ready(self) -> Any:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._pool is not None and not self._pool.active:
            self._discard(self._pool)
        if self._pool is None:
            from aero.compute.pool import make_pool

            self._pool = make_pool(self._workers, self._memory_limit, self._busy)
            atexit.register(self._at_exit, os.getpid())
        return self._pool

    def _busy(self, pid: int) -> bool:
        with self._lock:
            tasks = list(self._tasks)
        return any(task.scratch.holder() == str(pid) for task in tasks)

    def _settle(self, future: "_TaskFuture", work: Future[str]) -> None:
        result: Json = {}
        error: Exception | None = None
        try:
            result = _outcome(future, work)
        except Exception as problem:  # noqa: BLE001 - handed to whoever waits for it
            error = problem
        with self._lock:
            self._tasks.discard(future)
        if isinstance(error, WorkerLostError):
            self._discard(future.pool)
        if future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    def _discard(self, pool: Any) -> None:
        # A pool breaks when a worker is killed from outside. It must not leave a task
        # unanswered, and cannot be joined in what may be its own thread.
        with self._lock:
            if self._pool is not pool:
                return
            self._pool = None
            tasks = [task for task in self._tasks if task.pool is pool]
        self._burial = threading.Thread(target=_bury, args=(pool, tasks), daemon=True)
        self._burial.start()

    def _close(self, tasks: "list[_TaskFuture]") -> None:
        wait(tasks)
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()
        if self._burial is not None:
            self._burial.join()
        atexit.unregister(self._at_exit)

    def _at_exit(self, owner: int) -> None:
        # A fork of this process ends without touching what is not its own.
        pool, self._pool = self._pool, None
        if os.getpid() != owner or pool is None:
            return
        self._closed = True
        tasks = list(self._tasks)
        pool.stop()
        pool.join()
        for task in tasks:
            task.scratch.clear()


class _TaskFuture(Future[Json]):
    """The future of a task, from whose cancelling the work does not recover."""

    def __init__(self, task: Json, pool: Any, work: Future[str]) -> None:
        super().__init__()
        self.pool = pool
        self.work = work
        self.scratch = Scratch(task["workdir"])
        self.timeout: float | None = task.get("timeout")
        self.mask = Mask(task.get("secrets") or (), os.environ)

    def running(self) -> bool:
        """Tell whether a worker has it."""
        # The pool hears of it a while after the function may have begun.
        begun = self.work.running() or self.scratch.holder() is not None
        return begun and not self.done()

    def cancel(self) -> bool:
        """Cancel it and kill the work; False if it has ended before."""
        if not super().cancel():
            return False
        pid = self.scratch.condemn()
        if pid is not None:
            from aero.compute.processes import kill_tree

            kill_tree(pid)
        if self.work.done():
            self.scratch.clear()
        return True


def _outcome(future: _TaskFuture, work: Future[str]) -> Json:
    error = work.exception()
    if error is None:
        reply = json.loads(work.result())
        if "error" in reply:
            raise decode_error(reply["error"])
        if future.cancelled():
            future.scratch.clear()
        return dict(reply.get("result") or {})
    tail, holder = future.scratch.tail(future.mask), future.scratch.holder()
    future.scratch.clear()
    code = getattr(error, "exitcode", None)
    if code is None:
        raise WorkerLostError(
            "The pool of local workers broke down, perhaps because a worker was killed "
            "from outside: run it again.",
            log_tail=tail,
        ) from error
    raise _death(code, future.timeout, holder, tail) from error


def _death(
    code: int, timeout: float | None, holder: str | None, tail: str
) -> AeroError:
    if timeout is not None and (holder == TIMEOUT or code == -signal.SIGALRM):
        return FunctionTimeoutError(
            f"The work was stopped at its timeout of {timeout:g} s: give it more time "
            "or less to do.",
            timeout=timeout,
            log_tail=tail,
        )
    if code >= 0:
        from aero.compute.pool import EXITED

        code = 0 if code == EXITED else code
        return FunctionDiedError(
            f"The function ended its process with exit code {code}: let it return "
            "instead.",
            exitcode=code,
            log_tail=tail,
        )
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"{-code}"
    hint = "see what it printed last in its log"
    if code == -signal.SIGKILL:
        hint = "if memory ran out, give it less to do at once or use fewer workers"
    return FunctionDiedError(
        f"The function's process was ended by signal {name}: {hint}.",
        signal=name,
        log_tail=tail,
    )


def _bury(pool: Any, tasks: list[_TaskFuture]) -> None:
    from concurrent.futures.process import BrokenProcessPool

    pool.stop()
    pool.join()
    for task in tasks:
        with contextlib.suppress(InvalidStateError):
            task.work.set_exception(BrokenProcessPool("The pool broke."))
