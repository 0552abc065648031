"""The storage port: where bytes live, under an address made of their SHA-256."""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from aero.error import InvalidValueError
from aero.types import StoredObject

SCHEME = "sha256:"
_HEX = re.compile(r"[0-9a-f]{64}")


class Listed(NamedTuple):
    """One object in a listing: address, size in bytes, when it was last put (UTC)."""

    uri: str
    size: int
    mtime: datetime


@runtime_checkable
class Storage(Protocol):
    """A content-addressed store; safe to share between threads and processes.

    An address is `sha256:<64 lowercase hexadecimal digits>`; any other text raises
    InvalidValueError. What the store itself cannot do (disk full, no permission, no
    connection) raises StorageError, and nothing half-written is left behind.

    An object that gc moved to the trash is still there for every reader until the
    trash is emptied: `get`, `open`, `exists` and `size` find it.
    """

    def put(
        self, path: Path, *, sha256: str | None = None, move: bool = False
    ) -> StoredObject:
        """Store the bytes of the regular file `path`, durably, and return where.

        Idempotent: bytes that are stored already keep their address, and their
        `mtime` becomes now, so that gc leaves them alone; a stored object that is
        found damaged is replaced. Bytes that lie only in the trash are stored anew.

        Args:
            path: The file; read once, in constant memory.
            sha256: What `path` hashes to, if whoever wrote it hashed while writing;
                it is believed and not computed again.
            move: `path` is given up and does not exist afterwards. With `sha256`
                it is renamed into the store where the platform can.

        Raises:
            InvalidValueError: `sha256` is not a SHA-256 in hexadecimal.
            StorageError: It could not be read or stored; `path` is left in place.
        """
        ...

    def get(self, uri: str, path: Path) -> None:
        """Write a private, writable copy of an object (mode 0600) to `path`.

        Never a link into the store. The bytes are checked against their address
        while they are copied, and `path` appears, or is replaced, only when all of
        them are right. Its folder must exist.

        Raises:
            MissingObjectError: There is no such object.
            CorruptObjectError: Its bytes do not match its address.
            StorageError: It could not be read, or `path` not be written.
        """
        ...

    def open(self, uri: str) -> BinaryIO:
        """Return the object as a stream to read and close; it is not verified.

        Raises:
            MissingObjectError: There is no such object.
        """
        ...

    def exists(self, uri: str) -> bool:
        """Return whether `get` would find the object."""
        ...

    def size(self, uri: str) -> int:
        """Return the object's size in bytes.

        Raises:
            MissingObjectError: There is no such object.
        """
        ...

    def delete(self, uri: str) -> None:
        """Remove the object, from the trash too; one that is not there is fine."""
        ...

    def objects(self) -> Iterator[Listed]:
        """Yield every object outside the trash, in no particular order."""
        ...

    def trashed(self) -> Iterator[Listed]:
        """Yield every object in the trash; `mtime` is still when it was last put."""
        ...

    def trash(self, uri: str) -> None:
        """Move an object to the trash; one that is not there is fine."""
        ...

    def restore(self, uri: str) -> None:
        """Move an object out of the trash, as if just put; idempotent as well.

        One outside the trash is touched: gc leaves it alone.
        """
        ...

    def empty_trash(self, *, untouched_since: datetime | None = None) -> int:
        """Delete what is in the trash and return how many bytes that freed.

        Args:
            untouched_since: Keep what was put at this moment (aware) or later. A
                `put` that touched an object just before gc moved it is safe so.
        """
        ...

    def clean_temp(
        self,
        older_than: datetime | None = None,
        *,
        dry_run: bool = False,
        spared: Callable[[], bool] = lambda: False,
    ) -> int:
        """Remove what processes left that were killed in the middle of a `put`.

        Args:
            older_than: Keep what was written at this moment (aware) or later.
            dry_run: Only count.
            spared: Asked once the files are listed: whether to keep them all, because
                somebody may still write them.

        Returns:
            The number of files removed.
        """
        ...


def checked_sha256(sha256: str) -> str:
    """Return `sha256` if it is one.

    Raises:
        InvalidValueError: It is not 64 lowercase hexadecimal digits.
    """
    if not _HEX.fullmatch(sha256):
        raise InvalidValueError(
            f"{sha256!r} is not a SHA-256: write its 64 lowercase hexadecimal digits."
        )
    return sha256


def address(sha256: str) -> str:
    """Return the uri of the object whose bytes hash to `sha256`."""
    return SCHEME + sha256


def sha256_of(uri: str) -> str:
    """Return the SHA-256 that a uri names.

    Raises:
        InvalidValueError: `uri` is not `sha256:<64 lowercase hexadecimal digits>`.
    """
    digest = uri.removeprefix(SCHEME)
    if not uri.startswith(SCHEME) or not _HEX.fullmatch(digest):
        raise InvalidValueError(
            f"{uri!r} is not an object's address: write "
            f"{SCHEME}<64 lowercase hexadecimal digits>.",
            uri=uri,
        )
    return digest
