"""Shows on a terminal how far a command, or the downloads of runs, are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from aero.types import Tell

if TYPE_CHECKING:
    from aero.api import Workspace

_LOOK_EVERY = 0.2


@contextmanager
def progress_shown() -> Iterator[Tell]:
    """Give a function to tell what is done, how much of it, and of how much.

    On a terminal it draws that as a bar on stderr.
    """
    if not sys.stderr.isatty():
        yield lambda *_: None
        return
    with _drawing() as drawn:
        bar = drawn.add_task("")

        def tell(what: str, done: int, total: int) -> None:
            drawn.update(bar, description=what, completed=done, total=total)

        yield tell


@contextmanager
def downloads_shown(app: "Workspace") -> Iterator[None]:
    """Show a bar on stderr for every long download, while entered on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    ended = Event()
    watcher = Thread(target=_watch, args=(app, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(app: "Workspace", ended: Event) -> None:
    while not ended.wait(_LOOK_EVERY):
        if app.downloads():
            _draw(app, ended)


def _draw(app: "Workspace", ended: Event) -> None:
    """Draw bars until there is no long download any more."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bars: dict[tuple[str, str], Any] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with _drawing(*columns) as drawn:
        while found := app.downloads():
            current = {(each["run_id"], each["url"]): each for each in found}
            for key in bars.keys() - current.keys():
                drawn.remove_task(bars.pop(key))
            for key, each in current.items():
                if key not in bars:
                    name = each["url"].rpartition("/")[2] or each["url"]
                    bars[key] = drawn.add_task(name, total=each["expected"])
                drawn.update(bars[key], completed=each["received"])
            if ended.wait(_LOOK_EVERY):
                return


def _drawing(*columns: Any) -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        # What is printed to the same terminal goes above the bars; what is printed to
        # a file or a pipe belongs there.
        redirect_stdout=sys.stdout.isatty(),
    )
