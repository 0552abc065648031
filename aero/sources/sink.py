"""Where downloaded bytes go: a file that appears whole, hashed while it is written."""

import hashlib
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import IO

from aero.error import StorageError

INLINE = 1 << 20
"""Below so many bytes a thread costs more than it saves."""

WAITING = 16
"""How many pieces may wait to be hashed: what bounds the memory."""


class _HashingThread:
    """Feeds pieces to a hash, in order, beside the thread that writes them."""

    def __init__(self, digest: "hashlib._Hash") -> None:
        self._digest = digest
        self._pieces: Queue[bytes | None] = Queue(WAITING)
        self._thread = threading.Thread(
            target=self._work, name="aero-hashing", daemon=True
        )
        self._thread.start()
        self.put = self._pieces.put

    def _work(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)

    def join(self) -> None:
        self._pieces.put(None)
        self._thread.join()


class Sink:
    """Collects bytes in a temporary file beside `path` and hashes them.

    A context manager: on the way out the temporary file is gone, whatever happened;
    only `finish` makes `path` appear. Used by one thread.

    Attributes:
        path: Where the bytes are going.
        size: Bytes taken so far.

    Raises:
        StorageError: From every method, where the file system refuses.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._digest = hashlib.sha256()
        self._hashing: _HashingThread | None = None
        self._opened: IO[bytes] | None = None

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._settle()
        if self._opened is None:
            return
        try:
            with self._translated():
                self._opened.close()
        finally:
            Path(self._opened.name).unlink(missing_ok=True)

    def write(self, piece: bytes) -> None:
        """Take the next bytes; they are not to change afterwards."""
        with self._translated():
            self._file().write(piece)
        self.size += len(piece)
        if self._hashing is None and self.size > INLINE:
            self._hashing = _HashingThread(self._digest)
        if self._hashing is None:
            self._digest.update(piece)
        else:
            self._hashing.put(piece)

    def restart(self) -> None:
        """Forget everything that was written."""
        self._settle()
        self._digest = hashlib.sha256()
        self.size = 0
        with self._translated():
            self._file().seek(0)
            self._file().truncate()

    def finish(self) -> str:
        """Make `path` appear and return the SHA-256 of its bytes, hexadecimal."""
        self._settle()
        with self._translated():
            file = self._file()
            file.close()
            Path(file.name).replace(self.path)
        return self._digest.hexdigest()

    def _file(self) -> IO[bytes]:
        # Made at the first byte: an unchanged source leaves the disk alone.
        if self._opened is None:
            self._opened = tempfile.NamedTemporaryFile(  # noqa: SIM115 - see __exit__
                prefix=".aero-", dir=self.path.parent, delete=False
            )
        return self._opened

    def _settle(self) -> None:
        if self._hashing is not None:
            self._hashing.join()
            self._hashing = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"The download could not be written at {self.path} "
                f"({error.strerror}): make room there or choose another folder.",
                path=str(self.path),
            ) from error
