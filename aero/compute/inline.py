"""Runs functions in the calling thread, at once: for tests and for debugging."""

import contextlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from aero.compute.base import (
    ComputeExecutor,
    Mask,
    TaskFunction,
    checked,
    failure,
    perform,
    reference,
)
from aero.compute.scratch import Scratch
from aero.error import AeroError
from aero.types import Json


class InlineExecutor(ComputeExecutor):
    """Runs `fn` while `submit` waits, one at a time, with nothing to isolate it.

    What the port promises holds, but for this: a timeout is ignored, the log has only
    what Python printed, and a function that ends its process ends this one.
    """

    def __init__(self) -> None:
        # Working directory and standard output belong to the whole process.
        self._lock = threading.RLock()
        self._closed = False

    def submit(self, fn: TaskFunction, task: Json, /) -> Future[Json]:  # type: ignore[override]
        """Run `fn(task)` now; see the port."""
        reference(fn)
        task = json.loads(checked(task))
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[Json] = Future()
        future.set_running_or_notify_cancel()
        try:
            with self._lock:
                result = _run(fn, task)
        except AeroError as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Take nothing more; nothing is ever left to wait for."""
        self._closed = True


def _run(fn: TaskFunction, task: Json) -> Json:
    scratch = Scratch(task["workdir"])
    mask = Mask(task.get("secrets") or (), os.environ)
    log = scratch.make()
    try:
        with _inside(scratch.workdir), _captured(log):
            result = perform(fn, task)
        return result | {"log_tail": scratch.tail(mask)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - recorded
        problem = failure(error, mask)
        problem.facts.setdefault("log_tail", scratch.tail(mask))
        raise problem from (None if problem is error else error)
    finally:
        scratch.clear()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    cwd, tempdir, variable = Path.cwd(), tempfile.tempdir, os.environ.get("TMPDIR")
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        os.chdir(cwd)
        tempfile.tempdir = tempdir
        os.environ.pop("TMPDIR", None)
        if variable is not None:
            os.environ["TMPDIR"] = variable


@contextlib.contextmanager
def _captured(log: int) -> Iterator[None]:
    with (
        os.fdopen(log, "w", encoding="utf-8", errors="backslashreplace") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield
