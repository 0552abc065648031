"""What a worker process does: run one function after another, each as if alone."""

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from aero.compute.base import Mask, encode_error, failure, perform
from aero.compute.processes import (
    adopt_orphans,
    end_children,
    flush_c,
    kill_tree,
    leave_group,
)
from aero.compute.scratch import TIMEOUT, Scratch
from aero.error import StorageError
from aero.types import Json

WATCH_INTERVAL = 0.5
"""Seconds between two looks at parent and deadline."""

GRACE = 1.0
"""Seconds past its deadline after which the kernel ends a worker by SIGALRM, should
the function not let the watching thread come to its turn."""

_SIGNALS = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGALRM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
    signal.SIGPIPE,
)
_LIMITS = sorted(
    {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
)


class Worker:
    """This process as a worker, and what it was before a function came.

    Args:
        memory_limit: Bytes of data that the process may have while a function runs.
    """

    def __init__(self, memory_limit: int | None = None) -> None:
        self.memory_limit = memory_limit
        self.spent = False
        self.due: tuple[float, Scratch] | None = None
        self._pid = os.getpid()
        self._fds = [os.dup(fd) for fd in range(3)]
        self._streams = [_stream(fd) for fd in (1, 2)]
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        self._environ = dict(os.environb)
        self._recursion = sys.getrecursionlimit()
        self._limits = {kind: resource.getrlimit(kind) for kind in _LIMITS}
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    def close(self) -> None:
        """Let go of the descriptors it keeps."""
        for fd in self._fds:
            os.close(fd)

    def run(self, reference: str, text: str) -> str:
        """Run one task; return JSON with "result", "error" or "cancelled"."""
        task = json.loads(text)
        scratch = Scratch(task["workdir"])
        mask = Mask(task.get("secrets") or (), os.environ)
        try:
            log = scratch.make()
            if not scratch.mark(str(self._pid)):
                scratch.clear()
                os.close(log)
                return json.dumps({"cancelled": True})
        except StorageError as error:
            scratch.release()
            return json.dumps({"error": encode_error(error)})
        threads = set(threading.enumerate())
        with self._isolated(scratch, log):
            reply = self._call(reference, task, scratch, mask)
        left = set(threading.enumerate()) - threads
        self.spent = self.spent or bool(left) or self._grown()
        _add_log(reply, scratch.tail(mask))
        scratch.clear_files()
        if not scratch.release():
            _await_death()
        return json.dumps(reply)

    def expire(self) -> None:
        """Kill this process if the task that it runs is past its deadline."""
        if self.due is None:
            return
        deadline, scratch = self.due
        if time.monotonic() >= deadline and scratch.release():
            scratch.mark(TIMEOUT)
            kill_tree(self._pid)

    def _call(
        self, reference: str, task: Json, scratch: Scratch, mask: Mask
    ) -> dict[str, Any]:
        try:
            module, _, name = reference.partition(":")
            fn = getattr(importlib.import_module(module), name)
            with self._limited(task.get("timeout"), scratch):
                result = perform(fn, task)
        except BaseException as error:  # noqa: BLE001 - recorded, whatever it is
            if os.getpid() != self._pid:
                self._leave(error)
            self.spent = self.spent or isinstance(error, MemoryError)
            return {"error": encode_error(failure(error, mask))}
        if os.getpid() != self._pid:
            self._leave(None)
        return {"result": result}

    def _leave(self, error: BaseException | None) -> NoReturn:
        # A child that the function forked came back: its parent delivers, it does not.
        code = 0 if error is None else 1
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        self._flush()
        os._exit(code & 0xFF)

    @contextlib.contextmanager
    def _limited(self, timeout: float | None, scratch: Scratch) -> Iterator[None]:
        if timeout is not None:
            self.due = (time.monotonic() + timeout, scratch)
            signal.setitimer(signal.ITIMER_REAL, timeout + GRACE)
        self._limit_memory(self.memory_limit)
        try:
            yield
        finally:
            self._limit_memory(None)
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.due = None

    def _limit_memory(self, limit: int | None) -> None:
        if self.memory_limit is None:
            return
        # Data is what a process asks for; numpy's threads alone reserve gigabytes of
        # address space, which only counts where the kernel knows no better limit.
        kind = resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS
        hard = resource.getrlimit(kind)[1]
        soft = hard if limit is None else limit
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (soft, hard))

    def _grown(self) -> bool:
        # What one function leaks would be missing from the next one's limit.
        if self.memory_limit is None or sys.platform != "linux":
            return False
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        return pages * os.sysconf("SC_PAGE_SIZE") > self.memory_limit // 2

    @contextlib.contextmanager
    def _isolated(self, scratch: Scratch, log: int) -> Iterator[None]:
        path = list(sys.path)
        streams = sys.stdout, sys.stderr
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        sys.stdout, sys.stderr = self._streams
        os.chdir(scratch.workdir)
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch.workdir)
        try:
            yield
        finally:
            self._restore_signals()
            self._restore_limits()
            self.spent = end_children() or self.spent
            self._flush()
            self._restore_fds()
            sys.stdout, sys.stderr = streams
            os.chdir("/")
            tempfile.tempdir = None
            os.umask(self._umask)
            sys.setrecursionlimit(self._recursion)
            sys.path[:] = path
            _restore_environ(self._environ)

    def _restore_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number, handler in self._handlers.items():
            if signal.getsignal(number) != handler:
                signal.signal(number, handler)

    def _restore_limits(self) -> None:
        for kind, limits in self._limits.items():
            if resource.getrlimit(kind) != limits:
                try:
                    resource.setrlimit(kind, limits)
                except (ValueError, OSError):
                    # A hard limit that was lowered stays for good.
                    self.spent = True

    def _restore_fds(self) -> None:
        try:
            for number, fd in enumerate(self._fds):
                os.dup2(fd, number)
        except OSError:
            # The function closed what it had not opened, the pool's pipes among it.
            os._exit(1)

    def _flush(self) -> None:
        flush_c()
        for index, stream in enumerate(self._streams):
            try:
                stream.flush()
            except (ValueError, OSError):
                self._streams[index] = _stream(index + 1)


