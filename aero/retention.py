"""`aero gc`: frees what nothing refers to, and prunes what is long over.

An object is in danger only while nothing refers to it, nobody put it for a day, and
every RUNNING run started later: whatever a run in flight will commit, it has put, and
so touched, since it started. A first gc moves such an object to the trash, where every
reader still finds it; the next one deletes it, unless something refers to it by then.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from sqlalchemy import func, select

from aero.compute.scratch import remove
from aero.config import ClientConf
from aero.db.queries import retention as queries
from aero.db.queries import versions as version_queries
from aero.db.session import Database
from aero.error import ConflictError
from aero.storage import Listed, Storage
from aero.storage.base import sha256_of
from aero.types import Json

BATCH = 500
UNTOUCHED = timedelta(hours=24)
TRIGGERS_LATER = timedelta(days=30)
# A file system's clock may lag behind the database's.
SKEW = timedelta(minutes=10)

# One lock for all gcs of a database.
_GC = 0x61657267

T = TypeVar("T")


def gc(
    db: Database, storage: Storage, settings: ClientConf, *, dry_run: bool = False
) -> Json:
    """Free what is not needed, in batches; nothing that a run may still use.

    Args:
        db: The workspace's database.
        storage: Its store, which no other workspace may share.
        settings: Its configuration.
        dry_run: Change nothing, and report what would be done.

    Returns:
        `removed` objects of `bytes` that were deleted from the trash, `trashed` ones
        of `trash_bytes` that were moved there, `restored` from it; `temp_files` and
        `leftovers` of processes that were killed; `pruned_runs`, `pruned_triggers`;
        `dry_run`.

    Raises:
        ConflictError: Another gc of this workspace is under way.
        StorageError: The store cannot be read or written.
    """
    with nullcontext() if dry_run else _alone(db, settings.store):
        with db.read() as tx:
            now = db.now(tx)
            oldest = queries.oldest_start(tx)
        before = now - UNTOUCHED
        keep_from = now - timedelta(days=settings.retention_days)
        # Read before anything is listed: runs that start later touch what they put.
        cutoff = before if oldest is None else min(before, oldest - SKEW)
        collector = _Collector(db, storage, cutoff, dry_run=dry_run)
        return {
            **collector.empty_trash(),
            **collector.fill_trash(),
            "restored": collector.restored,
            "temp_files": storage.clean_temp(before, dry_run=dry_run),
            "leftovers": _scratch(db, settings.scratch, before, dry_run=dry_run)
            + _locks(db, settings.home / "workers", before, dry_run=dry_run),
            **_prune(db, keep_from, dry_run=dry_run),
            "dry_run": dry_run,
        }


@contextmanager
def _alone(db: Database, store: Path) -> Iterator[None]:
    """Hold a lock that all processes on this database see, wherever they run."""
    held = _file_lock(store) if db.is_sqlite else _session_lock(db)
    with held as alone:
        if not alone:
            raise ConflictError(
                "Another gc of this workspace is under way: wait for it to end."
            )
        yield


@contextmanager
def _file_lock(store: Path) -> Iterator[bool]:
    from filelock import FileLock, Timeout

    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(store / "gc.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def _session_lock(db: Database) -> Iterator[bool]:
    with db.engine.connect() as session:
        session.execution_options(isolation_level="AUTOCOMMIT")
        try:
            alone = session.execute(select(func.pg_try_advisory_lock(_GC))).scalar_one()
            yield alone
            if alone:
                # The server may take a while to see that a session has ended.
                session.execute(select(func.pg_advisory_unlock(_GC)))
        finally:
            # The lock ends with the session, also where that is broken by now.
            session.invalidate()


class _Collector:
    """Moves objects of a store into its trash, out of it, and away."""

    def __init__(
        self, db: Database, storage: Storage, cutoff: datetime, *, dry_run: bool
    ) -> None:
        self._db = db
        self._storage = storage
        self._cutoff = cutoff
        self._dry_run = dry_run
        self.restored = 0

    def empty_trash(self) -> Json:
        """Restore what is referenced by now, delete the rest that is old enough."""
        while True:
            restored, removed, size = self._judge_trash()
            # A listing may pass over entries while its folder changes, so what is
            # deleted was judged by a pass that changed nothing.
            if not restored or self._dry_run:
                break
        if not self._dry_run:
            size = self._storage.empty_trash(untouched_since=self._cutoff)
        return {"removed": removed, "bytes": size}

    def _judge_trash(self) -> tuple[int, int, int]:
        restored = removed = size = 0
        for batch in _batches(self._storage.trashed()):
            kept = self._referenced(batch)
            restored += self._restore(kept)
            old = [entry for entry in batch if self._old(entry) and entry not in kept]
            removed += len(old)
            size += sum(entry.size for entry in old)
        return restored, removed, size

    def fill_trash(self) -> Json:
        """Move what is old and unreferenced to the trash, and ask again."""
        count = size = 0
        for batch in _batches(filter(self._old, self._storage.objects())):
            kept = self._referenced(batch)
            doomed = [entry for entry in batch if entry not in kept]
            if not self._dry_run:
                for entry in doomed:
                    self._storage.trash(entry.uri)
                # A run may have put and committed it since it was listed.
                needed = self._referenced(doomed)
                self._restore(needed)
                doomed = [entry for entry in doomed if entry not in needed]
            count += len(doomed)
            size += sum(entry.size for entry in doomed)
        return {"trashed": count, "trash_bytes": size}

    def _old(self, entry: Listed) -> bool:
        return entry.mtime < self._cutoff

    def _referenced(self, batch: list[Listed]) -> set[Listed]:
        with self._db.read() as tx:
            found = version_queries.referenced(tx, [sha256_of(e.uri) for e in batch])
        return {entry for entry in batch if sha256_of(entry.uri) in found}

    def _restore(self, entries: Iterable[Listed]) -> int:
        count = 0
        for entry in entries:
            if not self._dry_run:
                self._storage.restore(entry.uri)
            count += 1
        self.restored += count
        return count


def _scratch(db: Database, folder: Path, before: datetime, *, dry_run: bool) -> int:
    """Remove the working directories of runs that no longer run."""
    count = 0
    for batch in _batches(_untouched(folder, before)):
        with db.read() as tx:
            living = queries.running(
                tx, [run_id for run_id in map(_run_of, batch) if run_id]
            )
        for entry in batch:
            if _run_of(entry) not in living:
                count += 1
                if not dry_run:
                    _discard(entry)
    return count


def _run_of(entry: Path) -> str | None:
    return _uuid(entry.name.partition(".")[0])


def _discard(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        remove(entry)
    else:
        entry.unlink(missing_ok=True)


def _locks(db: Database, folder: Path, before: datetime, *, dry_run: bool) -> int:
    """Remove the lock files of processes that nobody heard of for long."""
    with db.read() as tx:
        known = queries.workers(tx, before)
    count = 0
    for entry in _untouched(folder, before):
        name = _uuid(entry.stem)
        if name is not None and entry.suffix == ".lock" and name not in known:
            count += 1
            if not dry_run:
                entry.unlink(missing_ok=True)
    return count


def _prune(db: Database, before: datetime, *, dry_run: bool) -> Json:
    """Delete runs that ended before `before`, and triggers 30 days older."""
    if dry_run:
        with db.read() as tx:
            runs = queries.count_ended(tx, before)
    else:
        runs = 0
        while count := db.write(lambda tx: queries.delete_ended(tx, before, BATCH)):
            runs += count
    return {
        "pruned_runs": runs,
        "pruned_triggers": _prune_triggers(db, before, dry_run=dry_run),
    }


def _prune_triggers(db: Database, before: datetime, *, dry_run: bool) -> int:
    count, after = 0, None
    while True:
        with db.read() as tx:
            keys = queries.spent_triggers(
                tx, before - TRIGGERS_LATER, before, after, BATCH
            )
        if not keys:
            return count
        if not dry_run:
            db.write(partial(queries.delete_triggers, keys=keys))
        count += len(keys)
        after = keys[-1]


def _untouched(folder: Path, before: datetime) -> Iterator[Path]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        try:
            touched = entry.lstat().st_mtime
        except FileNotFoundError:
            continue
        if datetime.fromtimestamp(touched, UTC) < before:
            yield entry


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    while batch := list(islice(rest, BATCH)):
        yield batch
