"""What file-writing adapters share: private files, verified copies, one error."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aero.error import CorruptObjectError, MissingObjectError, StorageError
from aero.hashing import CHUNK
from aero.storage.base import address

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn any OSError inside into a StorageError of one sentence."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{doing} failed: {_reason(error)}.", errno=error.errno
        ) from error


def _reason(error: OSError) -> str:
    if error.errno in _FULL:
        return "the disk is full; free some space, or move the store to a larger disk"
    if error.errno == errno.EFBIG:
        return "the file is larger than this process may write; raise 'ulimit -f'"
    where = f" ({error.filename})" if error.filename else ""
    text = error.strerror or str(error) or type(error).__name__
    return f"{text}{where}; check that the path is there and yours to read and write"


def missing(uri: str, store: str) -> MissingObjectError:
    """Return the error for an object that is not in `store`."""
    return MissingObjectError(
        f"{uri} is not in {store}: restore it from a backup, or run the flow that "
        "made it again.",
        uri=uri,
    )


def create_private(path: Path) -> BinaryIO:
    """Create the new file `path` with mode 0600 and return it, open for writing."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        OSError: There is none; a pipe or a device (which might never end) neither.
    """
    # Without O_NONBLOCK, opening a pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def pour(source: BinaryIO, target: BinaryIO) -> int:
    """Copy all of `source` into `target` and return how many bytes that was."""
    size = 0
    while chunk := source.read(CHUNK):
        target.write(chunk)
        size += len(chunk)
    return size


def pour_hashed(source: BinaryIO, target: BinaryIO) -> tuple[str, int]:
    """Copy all of `source` into `target`; return SHA-256 and number of bytes."""
    digest = hashlib.sha256()
    size = 0
    while chunk := source.read(CHUNK):
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def write_verified(source: BinaryIO, path: Path, sha256: str) -> None:
    """Copy `source` to `path` (mode 0600), which appears only if it hashes right.

    Raises:
        CorruptObjectError: The bytes hash to something else.
        OSError: They could not be read or written.
    """
    temporary = path.parent / f".{os.urandom(16).hex()}.part"
    try:
        with create_private(temporary) as target:
            found, size = pour_hashed(source, target)
        if found != sha256:
            raise CorruptObjectError(
                f"{address(sha256)} is damaged, its {size} bytes hash to {found}: "
                "restore it from a backup, or run the flow that made it again.",
                uri=address(sha256),
                found=found,
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
