"""Shows on a terminal how far the downloads of runs are."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aero.app import Aero

_LOOK_EVERY = 0.2


@contextmanager
def downloads_shown(app: "Aero") -> Iterator[None]:
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


def _watch(app: "Aero", ended: Event) -> None:
    while not ended.wait(_LOOK_EVERY):
        if app.downloads():
            _draw(app, ended)


def _draw(app: "Aero", ended: Event) -> None:
    """Draw bars until there is no long download any more."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
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
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
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
