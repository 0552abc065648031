"""Objects in this process's memory: for tests, examples and what need not last."""

import io
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256 as hash_sha256
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NamedTuple

from aero.clock import Clock, utc_now
from aero.storage.base import Listed, address, checked_sha256, sha256_of
from aero.storage.copying import (
    missing,
    open_regular,
    storage_errors,
    write_verified,
)
from aero.types import StoredObject


class _Object(NamedTuple):
    content: bytes
    mtime: datetime


class MemoryStorage:
    """A `Storage` whose objects live as long as it does, in this process only.

    Args:
        clock: Tells when an object was put.
    """

    def __init__(self, *, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._lock = Lock()
        self._objects: dict[str, _Object] = {}
        self._trash: dict[str, _Object] = {}

    @classmethod
    def named(cls, name: str) -> "MemoryStorage":
        """Return this process's storage of that name, the same one every time."""
        with _registry_lock:
            return _registry.setdefault(name, cls())

    def put(
        self, path: Path, *, sha256: str | None = None, move: bool = False
    ) -> StoredObject:
        """See `Storage.put`."""
        known = None if sha256 is None else checked_sha256(sha256)
        with storage_errors(f"Storing {path} in memory"):
            with open_regular(path) as source:
                content = source.read()
            if move:
                path.unlink()
        found = known or hash_sha256(content).hexdigest()
        with self._lock:
            self._objects[found] = _Object(content, self._clock())
        return StoredObject(uri=address(found), sha256=found, size=len(content))

    def get(self, uri: str, path: Path) -> None:
        """See `Storage.get`."""
        with (
            storage_errors(f"Copying {uri} from memory to {path}"),
            self.open(uri) as source,
        ):
            write_verified(source, path, sha256_of(uri))

    def open(self, uri: str) -> BinaryIO:
        """See `Storage.open`."""
        return io.BytesIO(self._find(uri).content)

    def exists(self, uri: str) -> bool:
        """See `Storage.exists`."""
        sha256 = sha256_of(uri)
        with self._lock:
            return sha256 in self._objects or sha256 in self._trash

    def size(self, uri: str) -> int:
        """See `Storage.size`."""
        return len(self._find(uri).content)

    def delete(self, uri: str) -> None:
        """See `Storage.delete`."""
        sha256 = sha256_of(uri)
        with self._lock:
            self._objects.pop(sha256, None)
            self._trash.pop(sha256, None)

    def objects(self) -> Iterator[Listed]:
        """See `Storage.objects`."""
        return self._listed(self._objects)

    def trashed(self) -> Iterator[Listed]:
        """See `Storage.trashed`."""
        return self._listed(self._trash)

    def trash(self, uri: str) -> None:
        """See `Storage.trash`."""
        sha256 = sha256_of(uri)
        with self._lock:
            if sha256 in self._objects:
                self._trash[sha256] = self._objects.pop(sha256)

    def restore(self, uri: str) -> None:
        """See `Storage.restore`."""
        sha256 = sha256_of(uri)
        with self._lock:
            lost = self._trash.pop(sha256, None)
            found = self._objects.get(sha256, lost)
            if found is not None:
                self._objects[sha256] = _Object(found.content, self._clock())

    def empty_trash(self, *, untouched_since: datetime | None = None) -> int:
        """See `Storage.empty_trash`."""
        freed = 0
        with self._lock:
            for sha256, entry in list(self._trash.items()):
                if untouched_since is None or entry.mtime < untouched_since:
                    del self._trash[sha256]
                    freed += len(entry.content)
        return freed

    def clean_temp(
        self,
        older_than: datetime | None = None,  # noqa: ARG002 - the port's
        *,
        dry_run: bool = False,  # noqa: ARG002
        spared: Callable[[], bool] = lambda: False,  # noqa: ARG002
    ) -> int:
        """See `Storage.clean_temp`; memory has no temporary files."""
        return 0

    def _find(self, uri: str) -> _Object:
        sha256 = sha256_of(uri)
        with self._lock:
            found = self._objects.get(sha256) or self._trash.get(sha256)
        if found is None:
            raise missing(uri, "this process's memory")
        return found

    def _listed(self, place: dict[str, _Object]) -> Iterator[Listed]:
        with self._lock:
            entries = list(place.items())
        for sha256, entry in entries:
            yield Listed(address(sha256), len(entry.content), entry.mtime)


_registry: dict[str, MemoryStorage] = {}
_registry_lock = Lock()
