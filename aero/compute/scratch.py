"""What one task has on disk: its directory, its log, and who may end it.

The claim is a symbolic link beside the directory whose target is a word. A worker
makes it when it begins and removes it when it ends; who wants to kill the worker
removes it first. Only one of them can, so a worker is never killed for a task that it
has ended already, while it holds a lock of the pool or works on the next task.
"""

import contextlib
import os
import shutil
import stat
import time
from pathlib import Path

from aero.compute.base import LOG_LIMIT, Mask
from aero.error import StorageError

CANCELLED = "cancelled"
TIMEOUT = "timeout"

_REMOVALS = 5


class Scratch:
    """The files of the task whose working directory is `workdir`."""

    __slots__ = ("claim", "log", "workdir")

    def __init__(self, workdir: str) -> None:
        self.workdir = Path(workdir)
        self.log = Path(workdir + ".log")
        self.claim = Path(workdir + ".claim")

    def holder(self) -> str | None:
        """Return the claim's word: a process id, CANCELLED, TIMEOUT; or None."""
        try:
            return str(self.claim.readlink())
        except OSError:
            return None

    def mark(self, word: str) -> bool:
        """Make the claim and return True, or return False if there is one."""
        try:
            self.claim.symlink_to(word)
        except FileExistsError:
            return False
        return True

    def release(self) -> bool:
        """Remove the claim; return whether the caller is the one who did."""
        try:
            self.claim.unlink()
        except FileNotFoundError:
            return False
        return True

    def make(self) -> int:
        """Make directory and log; return the log's descriptor, open for writing.

        Raises:
            StorageError: That cannot be done, or the directory exists.
        """
        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                self.workdir.mkdir(mode=0o700)
            except OSError:
                os.close(log)
                self.log.unlink()
                raise
        except OSError as error:
            raise StorageError(
                f"The working directory {self.workdir} could not be made "
                f"({error.strerror}): make room for it.",
                log_tail="",
            ) from error
        return log

    def condemn(self) -> int | None:
        """Return the process that is now the caller's to kill.

        None says that there is none: the task has ended, or will not begin.
        """
        while True:
            holder = self.holder()
            if holder is None:
                with contextlib.suppress(FileNotFoundError):
                    if not self.mark(CANCELLED):
                        continue
                return None
            if not holder.isdigit():
                return None
            if self.release():
                return int(holder)

    def tail(self, mask: Mask) -> str:
        """Return the last 64 KiB of the log, secrets masked."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                # A secret that the cut would halve is read, and masked, whole.
                file.seek(max(0, size - LOG_LIMIT - mask.reach))
                text = mask(file.read().decode(errors="replace"))
        except FileNotFoundError:
            return ""
        return text.encode()[-LOG_LIMIT:].decode(errors="ignore")

    def clear_files(self) -> None:
        """Remove directory and log; what is not there is no error."""
        remove(self.workdir)
        self.log.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the claim too; for whoever knows that no worker holds it."""
        self.clear_files()
        self.claim.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a directory with all in it, whatever modes its owner gave it."""
    for _ in range(_REMOVALS):
        try:
            folder.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                return
            _unlock(folder)
            time.sleep(0.01)


def _unlock(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.chmod(stat.S_IRWXU)
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _unlock(Path(entry.path))
