"""The compute port: a `concurrent.futures.Executor` that takes one JSON task."""

import contextlib
import json
import sys
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path

from aero import error as errors
from aero.error import (
    AeroError,
    ClientError,
    FunctionError,
    InvalidTypeError,
    InvalidValueError,
)
from aero.failure import told_by, traceback_of
from aero.types import Json

LOG_LIMIT = 64 * 1024
"""How many bytes of a function's output are kept: the last ones."""

MASK = "***"

TaskFunction = Callable[[Json], Json]
"""A module-level function that can be imported by its name."""


class ComputeExecutor(Executor):
    """Runs functions, each in a directory of its own, and keeps what they print.

    Nothing starts before the first `submit`. An executor is its own context
    manager; leaving it waits for what was submitted.
    """

    @abstractmethod
    def submit(  # type: ignore[override]
        self, fn: TaskFunction, task: Json, /
    ) -> Future[Json]:
        """Run `fn(task)` and return a future of the dict that it returns.

        Args:
            fn: Found again by module and name where it runs, so it is neither
                nested, nor a lambda, nor of the module `__main__`.
            task: JSON, handed to `fn` as it is. Reserved keys:
                "workdir": absolute path of a directory that does not exist yet, in
                one that does. It is made (mode 0700) before `fn` is called, is the
                working directory and TMPDIR meanwhile, and is always removed,
                together with the files `<workdir>.log` and `<workdir>.claim`.
                "timeout": seconds that `fn` may take, or None (optional).
                "secrets": names of environment variables whose values are masked
                in log, error message and traceback (optional).

        Returns:
            A future. Its result has the key "log_tail": the last 64 KiB of what the
            function wrote to standard output and error. `cancel()` works at any
            time before the end and kills what runs; `concurrent.futures.wait`
            then returns once the work is gone. Callbacks run in a thread of the
            pool, which must not be kept waiting. The future's exception is

            - what `fn` raised, if it is one of `aero.error`;
            - OutOfMemoryError for a MemoryError;
            - FunctionError for any other exception (`error_type`, `error_message`);
            - FunctionTimeoutError (`timeout`, seconds);
            - FunctionDiedError when the function ended its process (`exitcode`, or
              `signal`, a name);
            - StorageError when the working directory cannot be made;
            - WorkerLostError when the pool broke down: try again.

            All but the last have `log_tail`; what was raised has `traceback`.

        Raises:
            InvalidTypeError: `fn` cannot be imported, or `task` is not JSON.
            InvalidValueError: "workdir" or "timeout" cannot be used.
            RuntimeError: The executor has been shut down.
        """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing more, and end.

        Args:
            wait: Return when all is done and nothing is left, else at once.
            cancel_futures: Cancel what was submitted, also what is running.
        """


def reference(fn: TaskFunction) -> str:
    """Return `module:name` of an importable function.

    Raises:
        InvalidTypeError: It would not be found again under that name.
    """
    module, name = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    found = getattr(sys.modules.get(str(module)), str(name), None)
    if found is not fn or module == "__main__":
        raise InvalidTypeError(
            f"{fn!r} cannot be imported by name: submit a function that stands at "
            "the top level of an importable module."
        )
    return f"{module}:{name}"


def checked(task: Json) -> str:
    """Return `task` as JSON text.

    Raises:
        InvalidTypeError: It is not JSON.
        InvalidValueError: "workdir" is no absolute path or "timeout" not above 0.
    """
    try:
        text = json.dumps(task)
    except (TypeError, ValueError) as error:
        raise InvalidTypeError(
            f"The task is not JSON ({error}): use only what JSON has words for."
        ) from error
    workdir, timeout = task.get("workdir"), task.get("timeout")
    if not isinstance(workdir, str) or not Path(workdir).is_absolute():
        raise InvalidValueError(
            f"The task's workdir is {workdir!r}: give an absolute path.",
            workdir=workdir,
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise InvalidValueError(
            f"The task's timeout is {timeout!r}: give seconds above 0, or None.",
            timeout=timeout,
        )
    return text


class Mask:
    """Replaces the values of secret environment variables in a text."""

    def __init__(self, names: Iterable[str], environ: Mapping[str, str]) -> None:
        values = {environ.get(name, "") for name in names} - {""}
        self._values = sorted(values, key=len, reverse=True)
        self.reach = max((len(value.encode()) for value in values), default=0)

    def __call__(self, text: str) -> str:
        """Return `text` without them."""
        for value in self._values:
            text = text.replace(value, MASK)
        return text


def perform(fn: TaskFunction, task: Json) -> Json:
    """Return `fn(task)`.

    Raises:
        TypeError: What it returned is not a dict that JSON can express.
    """
    result = fn(task)
    if not isinstance(result, dict):
        raise TypeError(f"it returned a {type(result).__name__}, not a dict")
    return dict(json.loads(json.dumps(result)))


def failure(error: BaseException, mask: Mask) -> AeroError:
    """Return the aero error that tells what a function raised, secrets masked."""
    trace = mask(traceback_of(error, error.__traceback__))
    if isinstance(error, AeroError) and _known(error):
        error.message = mask(str(error.message))
        for name, fact in error.facts.items():
            error.facts[name] = mask(fact) if isinstance(fact, str) else fact
        error.facts.setdefault("traceback", trace)
        return error
    name, message = type(error).__name__, mask(_text(error))
    facts = {"error_type": name, "error_message": message, "traceback": trace}
    told = told_by(error)
    if told is not None:
        told.facts.update(facts)
        return told
    return FunctionError(
        f"The function raised {name}{': ' * bool(message)}{message}", **facts
    )


def _known(error: AeroError) -> bool:
    return getattr(errors, type(error).__name__, None) is type(error)


def _text(error: BaseException) -> str:
    # The function's own __str__ may fail too, and that must not hide the error.
    with contextlib.suppress(Exception):
        return str(error)
    return ""


def encode_error(error: AeroError) -> Json:
    """Return `error` as JSON; what JSON has no word for becomes its str()."""
    code = error.code if isinstance(error, ClientError) else None
    facts = json.loads(json.dumps(error.facts, default=str, skipkeys=True))
    return {
        "type": type(error).__name__,
        "message": error.message,
        "code": code,
        "facts": facts,
    }


def decode_error(data: Json) -> AeroError:
    """Return the error that `encode_error` wrote down."""
    kind: type[AeroError] = getattr(errors, data["type"])
    error = kind(data["message"], **data["facts"])
    if isinstance(error, ClientError):
        error.code = data["code"]
    return error
