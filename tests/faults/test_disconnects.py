"""Connections that are lost, and commits whose answer is: all is done once."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from aero.app import Aero
from aero.runs import lifecycle
from aero.testing import make_app
from tests.conftest import Publisher
from tests.invariants import check_invariants


def _ingest(app: Aero, url: str) -> None:
    app.register_flow("local", None, None, {"series": {"url": url}}, policy="INGESTION")
    app.run_until_idle(20)


def _once(app: Aero) -> None:
    (run,) = app.list_runs()
    assert (run["status"], run["attempt"]) == ("SUCCEEDED", 1)
    assert [each["version"] for each in app.list_versions("series")] == [1]
    assert len(list(app.list_metadata("prov"))) == 1
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_a_commit_whose_answer_is_lost_is_looked_up(
    tmp_path: Path, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = publisher.publish("series", "1")
    with make_app(tmp_path) as app:
        dialect = app.db.engine.dialect
        commit, lost = dialect.do_commit, []

        def committed(connection: Any) -> None:
            found = sqlite3.Cursor(connection.driver_connection).execute(
                "SELECT count(*) FROM provenance"
            )
            commit(connection)
            if found.fetchone()[0] and not lost:
                lost.append(True)
                raise sqlite3.OperationalError("database is locked")

        monkeypatch.setattr(dialect, "do_commit", committed)
        _ingest(app, url)
        assert lost
        _once(app)


def test_a_connection_lost_within_a_commit_repeats_it(
    postgres_url: str,
    tmp_path: Path,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judge, lost = lifecycle.judge, []

    def losing(tx: Any, *args: Any) -> Any:
        if not lost:
            lost.append(tx.execute(text("SELECT pg_backend_pid()")).scalar_one())
            _terminate(postgres_url, lost[0])
        return judge(tx, *args)

    monkeypatch.setattr(lifecycle, "judge", losing)
    url = publisher.publish("series", "1")
    with make_app(tmp_path, database_url=postgres_url) as app:
        _ingest(app, url)
        assert lost
        _once(app)


def _terminate(url: str, backend: int) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
    engine.dispose()