class Lifetime(int):
    """How many tasks a worker may do: any number, until it is spent.

    The pool compares it with its count between two tasks, when the last is delivered
    and the next not taken yet: the only moment at which a worker can go without loss.
    """

    def __gt__(self, done: int) -> bool:
        if _worker is not None and _worker.spent:
            # A regular exit would wait for the threads that the function left.
            os._exit(0)
        return True


_worker: Worker | None = None


def initialize(parent: int, memory_limit: int | None) -> None:
    """Make this process a worker of process `parent`: the leader of its own session."""
    global _worker  # noqa: PLW0603 - the process is the worker
    leave_group()
    adopt_orphans()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.path[:] = [str(Path(entry).absolute()) for entry in sys.path]
    os.chdir("/")
    _worker = Worker(memory_limit)
    threading.Thread(target=_watch, args=(_worker, parent), daemon=True).start()


def guard(reference: str, text: str) -> str:
    """Run the function `reference` with the JSON task `text`; return a JSON reply."""
    if _worker is None:
        raise RuntimeError("This process is no worker: call initialize first.")
    return _worker.run(reference, text)


def _watch(worker: Worker, parent: int) -> None:
    while True:
        due = worker.due
        left = WATCH_INTERVAL if due is None else due[0] - time.monotonic()
        time.sleep(min(WATCH_INTERVAL, max(0.01, left)))
        if os.getppid() != parent:
            kill_tree(os.getpid())
        worker.expire()


def _stream(fd: int) -> TextIO:
    # By the line: what a function printed before it died is in the log.
    return os.fdopen(
        fd, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False
    )


def _add_log(reply: dict[str, Any], tail: str) -> None:
    if "result" in reply:
        reply["result"]["log_tail"] = tail
    else:
        reply["error"]["facts"].setdefault("log_tail", tail)


def _restore_environ(saved: dict[bytes, bytes]) -> None:
    now = dict(os.environb)
    for name in now.keys() - saved.keys():
        del os.environb[name]
    for name, value in saved.items():
        if now.get(name) != value:
            os.environb[name] = value


def _await_death() -> NoReturn:
    # Who removed the claim kills this process; one that went on might hold a lock.
    while True:
        time.sleep(1)
