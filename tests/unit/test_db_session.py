"""Transactions: all or nothing, repeated when they lose, one writer at a time."""

import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import IntegrityError, OperationalError

from aero.db import outages, session
from aero.db.session import Database
from aero.error import DatabaseUnavailableError
from aero.testing import FrozenClock


@pytest.fixture
def db(empty_database_url: str) -> Iterator[Database]:
    database = made(empty_database_url)
    yield database
    database.dispose()


@pytest.fixture
def sqlite(empty_sqlite_url: str) -> Iterator[Database]:
    database = made(empty_sqlite_url)
    yield database
    database.dispose()


def made(url: str) -> Database:
    database = Database(url)
    database.write(
        lambda tx: tx.execute(
            text("CREATE TABLE counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
        )
    )
    database.write(lambda tx: tx.execute(text("INSERT INTO counter VALUES (1, 0)")))
    return database


def add(tx: Connection, by: int = 1) -> None:
    tx.execute(text("UPDATE counter SET n = n + :by"), {"by": by})


def value(db: Database) -> int:
    with db.read() as tx:
        return int(tx.execute(text("SELECT n FROM counter")).scalar_one())


def test_a_write_commits_and_is_counted(db: Database) -> None:
    before = db.writes
    assert db.write(lambda tx: [add(tx), "result"][1]) == "result"
    assert value(db) == 1
    assert db.writes == before + 1


def test_an_error_undoes_all_of_it(db: Database) -> None:
    before = db.writes

    def work(tx: Connection) -> None:
        add(tx)
        raise LookupError("changed my mind")

    with pytest.raises(LookupError, match="changed my mind"):
        db.write(work)
    assert value(db) == 0
    assert db.writes == before


def test_a_database_error_that_repeating_cannot_mend_is_raised_at_once(
    db: Database,
) -> None:
    calls = []

    def work(tx: Connection) -> None:
        calls.append(1)
        add(tx)
        tx.execute(text("INSERT INTO counter VALUES (1, 0)"))

    with pytest.raises(IntegrityError):
        db.write(work)
    assert calls == [1]
    assert value(db) == 0


def test_what_is_read_is_not_kept(db: Database) -> None:
    with db.read() as tx:
        add(tx)
    assert value(db) == 0


def test_threads_lose_no_update(db: Database) -> None:
    def work() -> None:
        for _ in range(20):
            db.write(add)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(db) == 80


def test_a_deadlock_is_repeated(empty_postgres_url: str) -> None:
    db = made(empty_postgres_url)
    db.write(lambda tx: tx.execute(text("INSERT INTO counter VALUES (2, 0)")))
    meet = threading.Barrier(2)
    calls = []

    def work(first: int, second: int) -> None:
        def step(tx: Connection) -> None:
            calls.append(first)
            for number in (first, second):
                tx.execute(text(f"UPDATE counter SET n = n + 1 WHERE id = {number}"))
                if number == first and len(calls) <= 2:
                    meet.wait(10)

        db.write(step)

    try:
        threads = [threading.Thread(target=work, args=ids) for ids in ((1, 2), (2, 1))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with db.read() as tx:
            found = tx.execute(text("SELECT n FROM counter ORDER BY id")).scalars()
            assert list(found) == [2, 2]
        assert len(calls) == 3
    finally:
        db.dispose()


def test_a_connection_lost_between_transactions_is_replaced(
    empty_postgres_url: str,
) -> None:
    db, other = made(empty_postgres_url), Database(empty_postgres_url)
    try:
        other.write(
            lambda tx: tx.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE"
                    " datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        )
        db.write(add)
        assert value(db) == 1
    finally:
        db.dispose()
        other.dispose()


def test_a_restarting_server_is_waited_for(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One with a dialect of its own, through which its pool connects.
    monkeypatch.setattr(session, "create_engine", create_engine)
    db = Database(postgres_url)
    db.write(lambda tx: tx.execute(text("SELECT 1")))
    db.engine.dispose()
    connect, refused = db.engine.dialect.connect, []

    def restarting(*args: Any, **options: Any) -> Any:
        if len(refused) < 2:
            refused.append(True)
            raise db.engine.dialect.dbapi.OperationalError("connection refused")
        return connect(*args, **options)

    monkeypatch.setattr(db.engine.dialect, "connect", restarting)
    assert db.write(lambda tx: tx.execute(text("SELECT 1")).scalar_one()) == 1
    assert len(refused) == 2
    db.dispose()


def test_a_server_that_never_answered_is_not_waited_for() -> None:
    pytest.importorskip("psycopg")
    db = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    began = time.monotonic()
    for use in (db.write, db.look):
        with pytest.raises(DatabaseUnavailableError, match="does not answer"):
            use(lambda tx: tx.execute(text("SELECT 1")))
    assert time.monotonic() - began < 10
    db.dispose()


def test_a_connection_lost_within_one_repeats_all_of_it(
    empty_postgres_url: str,
) -> None:
    db, other = made(empty_postgres_url), Database(empty_postgres_url)
    calls = []

    def work(tx: Connection) -> None:
        calls.append(1)
        add(tx)
        if len(calls) == 1:
            pid = tx.execute(text("SELECT pg_backend_pid()")).scalar_one()
            other.write(
                lambda o: o.execute(text(f"SELECT pg_terminate_backend({pid})"))
            )
        add(tx)

    try:
        db.write(work)
        assert value(db) == 2
        assert len(calls) == 2
    finally:
        db.dispose()
        other.dispose()


def busy(times: int) -> Any:
    calls = []

    def work(tx: Connection) -> int:
        add(tx)
        calls.append(1)
        if len(calls) <= times:
            locked = sqlite3.OperationalError("database is locked")
            raise OperationalError("UPDATE", {}, locked)
        return len(calls)

    return work


def test_a_busy_database_is_tried_again(sqlite: Database) -> None:
    assert sqlite.write(busy(3)) == 4
    assert value(sqlite) == 1


def test_but_not_for_ever(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PATIENCE", -1.0)
    with pytest.raises(OperationalError, match="locked"):
        sqlite.write(busy(1))
    assert value(sqlite) == 0


def test_sqlite_is_set_up_to_lose_nothing(sqlite: Database) -> None:
    with sqlite.read() as tx:
        found = {
            name: tx.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 10000,
    }


def can_be_locked(db: Database) -> bool:
    other = sqlite3.connect(str(db.path), timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    else:
        return True
    finally:
        other.close()


def test_a_write_holds_the_lock_from_the_start_and_a_read_never(
    sqlite: Database,
) -> None:
    value(sqlite)
    assert not sqlite.write(lambda _tx: can_be_locked(sqlite))
    with sqlite.read() as tx:
        tx.exec_driver_sql("SELECT 1").all()
        assert can_be_locked(sqlite)


def test_sqlite_keeps_this_processs_time() -> None:
    clock = FrozenClock()
    db = Database("sqlite://", clock=clock)
    try:
        with db.read() as tx:
            before = db.now(tx)
            clock.advance(60)
            assert db.now(tx) - before == timedelta(seconds=60)
    finally:
        db.dispose()


def test_postgresql_keeps_its_own_also_within_a_transaction(postgres_url: str) -> None:
    db = Database(postgres_url, clock=FrozenClock())
    try:
        with db.read() as tx:
            first = db.now(tx)
            second = db.now(tx)
        assert first.tzinfo is not None
        assert FrozenClock()() != first < second
    finally:
        db.dispose()


def test_an_advisory_lock_ends_with_its_transaction(postgres_url: str) -> None:
    db = Database(postgres_url)
    key = uuid.uuid4().int & 0x7FFFFFFF
    order: list[str] = []
    held = threading.Event()

    def first(tx: Connection) -> None:
        db.advisory_lock(tx, key)
        held.set()
        thread.join(0.2)
        order.append("first")

    def second(tx: Connection) -> None:
        db.advisory_lock(tx, key)
        order.append("second")

    def wait_and_lock() -> None:
        held.wait(10)
        db.write(second)

    thread = threading.Thread(target=wait_and_lock)
    thread.start()
    db.write(first)
    thread.join()
    db.dispose()
    assert order == ["first", "second"]


def test_the_path_of_the_file(tmp_path: Path) -> None:
    assert Database(f"sqlite:///{tmp_path / 'a.db'}").path == tmp_path / "a.db"
    assert Database("sqlite://").path is None
    assert Database("sqlite:///:memory:").path is None
    assert Database("postgresql+psycopg://localhost/aero").path is None


def test_nothing_is_opened_before_it_is_asked_for(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path / 'a.db'}")
    assert not (tmp_path / "a.db").exists()
    db.dispose()
    assert not (tmp_path / "a.db").exists()


def test_threads_share_one_engine(sqlite: Database) -> None:
    sqlite.dispose()
    engines: list[Any] = []
    meet = threading.Barrier(8)

    def ask() -> None:
        meet.wait(10)
        engines.append(sqlite.engine)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, engines))) == 1


def test_disposed_it_can_be_used_again(sqlite: Database) -> None:
    sqlite.changes.poll()
    sqlite.dispose()
    sqlite.dispose()
    sqlite.write(add)
    assert value(sqlite) == 1
