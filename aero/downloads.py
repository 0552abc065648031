"""How far long downloads are: a worker notes it beside the file, others read it."""

import json
import time
from pathlib import Path
from typing import Final

from aero.types import Json

LONG: Final = 8 << 20
"""Bytes from which on a download's progress is noted."""
EVERY: Final = 0.2
"""Seconds between two notes."""
_NAME = "progress.json"


class Progress:
    """Called with the bytes received and expected so far; notes them now and then.

    Args:
        folder: The private folder that the file is downloaded into.
        url: Where it comes from.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self._note = folder / _NAME
        self._url = url
        self._next = 0.0

    def __call__(self, received: int, expected: int | None) -> None:
        """Note the progress of a long download, unless that was done just now."""
        if received < LONG or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        note = {"url": self._url, "received": received, "expected": expected}
        temporary = self._note.with_suffix(".tmp")
        temporary.write_text(json.dumps(note))
        temporary.replace(self._note)

    def done(self) -> None:
        """Forget the progress of a download that has ended."""
        self._note.unlink(missing_ok=True)


def under_way(scratch: Path) -> list[Json]:
    """Return the long downloads of this machine's runs, by run and url.

    Each has `run_id`, `url`, `received` and `expected` (bytes; None where the source
    does not say).
    """
    found = []
    for note in scratch.glob(f"*/.aero/*/{_NAME}"):
        run_id = note.relative_to(scratch).parts[0].partition(".")[0]
        try:
            found.append({"run_id": run_id, **json.loads(note.read_text())})
        except FileNotFoundError:
            continue
    return sorted(found, key=lambda each: (each["run_id"], each["url"]))
