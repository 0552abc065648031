"""Processes learn what others committed: told on PostgreSQL, asking on SQLite."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from aero.db import changes
from aero.db.changes import ALL, Topic, tell
from aero.db.session import Database

PATIENCE = 20
LISTENER = "aero-listener"


class Hearing:
    """A hearer whose next words can be waited for."""

    def __init__(self, db: Database) -> None:
        self.db = db
        self._heard: queue.SimpleQueue[frozenset[Topic]] = queue.SimpleQueue()
        db.changes.listen(lambda topics: self._heard.put(frozenset(topics)))

    def next(self) -> frozenset[Topic]:
        """Return what is heard next, as soon as it is."""
        return self._heard.get(timeout=PATIENCE)

    def silent(self, after: Callable[[], Any]) -> bool:
        """Whether `after` is not heard, though what comes after it is."""
        after()
        other = Database(str(self.db.url))
        try:
            other.write(lambda tx: tell(tx, Topic.ENDED))
        finally:
            other.dispose()
        return self.next() == {Topic.ENDED}


@pytest.fixture
def database() -> Iterator[Callable[[str], Database]]:
    made: list[Database] = []

    def make(url: str) -> Database:
        made.append(Database(url))
        return made[-1]

    yield make
    for each in made:
        each.dispose()
    assert LISTENER not in {thread.name for thread in threading.enumerate()}


@pytest.fixture
def pair(
    postgres_url: str, database: Callable[[str], Database]
) -> tuple[Database, Hearing]:
    """A database that another process would write to, and one that hears of it."""
    hearing = Hearing(database(postgres_url))
    assert hearing.next() == ALL
    return database(postgres_url), hearing


def nothing(tx: Connection) -> None:
    tx.execute(text("SELECT 1"))


def test_what_a_commit_is_about_is_told_once(pair: Any) -> None:
    other, hearing = pair

    def work(tx: Connection) -> None:
        tell(tx, Topic.RUNS)
        tell(tx, Topic.FLOWS, Topic.RUNS)

    other.write(work)
    assert hearing.next() == {Topic.RUNS, Topic.FLOWS}
    assert hearing.silent(lambda: other.write(nothing))


def test_it_is_told_at_the_commit_and_not_before(pair: Any) -> None:
    other, hearing = pair

    def work(tx: Connection) -> None:
        tell(tx, Topic.RUNS)
        assert hearing.silent(lambda: None)

    other.write(work)
    assert hearing.next() == {Topic.RUNS}


def test_what_is_undone_is_not_told(pair: Any) -> None:
    other, hearing = pair

    def work(tx: Connection) -> None:
        tell(tx, Topic.RUNS)
        raise LookupError("changed my mind")

    with pytest.raises(LookupError):
        other.write(work)
    assert hearing.silent(lambda: other.write(nothing))


def test_what_this_process_committed_is_no_news(pair: Any) -> None:
    _, hearing = pair
    assert hearing.silent(lambda: hearing.db.write(lambda tx: tell(tx, Topic.RUNS)))


def test_words_of_a_newer_aero_are_passed_over(pair: Any) -> None:
    other, hearing = pair
    say = "SELECT pg_notify('aero', 'somebody runs weather')"
    other.write(lambda tx: tx.execute(text(say)))
    assert hearing.next() == {Topic.RUNS}


def test_a_lost_connection_is_made_again_and_everything_looked_at(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, hearing = pair
    opened = changes._Ear._open
    missed = threading.Event()

    def after_a_while(ear: Any) -> Any:
        assert missed.wait(PATIENCE)
        return opened(ear)

    monkeypatch.setattr(changes._Ear, "_open", after_a_while)
    hang_up = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
        " datname = current_database() AND pid <> pg_backend_pid()"
    )
    assert other.write(lambda tx: tx.execute(text(hang_up)).rowcount) >= 1
    other.write(lambda tx: tell(tx, Topic.RUNS))
    missed.set()
    assert hearing.next() == ALL
    other.write(lambda tx: tell(tx, Topic.FLOWS))
    assert hearing.next() == {Topic.FLOWS}


def test_the_connection_that_listens_is_not_one_of_the_pool(pair: Any) -> None:
    _, hearing = pair
    assert hearing.db.engine.pool.checkedout() == 0


def test_asked_to_listen_again_it_changes_nothing(pair: Any) -> None:
    _, hearing = pair
    hearing.db.changes.listen(lambda topics: pytest.fail("a second hearer"))
    assert [t.name for t in threading.enumerate()].count(LISTENER) == 1
    assert hearing.silent(lambda: None)


def test_stopped_it_can_listen_again(pair: Any) -> None:
    _, hearing = pair
    hearing.db.changes.stop()
    hearing.db.changes.stop()
    assert LISTENER not in {thread.name for thread in threading.enumerate()}
    assert Hearing(hearing.db).next() == ALL


def test_it_stops_while_there_is_no_database(
    database: Callable[[str], Database],
) -> None:
    pytest.importorskip("psycopg")
    db = database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    db.changes.listen(lambda topics: None)
    assert LISTENER in {thread.name for thread in threading.enumerate()}
    db.changes.stop()
    assert LISTENER not in {thread.name for thread in threading.enumerate()}


def test_nobody_listens_unasked(
    postgres_url: str, database: Callable[[str], Database]
) -> None:
    db = database(postgres_url)
    db.write(nothing)
    assert LISTENER not in {thread.name for thread in threading.enumerate()}


def test_on_sqlite_every_commit_is_seen_when_asked(
    tmp_path: Path, database: Callable[[str], Database]
) -> None:
    db, other = [database(f"sqlite:///{tmp_path / 'aero.db'}") for _ in range(2)]
    heard: list[Any] = []
    db.changes.listen(heard.append)
    db.changes.poll()
    before = len(heard)
    db.changes.poll()
    assert len(heard) == before
    other.write(lambda tx: tx.execute(text("CREATE TABLE t (n INTEGER)")))
    assert len(heard) == before
    db.changes.poll()
    db.changes.poll()
    assert heard[before:] == [ALL]
    db.changes.stop()
    other.write(lambda tx: tx.execute(text("CREATE TABLE u (n INTEGER)")))
    db.changes.poll()
    assert len(heard) == before + 1


def test_what_is_read_tells_nobody_anything(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'aero.db'}")
    with db.read() as tx:
        tell(tx, Topic.RUNS)
    db.dispose()
    assert db.writes == 0
