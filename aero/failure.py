"""Why a task failed, in JSON: error, the user's part of the traceback, and fault."""

import traceback
from collections.abc import Mapping
from types import TracebackType

from aero import secret
from aero.error import (
    AeroError,
    ClientError,
    FunctionError,
    OutOfMemoryError,
    SourceError,
    SourceUnavailableError,
    StorageError,
)
from aero.types import Json, Step

USER_MODULE = "aero_function_"
"""How the name of a module begins that holds a user's function."""

_TEXT_LIMIT = 64 * 1024
_FRAMES = -1000
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (SourceUnavailableError, "unavailable"),
    (SourceError, "source"),
    (StorageError, "storage"),
    (OSError, "storage"),
)


def failure(
    error: BaseException,
    file_name: str,
    *,
    step: str | None,
    secrets: Mapping[str, str],
) -> Json | None:
    """Return the record of an error that ended a task.

    Args:
        error: What was caught.
        file_name: The file that the user's code claims to be compiled from; whatever
            was raised in it or below it is the function's fault.
        step: The step that failed, or None before the first.
        secrets: Values to mask, by name.

    Returns:
        `type`, `message`, `traceback` and `fault` (`function`, `source`,
        `unavailable` or `storage`); None for an interrupt or exit that did not come
        from the user's code, which nobody may swallow.
    """
    frames = _frames_from(file_name, error.__traceback__)
    if frames is None and not isinstance(error, Exception):
        return None
    fault = "function" if frames else _fault(error, step)
    # An error about the contract says it all; where aero found out is of no use.
    if frames is None and not isinstance(error, ClientError):
        frames = error.__traceback__
    told = told_by(error) or error
    return {
        "type": _type_name(type(told)),
        "message": _recordable(_message(told), secrets),
        "traceback": _recordable(traceback_of(error, frames), secrets),
        "fault": fault,
    }


def told_by(error: BaseException) -> AeroError | None:
    """Return what says in a sentence what Python says in a word or not at all."""
    if isinstance(error, MemoryError):
        return OutOfMemoryError(
            "The function ran out of memory: give it less to do at once or raise the "
            "memory limit."
        )
    if isinstance(error, SystemExit):
        return FunctionError(
            f"The function called sys.exit({error.code!r}): let it return instead."
        )
    return None


def traceback_of(error: BaseException, frames: TracebackType | None) -> str:
    """Return the text of a traceback: its last frames, were there a million."""
    lines = traceback.format_exception(type(error), error, frames, limit=_FRAMES)
    return "".join(lines)


def _frames_from(file_name: str, frames: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's first frame on, or None without one."""
    while frames is not None and frames.tb_frame.f_code.co_filename != file_name:
        frames = frames.tb_next
    return frames


def _fault(error: BaseException, step: str | None) -> str:
    for kind, fault in _FAULTS:
        if isinstance(error, kind):
            return fault
    return "source" if step == Step.DOWNLOAD else "function"


def _type_name(kind: type[BaseException]) -> str:
    own = kind.__module__ in {"builtins", "aero.error"}
    local = kind.__module__.startswith(USER_MODULE)
    return (
        kind.__qualname__ if own or local else f"{kind.__module__}.{kind.__qualname__}"
    )


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - it is the user's own __str__ that fails
        return f"<{type(error).__name__} without a readable message>"


def _recordable(text: str, secrets: Mapping[str, str]) -> str:
    """Return `text` without secrets, short enough and fit for any database."""
    text = secret.mask(text, secrets, environment=secrets)
    text = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= _TEXT_LIMIT:
        return text
    half = _TEXT_LIMIT // 2
    return f"{text[:half]}\n[...]\n{text[-half:]}"
