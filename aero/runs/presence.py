"""Which processes execute runs, and whether one of this machine is gone.

A process holds an operating-system lock on a file named after it, which the kernel
lets go whatever kills the process; so a successor on the same machine need not wait
for leases to run out. Across machines the lease alone decides.
"""

import os
import socket
import uuid
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, delete, func, select

from aero.db.models import Worker
from aero.db.queries.common import upsert

ALIVE_FOR = timedelta(seconds=45)


class Presence:
    """This process as an executor of runs.

    Args:
        folder: Where the lock files of this machine's processes lie.
    """

    def __init__(self, folder: Path) -> None:
        self.id = str(uuid.uuid4())
        self._folder = folder
        self._lock: FileLock | None = None

    def enter(self) -> None:
        """Take this process's lock."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self._folder, self.id)
        self._lock.acquire(timeout=0)

    def leave(self) -> None:
        """Let this process's lock go."""
        if self._lock is not None:
            self._lock.release()
            _path(self._folder, self.id).unlink(missing_ok=True)
            self._lock = None

    def lost(self, names: Iterable[str]) -> list[str]:
        """Return those of `names` that ran on this machine and are gone."""
        return [name for name in names if name != self.id and self._gone(name)]

    def forget(self, name: str) -> None:
        """Remove the lock file of a process that is gone."""
        _path(self._folder, name).unlink(missing_ok=True)

    def _gone(self, name: str) -> bool:
        if not _path(self._folder, name).exists():
            return False
        lock = _lock(self._folder, name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
        return True


def _path(folder: Path, name: str) -> Path:
    return folder / f"{uuid.UUID(name)}.lock"


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(_path(folder, name), thread_local=False)


def beat(tx: Connection, presence: Presence, now: datetime) -> None:
    """Say that this process is alive, and forget those long unheard of."""
    row = {
        "id": presence.id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started_at": now,
        "seen_at": now,
    }
    known = tx.execute(select(Worker.started_at).where(Worker.id == presence.id))
    row["started_at"] = known.scalar_one_or_none() or now
    upsert(tx, Worker, [row], keys=["id"])
    tx.execute(delete(Worker).where(Worker.seen_at < now - timedelta(days=1)))


def depart(tx: Connection, names: Iterable[str]) -> None:
    """Remove processes from the table."""
    tx.execute(delete(Worker).where(Worker.id.in_(list(names))))


def neighbours(tx: Connection) -> list[str]:
    """Return this machine's processes, those killed lately among them.

    Another machine's lock may look free from here, though both share the folder.
    """
    processes = select(Worker.id)
    # An SQLite database is used on one machine only, whose name may change.
    if tx.dialect.name != "sqlite":
        processes = processes.where(Worker.host == socket.gethostname())
    return list(tx.execute(processes).scalars())


def alive(tx: Connection, now: datetime) -> int:
    """Return how many processes were heard of lately."""
    return tx.execute(
        select(func.count()).select_from(Worker).where(Worker.seen_at > now - ALIVE_FOR)
    ).scalar_one()
