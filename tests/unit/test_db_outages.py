"""Outages: who waits how long, and what is said of them."""

import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from aero.db import outages
from aero.db.outages import Outages
from aero.db.session import Database
from aero.error import DatabaseUnavailableError

URL = "postgresql+psycopg://me:hunter2@db.example:5433/work?password=hunter3"


@pytest.fixture
def known() -> Outages:
    """Of a database that answered before."""
    found = Outages(make_url(URL))
    found.repeat(lambda: None)
    return found


def refused() -> DBAPIError:
    return OperationalError(None, None, Exception("connection refused"))


def lost() -> DBAPIError:
    return DBAPIError("SELECT 1", {}, Exception("gone"), connection_invalidated=True)


def busy() -> DBAPIError:
    return OperationalError("UPDATE", {}, Exception("database is locked"))


def failing(times: int, error: Callable[[], DBAPIError]) -> Callable[[], str]:
    left = [times]

    def transaction() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise error()
        return "done"

    return transaction


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute is over at once."""
    monkeypatch.setattr(outages, "PATIENCE", -1.0)


@pytest.mark.parametrize("error", [refused, lost, busy])
def test_what_passes_is_waited_for(known: Outages, error: Any) -> None:
    assert known.repeat(failing(3, error)) == "done"


@pytest.mark.usefixtures("impatient")
def test_a_caller_is_told_what_to_do(known: Outages) -> None:
    with pytest.raises(DatabaseUnavailableError) as raised:
        known.repeat(failing(3, lost))
    assert str(raised.value) == (
        "The database at postgresql+psycopg://me:***@db.example:5433/work does not "
        "answer (gone): check that it runs and that AERO_DATABASE_URL names it, then "
        "try again."
    )
    assert raised.value.code == 503


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("error", [refused, lost])
def test_a_worker_waits_as_long_as_it_lasts(known: Outages, error: Any) -> None:
    with known.enduring(threading.Event()):
        assert known.repeat(failing(5, error)) == "done"
    with pytest.raises(DatabaseUnavailableError):
        known.repeat(failing(1, error))


@pytest.mark.usefixtures("impatient")
def test_other_threads_do_not_wait_with_it(known: Outages) -> None:
    found = []

    def other() -> None:
        try:
            known.repeat(failing(1, lost))
        except DatabaseUnavailableError as error:
            found.append(error)

    with known.enduring(threading.Event()):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(found) == 1


def test_until_it_is_asked_to_stop(known: Outages) -> None:
    stopping = threading.Event()
    calls = []

    def transaction() -> None:
        calls.append(1)
        if len(calls) == 3:
            stopping.set()
        raise lost()

    with known.enduring(stopping), pytest.raises(DatabaseUnavailableError):
        known.repeat(transaction)
    assert len(calls) == 3


@pytest.mark.usefixtures("impatient")
def test_a_lock_is_not_waited_for_for_ever(known: Outages) -> None:
    with (
        known.enduring(threading.Event()),
        pytest.raises(OperationalError, match="locked"),
    ):
        known.repeat(failing(1, busy))


def test_who_never_answered_is_not_waited_for() -> None:
    with pytest.raises(DatabaseUnavailableError, match="connection refused"):
        Outages(make_url(URL)).repeat(failing(1, refused))


def test_a_file_has_no_connection_to_lose() -> None:
    found = Outages(make_url("sqlite:///aero.db"))
    found.repeat(lambda: None)
    for error in (refused, lost):
        with pytest.raises(DBAPIError):
            found.repeat(failing(1, error))


def test_an_outage_is_said_once_when_it_begins_and_once_when_it_ends(
    known: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aero.db.outages"):
        known.repeat(failing(4, refused))
        known.repeat(lambda: None)
    began, ended = [record.getMessage() for record in caplog.records]
    assert began == (
        "The database at postgresql+psycopg://me:***@db.example:5433/work does not "
        "answer (connection refused): it is tried until it does."
    )
    assert "answers again after" in ended
    assert "hunter" not in caplog.text


def test_one_lost_connection_is_no_outage(
    known: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "aero.db.outages"):
        known.repeat(failing(1, lost))
        assert caplog.records == []
        known.repeat(failing(6, lost))
    assert len(caplog.records) == 2


def test_neither_side_waits_for_hours_on_one_that_fell_silent(
    postgres_url: str,
) -> None:
    db = Database(postgres_url)
    slow = make_url(postgres_url).update_query_dict({"tcp_user_timeout": "7000"})
    other = Database(slow.render_as_string(hide_password=False))
    try:
        assert _options(db) == {
            "TCP_KEEPIDLE": 30,
            "TCP_KEEPINTVL": 10,
            "TCP_KEEPCNT": 3,
            "TCP_USER_TIMEOUT": 60_000,
        }
        assert _options(other)["TCP_USER_TIMEOUT"] == 7000
        with db.read() as tx:
            found = {
                name: tx.exec_driver_sql(f"SHOW {name}").scalar_one()
                for name in (
                    "idle_in_transaction_session_timeout",
                    "tcp_keepalives_idle",
                )
            }
        assert found == {
            "idle_in_transaction_session_timeout": "20s",
            "tcp_keepalives_idle": "30",
        }
    finally:
        db.dispose()
        other.dispose()


def _options(db: Database) -> dict[str, int]:
    """Return what the operating system was asked for."""
    with db.read() as tx:
        number = os.dup(tx.connection.dbapi_connection.fileno())
        with socket.socket(fileno=number) as line:
            return {
                name: line.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
                for name in (
                    "TCP_KEEPIDLE",
                    "TCP_KEEPINTVL",
                    "TCP_KEEPCNT",
                    "TCP_USER_TIMEOUT",
                )
            }
