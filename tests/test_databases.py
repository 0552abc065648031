"""The databases that tests run on: emptied cheaply, dropped even after a kill."""

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import func, select, text

from aero.app import Aero
from aero.db import schema
from aero.db.base import REVISION, Base
from aero.db.session import Database
from aero.testing import make_app
from tests import conftest, databases
from tests.databases import (
    Postgres,
    SqliteTemplate,
    drop_leftovers,
    migrate,
    postgres_server,
    sessions,
)
from tests.scenarios import counts, tick

SESSION = """
import sys
from tests.databases import Postgres, postgres_server
session = Postgres(postgres_server())
print(session.name, flush=True)
sys.stdin.read()
"""


def fill(app: Aero) -> None:
    flow = app.register_flow("local", app.register_function(tick), exist_ok=True)
    app.run_flow(flow["id"])


def milliseconds(work: Callable[[], object], before: Callable[[], object]) -> float:
    taken = []
    for _ in range(5):
        before()
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return 1e3 * statistics.median(taken)


def test_a_test_finds_the_schema_and_no_row(app: Aero) -> None:
    assert schema.current(app.db) == REVISION
    assert set(counts(app).values()) == {0}
    fill(app)
    assert counts(app)["run"] == 1


def test_emptying_costs_a_fraction_of_truncating(
    postgres: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    tables = ", ".join(table.name for table in Base.metadata.sorted_tables)
    statement = text(f"TRUNCATE {tables}")
    with make_app(tmp_path, database_url=postgres_url) as app:
        deleting = milliseconds(postgres.reset, lambda: fill(app))
        assert set(counts(app).values()) == {0}
        truncating = milliseconds(
            lambda: app.db.write(lambda tx: tx.execute(statement)), lambda: fill(app)
        )
    print(f"DELETE of everything {deleting:.1f} ms, TRUNCATE {truncating:.1f} ms")
    assert deleting < truncating


def test_a_revision_that_a_test_pretended_is_gone(
    postgres: Postgres, postgres_url: str
) -> None:
    db = Database(postgres_url)
    pretended = text("UPDATE alembic_version SET version_num = '9999'")
    db.write(lambda tx: tx.execute(pretended))
    postgres.reset()
    assert schema.current(db) == REVISION
    db.dispose()


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE flow_input DROP CONSTRAINT fk_flow_input_data_id",
        "DROP INDEX uq_run_pending",
        "ALTER TABLE run DROP COLUMN log_tail",
        "CREATE TABLE more (id INTEGER)",
    ],
)
def test_tables_that_a_test_changed_are_made_again(
    postgres: Postgres, postgres_url: str, change: str
) -> None:
    before = postgres._shaped()
    db = Database(postgres_url)
    db.write(lambda tx: tx.execute(text(change)))
    db.dispose()
    assert postgres._shaped() != before
    postgres.reset()
    assert postgres._shaped() == before


def test_copying_an_sqlite_file_costs_a_fraction_of_migrating(
    sqlite_template: SqliteTemplate, tmp_path: Path
) -> None:
    fresh = (tmp_path / f"{number}.db" for number in range(10))
    copying = milliseconds(lambda: sqlite_template.copy(next(fresh)), lambda: None)
    migrating = milliseconds(lambda: migrate(f"sqlite:///{next(fresh)}"), lambda: None)
    print(f"copying {copying:.1f} ms, migrating {migrating:.1f} ms")
    assert copying < migrating


def test_a_connection_that_is_left_open_is_counted_and_ended(
    postgres: Postgres, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_PATIENCE", 0.0)
    assert postgres.left_open() == 0
    db = Database(postgres_url)
    with db.read() as tx:
        tx.execute(select(func.now()))
        assert postgres.left_open() == 1
        monkeypatch.undo()
        assert postgres.left_open() == 0
        tx.invalidate()
    db.dispose()


def test_what_a_killed_session_left_is_dropped_and_nothing_else(
    postgres: Postgres,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as session:
        assert session.stdout is not None
        name = session.stdout.readline().strip()
        drop_leftovers(postgres_server())
        assert sessions(postgres_server()) >= {name, postgres.name}
        session.send_signal(signal.SIGKILL)
    drop_leftovers(postgres_server())
    left = sessions(postgres_server())
    assert name not in left
    assert postgres.name in left


def test_without_a_server_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"
    monkeypatch.setenv("AERO_TEST_POSTGRES", nowhere)
    with pytest.raises(
        ConnectionError, match=r"no PostgreSQL answers at 127\.0\.0\.1:1"
    ):
        Postgres(postgres_server())


@pytest.mark.parametrize(
    ("required", "outcome"),
    [("", pytest.skip.Exception), ("1", pytest.fail.Exception)],
)
def test_what_is_lacking_is_a_skip_or_where_it_is_required_a_failure(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "AERO_TEST_REQUIRE_SERVICES", required)
    with pytest.raises(outcome, match="no such thing here"):
        conftest.lacking("no such thing here")
