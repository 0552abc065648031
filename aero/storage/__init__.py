"""Where bytes live. `open_storage` finds the adapter that a location names."""

import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from aero.error import InvalidValueError
from aero.storage.base import Listed, Storage
from aero.storage.local import LocalStorage
from aero.storage.memory import MemoryStorage

__all__ = [
    "Listed",
    "LocalStorage",
    "MemoryStorage",
    "Storage",
    "local_location",
    "open_storage",
]


@lru_cache(maxsize=64)
def open_storage(location: str) -> Storage:
    """Return the storage at `location`; the same one for the same location.

    Args:
        location: `file:///absolute/folder`, percent-encoded as `local_location` does
            it, or `memory:NAME`, which is shared within this process.

    Raises:
        InvalidValueError: `location` is neither.
    """
    scheme, _, rest = location.partition(":")
    if scheme == "memory" and rest:
        return MemoryStorage.named(rest)
    if scheme == "file":
        return LocalStorage(_folder(location))
    raise _refused(location)


def local_location(path: str | Path) -> str:
    """Return the location, `file:///...`, of the local storage below `path`."""
    return Path(path).absolute().as_uri()


def _folder(location: str) -> Path:
    parts = urlsplit(location)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    local = parts.netloc in {"", "localhost"} and not parts.query and not parts.fragment
    if not local or not path.startswith("/") or "\0" in path:
        raise _refused(location)
    return Path(path)


def _refused(location: str) -> InvalidValueError:
    return InvalidValueError(
        f"{location!r} is not a storage: write file:///absolute/folder or memory:NAME.",
        location=location,
    )
