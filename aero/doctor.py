"""`aero doctor`: whether a workspace is as the laws say, in its tables and its store.

It only reads. A law is one statement over whole tables, so that a workspace at work
may be examined too, and what is found comes page by page: a million versions cost
minutes, and no more memory than a few.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from aero.clock import utc_now
from aero.db import schema
from aero.db.models import DataVersion
from aero.db.queries import claims as claim_queries
from aero.db.queries import invariants as queries
from aero.db.session import Database
from aero.error import MissingObjectError, StorageError
from aero.hashing import sha256_stream
from aero.runs import presence
from aero.storage import Listed, Storage
from aero.storage.base import address, sha256_of
from aero.types import LOCAL, Json, Tell

CHECKS = {
    "versions": "the versions of each data are numbered 1 to n, and are news",
    "records": "each commit left one record, and each version one that made it",
    "lineage": "the graph of versions is what the records say",
    "orphans": "what a row refers to is there",
    "slots": "of each slot at most one run waits and one runs",
    "runs": "each run is in one state, and none waits for a deleted flow",
    "triggers": "each run is due to a trigger",
    "stuck": "no run waits or runs for ever, and no notice waits",
    "bytes": "the bytes of each version, and the downloads kept, are in the store",
    "store": "the bytes in the store are those that were put there",
    "leftovers": "no temporary file outlived its run",
}
"""What is checked, by name, in this order."""

OVERDUE = timedelta(minutes=10)
"""How long what should happen at once may take before it counts as stuck."""
UNTOLD = timedelta(hours=24)
"""How long a notice may wait though somebody works: no longer than it is tried."""
UNFINISHED = timedelta(hours=24)
"""How long a file may be written to the store while somebody works."""

_USERS = 3
_AGAIN = "restore it from a backup, or run the flow that made it again"
_Found = Iterator[tuple[str, Json]]


class Diagnosis:
    """An examination: iterate over it to have what is wrong, a record each.

    Each has `check`, `message` (what is wrong and what to do, a sentence) and `facts`.

    Args:
        db: The database.
        storage: The store; None: do not look at it.
        scratch: The folder of functions that are running; None: do not look at it.
        kept: How long a run is kept after its end.
        hashing: Whether to read all that is stored.
        tell: Told how far it is.

    Attributes:
        checks: `check`, `about`, `looked_at` and `found` (numbers) of those that are
            done, in the order of `CHECKS`.
    """

    def __init__(
        self,
        db: Database,
        storage: Storage | None = None,
        scratch: Path | None = None,
        *,
        kept: timedelta = timedelta(days=30),
        hashing: bool = True,
        tell: Tell | None = None,
    ) -> None:
        self.checks: list[Json] = []
        self._db = db
        self._storage = storage
        self._scratch = scratch
        self._kept = kept
        self._hashing = hashing
        self._tell = tell
        self._looked_at = 0

    @property
    def healthy(self) -> bool:
        """Whether nothing was found so far."""
        return not any(each["found"] for each in self.checks)

    def __iter__(self) -> Iterator[Json]:
        """Examine, and yield what is found as it is found.

        Raises:
            NotFoundError: There is no workspace.
            SchemaError: It is of another aero version.
        """
        schema.require(self._db)
        self.checks.clear()
        for check, about in CHECKS.items():
            self._looked_at = found = 0
            for message, facts in self._examine(check):
                found += 1
                yield {"check": check, "message": message, "facts": facts}
            done = {"looked_at": self._looked_at, "found": found}
            self.checks.append({"check": check, "about": about, **done})

    def _examine(self, check: str) -> _Found:
        if check == "bytes":
            return self._bytes()
        if check == "store":
            return self._objects()
        if check == "leftovers":
            return self._leftovers()
        return self._laws(check)

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._tell is not None:
            self._tell(what, done, total)

    # -- tables -------------------------------------------------------------------

    def _laws(self, check: str) -> _Found:
        laws = [law for law in queries.laws() if law.check == check]
        counted = set()
        for number, law in enumerate(laws):
            self._progress(f"checking {check}", number, len(laws))
            if law.of not in counted:
                counted.add(law.of)
                with self._db.read() as tx:
                    self._looked_at += queries.count(tx, law.of)
            for row in self._broken(law):
                facts = {
                    name: value
                    for name, value in row._mapping.items()
                    if not name.startswith("key_")
                }
                yield law.says.format(**facts), facts

    def _broken(self, law: queries.Law) -> Iterator[Any]:
        with self._db.read() as tx:
            now = self._db.now(tx)
        given = {
            "now": now,
            "overdue": now - OVERDUE,
            "untold_since": now - UNTOLD,
            "alive_since": now - presence.ALIVE_FOR,
            "kept_since": now - self._kept,
            "endpoints": [LOCAL],
        }
        return self._pages(lambda tx, after: queries.broken(tx, law, given, after))

    # -- store --------------------------------------------------------------------

    def _bytes(self) -> _Found:
        if self._storage is None:
            return
        with self._db.read() as tx:
            total = queries.count(tx, DataVersion)
        for row in self._pages(queries.versions_kept):
            yield from self._present(self._storage, row.version, row)
            self._progress("looking for bytes", self._looked_at, total)
        for row in self._pages(queries.downloads_kept):
            name = f"the download {row.name} of record {row.provenance_id}"
            yield from self._present(self._storage, name, row)

    def _pages(self, ask: Callable[..., list[Any]]) -> Iterator[Any]:
        after = None
        while True:
            with self._db.read() as tx:
                page = ask(tx, after)
            yield from page
            if len(page) < queries.PAGE:
                return
            after = page[-1]

    def _present(self, storage: Storage, what: str, row: Any) -> _Found:
        self._looked_at += 1
        facts = {"of": what, "sha256": row.sha256, "size": row.size, "uri": row.uri}
        if row.uri != address(row.sha256):
            yield (
                f"The bytes of {what} are not kept under their SHA-256, but at "
                f"{row.uri}: {_AGAIN}.",
                facts,
            )
            return
        try:
            size = storage.size(row.uri)
        except MissingObjectError:
            yield f"The bytes of {what} ({row.uri}) are not there: {_AGAIN}.", facts
            return
        # What is damaged is found, once for all that refer to it, where it is read.
        damaged = self._hashing and size != row.size and _damage(storage, row.uri)
        if row.size is not None and size != row.size and not damaged:
            yield (
                f"Of {what} {size} bytes are kept, not {row.size}: {_AGAIN}.",
                {**facts, "stored": size},
            )

    def _objects(self) -> _Found:
        if self._storage is None or not self._hashing:
            return
        storage = self._storage
        done, total = 0, 0
        if self._tell is not None:
            total = sum(entry.size for entry in _listed(storage))
        for entry in _listed(storage):
            self._looked_at += 1
            reason = _damage(storage, entry.uri)
            if reason is not None:
                yield self._damaged(entry.uri, reason)
            done += entry.size
            self._progress("hashing", done, total)

    def _damaged(self, uri: str, reason: str) -> tuple[str, Json]:
        with self._db.read() as tx:
            users = queries.users(tx, sha256_of(uri), _USERS + 1)
        facts = {"uri": uri, "users": users}
        if not users:
            cure = "nothing refers to it, and 'aero gc' will remove it"
            return f"The object {uri} {reason}: {cure}.", facts
        named = ", ".join(users[:_USERS]) + (" and others" * (len(users) > _USERS))
        return f"The object {uri} of {named} {reason}: {_AGAIN}.", facts

    # -- files --------------------------------------------------------------------

    def _leftovers(self) -> _Found:
        # What is listed before the runs are asked for belongs to no run that is new.
        entries = list(_entries(self._scratch))
        with self._db.read() as tx:
            running = claim_queries.running_ids(tx)
            working = running or presence.alive(tx, self._db.now(tx))
        self._looked_at += len(entries)
        # Files have this machine's time, whatever the workspace's clock says.
        moment = utc_now()
        for entry in entries:
            since = moment - OVERDUE if working else moment
            if entry.name.partition(".")[0] not in running and _older(entry, since):
                yield (
                    f"{entry} is of no run: 'aero work' removes it when it starts.",
                    {"path": str(entry)},
                )
        if self._storage is not None:
            since = moment - UNFINISHED if working else moment
            count = self._storage.clean_temp(since, dry_run=True)
            self._looked_at += count
            if count:
                yield (
                    f"{count} temporary files were left in the store: 'aero work' "
                    "removes them when it starts.",
                    {"count": count},
                )


def _listed(storage: Storage) -> Iterator[Listed]:
    return chain(storage.objects(), storage.trashed())


def _damage(storage: Storage, uri: str) -> str | None:
    """Return what is wrong with an object, None if nothing is or it is gone."""
    try:
        with storage.open(uri) as stream:
            found = sha256_stream(stream)
    except MissingObjectError:
        return None
    except (StorageError, OSError) as error:
        return f"cannot be read ({str(error).rstrip('.')})"
    return None if found == sha256_of(uri) else f"is damaged, it hashes to {found}"


def _entries(folder: Path | None) -> Iterable[Path]:
    if folder is None or not folder.is_dir():
        return ()
    return folder.iterdir()


def _older(entry: Path, moment: datetime) -> bool:
    try:
        return datetime.fromtimestamp(entry.lstat().st_mtime, UTC) <= moment
    except FileNotFoundError:
        return False
