"""Opens the workspace that a command works in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aero.cli.failing import say

if TYPE_CHECKING:
    from aero.app import Aero


@contextmanager
def workspace(**options: Any) -> Iterator["Aero"]:
    """Give the active profile's workspace, and close it.

    Args:
        **options: Further arguments of `Aero`.

    Raises:
        ConfigError: The configuration cannot be used, or names a server.
    """
    from aero.api import open_workspace

    with open_workspace(**options) as app:
        yield app


def say_what_waits(app: "Aero") -> None:
    """Say on stderr if something is due and nobody is there to run it."""
    note = app.waiting_note()
    if note is not None:
        say(note)
