"""Copies of local files, named by file: URLs under allowed folders."""

import errno
import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from aero.clock import utc_now
from aero.error import InvalidValueError, SourceError
from aero.sources.base import CHUNK, FetchPolicy, Progress
from aero.sources.headers import guessed_type, safe_name
from aero.sources.retry import Sleep, TryAgainError, insist
from aero.sources.sink import Sink
from aero.types import Fetched, NotModified, Validators

_FINAL = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENXIO,
}
"""Errors that no second try changes."""


class FileSource:
    """The `Source` of file URLs.

    An ETag is made of size, modification time and inode, so that an unchanged file is
    not read again.

    Args:
        sleep: Waits so many seconds between two attempts.
    """

    schemes = ("file",)

    def __init__(self, *, sleep: Sleep = time.sleep) -> None:
        self._sleep = sleep

    def fetch(
        self,
        url: str,
        path: Path,
        *,
        previous: Validators | None = None,
        policy: FetchPolicy | None = None,
        progress: Progress | None = None,
    ) -> Fetched | NotModified:
        """Copy the file that `url` names; the contract is `Source.fetch`'s."""
        named = local_path(url)
        policy = policy or FetchPolicy()
        with Sink(path) as sink:
            copying = _Copying(
                url=url,
                named=named,
                etag=previous.etag if previous else None,
                policy=policy,
                sink=sink,
                progress=progress,
            )
            return insist(
                copying.attempt,
                url=url,
                name=str(named),
                attempts=policy.attempts,
                sleep=self._sleep,
            )


def local_path(url: str) -> Path:
    """Return the absolute path that a file URL names.

    Raises:
        InvalidValueError: It names another host, no absolute path, or has a query.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidValueError(
            f"{url} is not a file URL: write file:///PATH."
        ) from error
    name = os.fsdecode(unquote_to_bytes(parts.path))
    if parts.netloc.lower() not in {"", "localhost"}:
        raise InvalidValueError(
            "A file URL with a host cannot be read: write file:///PATH for a file of "
            "this machine."
        )
    if parts.query or parts.fragment or "\0" in name or not name.startswith("/"):
        raise InvalidValueError(
            f"{url} does not name an absolute path: write file:///PATH, with %3F for "
            "'?' and %23 for '#'."
        )
    return Path(name)


@dataclass(frozen=True, kw_only=True)
class _Copying:
    """One file on its way into a sink."""

    url: str
    named: Path
    etag: str | None
    policy: FetchPolicy
    sink: Sink
    progress: Progress | None

    def attempt(self) -> Fetched | NotModified:
        """Copy the file unless its ETag is the one it had.

        Raises:
            TryAgainError: It changed meanwhile, or its file system failed.
        """
        with self._translated(), self._open() as file:
            before = os.fstat(file.fileno())
            validators = _validators(before)
            if validators.etag == self.etag:
                return NotModified(
                    url=self.url,
                    etag=validators.etag,
                    last_modified=validators.last_modified,
                    retrieved_at=utc_now(),
                )
            self._copy(file, before.st_size)
            if _validators(os.fstat(file.fileno())) != validators:
                raise TryAgainError("the file changed while it was read")
        return Fetched(
            path=self.sink.path,
            url=self.url,
            final_url=self.url,
            etag=validators.etag,
            last_modified=validators.last_modified,
            sha256=self.sink.finish(),
            size=self.sink.size,
            media_type=guessed_type(self.named.name),
            encoding=None,
            file_name=safe_name(self.named.name) or "data",
            retrieved_at=utc_now(),
        )

    @contextmanager
    def _open(self) -> Iterator[io.FileIO]:
        # Before anything else, so that nobody learns what lies outside of the roots.
        real = os.path.realpath(self.named)
        roots = (root.resolve() for root in self.policy.file_roots)
        if not any(Path(real).is_relative_to(root) for root in roots):
            raise SourceError(
                f"{self.named} is not under a folder that file URLs may read: add its "
                "folder to file_roots if it is to be trusted.",
                url=self.url,
            )
        # A link put in place meanwhile is not followed, and a pipe does not block.
        handle = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise SourceError(
                    f"{self.named} is not a regular file: name a file that holds data.",
                    url=self.url,
                )
            moved = os.path.realpath(self.named, strict=True) != real
            if moved or not os.path.samestat(self.named.stat(), found):
                raise TryAgainError("the file was replaced while it was opened")
            with io.FileIO(handle, closefd=False) as file:
                yield file
        finally:
            os.close(handle)

    def _copy(self, file: io.FileIO, size: int) -> None:
        if self.sink.size:
            self.sink.restart()
        self._check_size(size)
        # One byte more than expected is asked for, to see a file that grows.
        while piece := file.read(min(CHUNK, size + 1 - self.sink.size)):
            self.sink.write(piece)
            if self.progress is not None:
                self.progress(self.sink.size, size)
            if self.sink.size > size:
                break
        if self.sink.size != size:
            raise TryAgainError("the file changed while it was read")

    def _check_size(self, size: int) -> None:
        limit = self.policy.max_size
        if limit is not None and size > limit:
            raise SourceError(
                f"{self.named} is larger than the limit of {limit} bytes: raise "
                "max_download to fetch it.",
                url=self.url,
                size=size,
                max_size=limit,
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FINAL:
                raise TryAgainError(
                    f"its file system failed ({error.strerror})"
                ) from error
            raise SourceError(
                f"{self.named} cannot be read ({error.strerror}): correct the URL or "
                "the file's permissions.",
                url=self.url,
            ) from error


def _validators(found: os.stat_result) -> Validators:
    return Validators(
        etag=f'"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"',
        last_modified=formatdate(found.st_mtime, usegmt=True),
    )
