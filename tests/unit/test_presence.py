"""A process that is gone is known to be gone at once, on its own machine."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import Timeout
from sqlalchemy import select

from aero.db.models import Worker
from aero.db.session import Database
from aero.runs import presence
from aero.runs.presence import Presence
from aero.testing import FrozenClock

ENTER = """
import sys
from pathlib import Path
from aero.runs.presence import Presence

here = Presence(Path(sys.argv[1]))
here.enter()
print(here.id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workers"


@pytest.fixture
def db(database_url: str, clock: FrozenClock) -> Iterator[Database]:
    database = Database(database_url, clock=clock)
    yield database
    database.dispose()


def rows(db: Database) -> list[Worker]:
    with db.read() as tx:
        return list(tx.execute(select(*Worker.__table__.c)).all())  # type: ignore[arg-type]


def beat(db: Database, who: Presence) -> None:
    db.write(lambda tx: presence.beat(tx, who, db.now(tx)))


def alive(db: Database) -> int:
    with db.read() as tx:
        return presence.alive(tx, db.now(tx))


def test_one_that_is_there_is_not_lost(folder: Path) -> None:
    here, other = Presence(folder), Presence(folder)
    here.enter()
    other.enter()
    assert here.lost([here.id, other.id]) == []
    here.leave()
    other.leave()


def test_one_that_left_takes_its_file_along(folder: Path) -> None:
    here = Presence(folder)
    here.leave()
    here.enter()
    here.leave()
    here.leave()
    assert list(folder.iterdir()) == []


def test_one_that_was_killed_is_lost(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENTER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    here = Presence(folder)
    assert here.lost([name]) == []
    process.kill()
    process.communicate(timeout=30)
    assert here.lost([name]) == [name]
    assert here.lost([name]) == [name]
    here.forget(name)
    here.forget(name)
    assert here.lost([name]) == []


def test_one_of_another_machine_is_not_known_to_be_lost(folder: Path) -> None:
    assert Presence(folder).lost([str(uuid.uuid4())]) == []


def test_two_cannot_be_the_same(folder: Path) -> None:
    here, twin = Presence(folder), Presence(folder)
    twin.id = here.id
    here.enter()
    with pytest.raises(Timeout):
        twin.enter()
    here.leave()


def test_beats_keep_a_process_alive(
    db: Database, folder: Path, clock: FrozenClock
) -> None:
    here, other = Presence(folder), Presence(folder)
    assert alive(db) == 0
    beat(db, here)
    beat(db, other)
    assert alive(db) == 2
    clock.advance(presence.ALIVE_FOR - timedelta(seconds=1))
    beat(db, here)
    assert alive(db) == 2
    clock.advance(1)
    assert alive(db) == 1
    clock.advance(presence.ALIVE_FOR)
    assert alive(db) == 0


def test_a_beat_keeps_when_the_process_started(
    db: Database, folder: Path, clock: FrozenClock
) -> None:
    here = Presence(folder)
    started = clock()
    beat(db, here)
    clock.advance(60)
    beat(db, here)
    (row,) = rows(db)
    assert (row.id, row.pid) == (here.id, os.getpid())
    assert (row.started_at, row.seen_at) == (started, clock())


def test_those_long_unheard_of_are_forgotten(
    db: Database, folder: Path, clock: FrozenClock
) -> None:
    beat(db, Presence(folder))
    clock.advance(timedelta(days=1, seconds=1))
    here = Presence(folder)
    beat(db, here)
    assert [row.id for row in rows(db)] == [here.id]


def test_departing_takes_only_the_named_ones(db: Database, folder: Path) -> None:
    here, other = Presence(folder), Presence(folder)
    beat(db, here)
    beat(db, other)
    db.write(lambda tx: presence.depart(tx, [other.id, str(uuid.uuid4())]))
    assert [row.id for row in rows(db)] == [here.id]
