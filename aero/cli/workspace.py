"""Opens the workspace that a command works in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from aero.cli.failing import say
from aero.error import ConfigError

if TYPE_CHECKING:
    from aero.api import Workspace
    from aero.app import Aero
    from aero.engine import Listener


@contextmanager
def workspace(listener: "Listener | None" = None) -> Iterator["Workspace"]:
    """Give the active profile's workspace, here or on its server, and close it.

    Args:
        listener: Is told of runs that are executed here.
    """
    from aero.api import open_workspace

    with open_workspace(listener=listener) as app:
        yield app


@contextmanager
def embedded(*, exposed: bool = False, **options: Any) -> Iterator["Aero"]:
    """Give a workspace that this machine executes, and close it.

    Args:
        exposed: Whether others than this machine's users name the URLs in it.
        **options: Further arguments of `Aero`.

    Raises:
        ConfigError: The profile names a server, which executes its runs itself.
    """
    from aero.app import Aero
    from aero.config import load_conf

    conf = load_conf()
    if not conf.embedded:
        raise ConfigError(
            f"The profile {conf.profile!r} names a server, which executes the runs: "
            "unset its server_url (AERO_SERVER_URL) to work on this machine.",
            profile=conf.profile,
        )
    with Aero(conf.exposed() if exposed else conf, **options) as app:
        yield app


def say_what_waits(app: "Workspace") -> None:
    """Say on stderr if something is due and nobody is there to run it."""
    note = app.waiting_note()
    if note is not None:
        say(note)
