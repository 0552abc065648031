"""Objects as read-only files below a folder of this machine."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from aero.hashing import sha256_file
from aero.storage.base import Listed, address, checked_sha256, sha256_of
from aero.storage.copying import (
    create_private,
    missing,
    open_regular,
    pour,
    pour_hashed,
    storage_errors,
    write_verified,
)
from aero.types import StoredObject

_READ_ONLY = 0o444
_PRIVATE = 0o700
_Found = TypeVar("_Found")


class LocalStorage:
    """A `Storage` below `root`, which is created at the first `put`.

    `objects/ab/<sha256>` holds the bytes (mode 0444), `tmp/` what is being written
    (the same file system, so that a rename is atomic), `trash/` what gc took out.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._objects = root / "objects"
        self._temporary = root / "tmp"
        self._trash = root / "trash"

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.root)!r})"

    def put(
        self, path: Path, *, sha256: str | None = None, move: bool = False
    ) -> StoredObject:
        """See `Storage.put`."""
        with storage_errors(f"Storing {path} in {self.root}"):
            if sha256 is None:
                stored = self._copy_in(path, None)
            else:
                stored = self._put_known(path, checked_sha256(sha256), move=move)
            if move:
                path.unlink(missing_ok=True)
        return stored

    def get(self, uri: str, path: Path) -> None:
        """See `Storage.get`."""
        with (
            storage_errors(f"Copying {uri} from {self.root} to {path}"),
            self._find(uri, open_regular) as source,
        ):
            write_verified(source, path, sha256_of(uri))

    def open(self, uri: str) -> BinaryIO:
        """See `Storage.open`."""
        with storage_errors(f"Opening {uri} in {self.root}"):
            return self._find(uri, open_regular)

    def exists(self, uri: str) -> bool:
        """See `Storage.exists`."""
        with storage_errors(f"Looking for {uri} in {self.root}"):
            return any(place.is_file() for place in self._places(uri))

    def size(self, uri: str) -> int:
        """See `Storage.size`."""
        with storage_errors(f"Looking for {uri} in {self.root}"):
            return self._find(uri, Path.stat).st_size

    def delete(self, uri: str) -> None:
        """See `Storage.delete`."""
        with storage_errors(f"Deleting {uri} from {self.root}"):
            for place in self._places(uri):
                place.unlink(missing_ok=True)

    def objects(self) -> Iterator[Listed]:
        """See `Storage.objects`."""
        with storage_errors(f"Listing {self.root}"):
            for shard in _entries(self._objects):
                if shard.is_dir(follow_symlinks=False):
                    yield from _listed(Path(shard.path))

    def trashed(self) -> Iterator[Listed]:
        """See `Storage.trashed`."""
        with storage_errors(f"Listing the trash of {self.root}"):
            yield from _listed(self._trash)

    def trash(self, uri: str) -> None:
        """See `Storage.trash`."""
        sha256 = sha256_of(uri)
        with storage_errors(f"Moving {uri} to the trash of {self.root}"):
            if self._object(sha256).is_file():
                self._trash.mkdir(mode=_PRIVATE, exist_ok=True)
                with suppress(FileNotFoundError):
                    self._object(sha256).replace(self._trash / sha256)

    def restore(self, uri: str) -> None:
        """See `Storage.restore`."""
        sha256 = sha256_of(uri)
        with storage_errors(f"Restoring {uri} in {self.root}"):
            self._restore(sha256, self._trash / sha256)

    def empty_trash(self, *, untouched_since: datetime | None = None) -> int:
        """See `Storage.empty_trash`."""
        freed = 0
        with storage_errors(f"Emptying the trash of {self.root}"):
            for entry in _listed(self._trash):
                if untouched_since is None or entry.mtime < untouched_since:
                    (self._trash / sha256_of(entry.uri)).unlink(missing_ok=True)
                    freed += entry.size
        return freed

    def clean_temp(
        self,
        older_than: datetime | None = None,
        *,
        dry_run: bool = False,
        spared: Callable[[], bool] = lambda: False,
    ) -> int:
        """See `Storage.clean_temp`."""
        removed = 0
        with storage_errors(f"Removing temporary files of {self.root}"):
            left = list(_entries(self._temporary))
            for entry in [] if spared() else left:
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    if older_than is None or _mtime(info) < older_than:
                        if not dry_run:
                            Path(entry.path).unlink()
                        removed += 1
        return removed

    def _restore(self, sha256: str, lost: Path) -> None:
        if self._object(sha256).is_file():
            # Put anew since: those bytes are the better ones.
            lost.unlink(missing_ok=True)
            os.utime(self._object(sha256))
        elif lost.is_file():
            os.utime(lost)
            self._install(lost, sha256)

    def _object(self, sha256: str) -> Path:
        return self._objects / sha256[:2] / sha256

    def _places(self, uri: str) -> tuple[Path, Path, Path]:
        """Return where an object may be, in the order to look.

        The first place comes twice: gc may restore an object while it is looked for.
        """
        sha256 = sha256_of(uri)
        place = self._object(sha256)
        return place, self._trash / sha256, place

    def _find(self, uri: str, look: Callable[[Path], _Found]) -> _Found:
        for place in self._places(uri):
            with suppress(FileNotFoundError):
                return look(place)
        raise missing(uri, str(self.root))

    def _put_known(self, path: Path, sha256: str, *, move: bool) -> StoredObject:
        info = path.lstat()
        size = info.st_size
        # A link would be moved itself, and a file with a second name could still be
        # written through that: both are copied.
        movable = move and stat.S_ISREG(info.st_mode) and info.st_nlink == 1
        if movable and (self._holds(sha256, size) or self._move_in(path, sha256)):
            return StoredObject(uri=address(sha256), sha256=sha256, size=size)
        return self._copy_in(path, sha256)

    def _move_in(self, path: Path, sha256: str) -> bool:
        """Rename `path` into the store; False if it lies on another file system."""
        path.chmod(_READ_ONLY)
        os.utime(path)
        _sync(path)
        try:
            self._install(path, sha256)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            return False
        return True

    def _copy_in(self, path: Path, sha256: str | None) -> StoredObject:
        temporary = self._temporary / os.urandom(16).hex()
        try:
            with open_regular(path) as source, self._create(temporary) as target:
                if sha256 is None:
                    sha256, size = pour_hashed(source, target)
                else:
                    size = pour(source, target)
                # Before the sync: bytes the store holds need not reach the disk twice.
                if not self._holds(sha256, size):
                    target.flush()
                    os.fchmod(target.fileno(), _READ_ONLY)
                    os.fsync(target.fileno())
                    self._install(temporary, sha256)
        finally:
            temporary.unlink(missing_ok=True)
        return StoredObject(uri=address(sha256), sha256=sha256, size=size)

    def _create(self, temporary: Path) -> BinaryIO:
        try:
            return create_private(temporary)
        except FileNotFoundError:
            _make(self._temporary)
            return create_private(temporary)

    def _holds(self, sha256: str, size: int) -> bool:
        """Return whether the object is there and sound; if so it is touched."""
        place = self._object(sha256)
        try:
            if place.stat().st_size != size or sha256_file(place) != sha256:
                return False
            os.utime(place)
        except FileNotFoundError:
            return False
        # Whoever put it may not have come as far as this yet.
        _sync(place.parent)
        return True

    def _install(self, path: Path, sha256: str) -> None:
        place = self._object(sha256)
        try:
            path.replace(place)
        except FileNotFoundError:
            _make(place.parent)
            path.replace(place)
        _sync(place.parent)


def _make(folder: Path) -> None:
    """Create `folder` and the parents it lacks, each durably, for this user alone."""
    lacking = [part for part in (folder, *folder.parents) if not part.exists()]
    for part in reversed(lacking):
        part.mkdir(mode=_PRIVATE, exist_ok=True)
        _sync(part.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        yield from entries


def _listed(folder: Path) -> Iterator[Listed]:
    """Yield the objects in a folder, passing over whatever else lies there."""
    for entry in _entries(folder):
        uri = address(entry.name)
        with suppress(FileNotFoundError, ValueError):
            sha256_of(uri)
            info = entry.stat(follow_symlinks=False)
            yield Listed(uri, info.st_size, _mtime(info))


def _mtime(info: os.stat_result) -> datetime:
    return datetime.fromtimestamp(info.st_mtime, UTC)
