"""gc meets commits of the very bytes that it is about to free."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

import aero.retention
import aero.runs.commit
from aero.db.models import Run
from aero.error import StorageError
from aero.retention import gc
from aero.storage import Listed, LocalStorage
from aero.types import StoredObject
from tests.faults.racing import Race
from tests.histories import Violation

LONG_AGO = timedelta(days=2)


class Orphan:
    """A run that will make the bytes of an object that nothing refers to."""

    def __init__(self, on: Race, *, age: timedelta = LONG_AGO) -> None:
        self.on = on
        self.store = LocalStorage(on.app.settings.store)
        source, _ = on.source()
        self.held = on.held()[source]
        self.bytes = f"the bytes of {source}"
        self.stored = self.put()
        self.age(age)

    def put(self) -> StoredObject:
        """Store the bytes, as the run does and as another one did before."""
        path = Path(self.on.app.settings.home) / "made"
        path.write_text(self.bytes)
        return self.store.put(path)

    def age(self, by: timedelta) -> None:
        """Let everything in the store have been put that long ago."""
        for folder in ("objects", "trash"):
            for place in (self.store.root / folder).rglob(self.stored.sha256):
                moment = place.stat().st_mtime - by.total_seconds()
                os.utime(place, (moment, moment))

    def commit(self) -> None:
        """Commit the run."""
        self.on.commit(self.held, self.bytes)

    def collect(self, store: Any = None) -> Any:
        """Collect what is not needed."""
        app = self.on.app
        return gc(app.db, store or self.store, app.settings)

    def check(self, *ended: Any) -> None:
        """Raise a Violation unless the bytes are, and stay, where they belong."""
        self.on.sound(*ended)
        for _ in range(3):
            try:
                self.store.get(self.stored.uri, self.on.app.settings.home / "copy")
            except StorageError as error:
                raise Violation(f"committed bytes are lost: {error}") from error
            self.collect()
            self.age(LONG_AGO)
        if self.stored.uri not in {each.uri for each in self.store.objects()}:
            raise Violation("committed bytes are left in the trash")


def commit_beside_gc(on: Race) -> None:
    """Bytes are put and committed after gc saw that nothing refers to them."""
    orphan = Orphan(on)

    def commit() -> None:
        orphan.put()
        orphan.commit()

    ended = on.meet(
        orphan.collect, commit, at=(aero.retention.version_queries, "referenced")
    )
    orphan.check(*ended)


def put_beside_gc(on: Race) -> None:
    """Bytes are put as gc takes them for old; it comes twice before the commit."""
    orphan = Orphan(on)
    ended = on.meet(
        orphan.collect, orphan.put, at=(aero.retention.version_queries, "referenced")
    )
    orphan.collect()
    orphan.commit()
    orphan.check(*ended)


class Listing:
    """A store whose objects were listed some time ago."""

    def __init__(self, store: LocalStorage) -> None:
        self._store = store
        self._listed = list(store.objects())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def objects(self) -> list[Listed]:
        """Return what there was."""
        return self._listed


def gc_within_commit(on: Race) -> None:
    """gc asks, moves and asks again while the commit is not yet to be seen."""
    orphan = Orphan(on)
    listing = Listing(orphan.store)
    orphan.put()
    ended = on.meet(
        orphan.commit,
        lambda: orphan.collect(listing),
        at=(aero.runs.commit, "_make_versions"),
    )
    if ended[1]["trashed"] != 1:
        raise Violation(f"gc did not come between: {ended}")
    orphan.check(*ended[:1])


def gc_beside_a_long_run(on: Race) -> None:
    """Bytes were put by a run that has been running for days since."""
    orphan = Orphan(on, age=LONG_AGO - timedelta(minutes=1))
    run = orphan.held.run

    def began(tx: Any) -> None:
        began = run.started_at - LONG_AGO
        tx.execute(update(Run).where(Run.id == run.id).values(started_at=began))

    on.app.db.write(began)
    for _ in range(2):
        orphan.collect()
    orphan.commit()
    orphan.check()


GC_SCENARIOS: tuple[Callable[[Race], None], ...] = (
    commit_beside_gc,
    put_beside_gc,
    gc_within_commit,
    gc_beside_a_long_run,
)
