"""How the command line fails: one sentence on stderr, and a code scripts can trust."""

import errno
import gc
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from aero.error import AeroError

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FAILED = 1
USAGE = 2
INTERRUPTED = 130

_HANDLER = "aero"
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def log_from(level: str) -> None:
    """Log what is of `level` or above."""
    logging.getLogger().setLevel(level.upper())


def log_as(formatter: logging.Formatter) -> None:
    """Log in this form from now on, warnings too."""
    for handler in logging.getLogger().handlers:
        if handler.get_name() == _HANDLER:
            handler.setFormatter(formatter)
    # Until the command ends: `reporting` shows them again as it did before.
    warnings.showwarning = _log_warning


@contextmanager
def _logging() -> Iterator[None]:
    """Log to stderr."""
    root = logging.getLogger()
    before = root.level
    handler = logging.StreamHandler()
    handler.set_name(_HANDLER)
    handler.setFormatter(logging.Formatter(_FORMAT))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)


@contextmanager
def reporting() -> Iterator[None]:
    """Exit with the code of how the block ends; say on stderr why it failed."""
    with _logging(), warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = _show_warning
        try:
            yield
        except click.exceptions.Exit as stop:
            code = stop.exit_code
        except (click.Abort, KeyboardInterrupt):
            code = INTERRUPTED
        except click.UsageError as error:
            say(f"Error: {_usage(error)}")
            code = USAGE
        except Exception as error:  # noqa: BLE001 -- the edge to the person
            code = _explained(error)
        else:
            code = 0
        finally:
            gc.enable()
    raise SystemExit(_flushed(code))


def say(text: str) -> None:
    """Write a line to stderr."""
    click.echo(text, err=True)


def _usage(error: click.UsageError) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if error.ctx is None:
        return f"{message}."
    end = "" if message.endswith("?") else "."
    return f"{message}{end} See '{error.ctx.command_path} --help'."


def _explained(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        return FAILED
    debug = logging.getLogger().isEnabledFor(logging.DEBUG)
    if debug:
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, click.ClickException):
        say(f"Error: {error.format_message()}")
    elif isinstance(error, AeroError | TimeoutError):
        say(f"Error: {error}")
    else:
        more = "" if debug else " Run it again with -l DEBUG for the traceback."
        say(f"Error: {_of_the_machine(error) or _unforeseen(error) + more}")
    return FAILED


def _of_the_machine(error: Exception) -> str | None:
    """Return what to say of a database or a file that cannot be used."""
    # Without importing SQLAlchemy, which says what its driver raised as `orig`.
    cause = getattr(error, "orig", None)
    if type(cause).__module__ == "sqlite3":
        return (
            f"The database cannot be used ({cause}): check that its folder can be "
            "written and has space, or restore it from a backup."
        )
    if type(error).__name__ == "OperationalError" and cause is not None:
        first = str(cause).partition("\n")[0]
        return (
            f"The database cannot be used ({first}): check that its server runs and "
            "that database_url is right."
        )
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename} cannot be used ({error.strerror}): check it."
    return None


def _unforeseen(error: Exception) -> str:
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first or 'no message'}."


def _flushed(code: int) -> int:
    """Return `code` once stdout took everything, quietly if its reader is gone."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # At its end Python flushes again, and would complain.
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return code or FAILED
    return code


def _log_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    logging.getLogger("aero").warning("%s", message)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"Warning: {message}")
