"""Migrations: all or nothing, the same as the models, on both databases."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from aero.db import schema
from aero.db.base import REVISION, Base
from aero.db.models import VersionEdge
from aero.db.queries.common import table
from aero.db.session import Database
from aero.error import SchemaError
from aero.testing import make_app
from tests.conftest import Publisher
from tests.scenarios import analysis, constant, made, source

SCRIPTS = ScriptDirectory.from_config(schema.alembic_config())
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


@pytest.fixture
def url(empty_database_url: str) -> str:
    return empty_database_url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.dispose()


def tables(db: Database) -> set[str]:
    with db.read() as tx:
        return set(inspect(tx).get_table_names()) - {"alembic_version"}


def differences(db: Database) -> list[Any]:
    with db.read() as tx:
        context = MigrationContext.configure(
            tx,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                **schema.comparison(tx),
            },
        )
        return list(compare_metadata(context, Base.metadata))


def test_an_empty_database_comes_to_what_the_models_say(db: Database) -> None:
    assert schema.current(db) is None
    assert schema.upgrade(db) == REVISION
    assert differences(db) == []
    assert tables(db) == set(Base.metadata.tables)


def test_the_comparison_sees_a_missing_table_and_index(db: Database) -> None:
    schema.upgrade(db)
    db.write(lambda tx: tx.execute(text("DROP TABLE worker")))
    db.write(lambda tx: tx.execute(text("DROP INDEX ix_run_queue")))
    assert sorted(difference[0] for difference in differences(db)) == [
        "add_index",
        "add_table",
    ]


@pytest.mark.parametrize("by", ["migrations", "models"])
def test_partial_indexes_keep_their_conditions(db: Database, by: str) -> None:
    if by == "migrations":
        schema.upgrade(db)
    else:
        db.write(Base.metadata.create_all)
    with db.read() as tx:
        conditions = {
            index["name"]: str(index["dialect_options"][f"{tx.dialect.name}_where"])
            for table in ("run", "flow", "notice")
            for index in inspect(tx).get_indexes(table)
            if f"{tx.dialect.name}_where" in index.get("dialect_options", {})
        }
    wanted = {
        "uq_run_pending": "PENDING",
        "uq_run_running": "RUNNING",
        "ix_run_queue": "PENDING",
        "ix_run_lease": "RUNNING",
        "ix_run_limited": "limited",
        "uq_flow_fingerprint": "deleted_at IS NULL",
        "ix_notice_waiting": "not_before IS NOT NULL",
    }
    assert conditions.keys() == wanted.keys()
    assert all(wanted[name] in found for name, found in conditions.items())


def test_json_is_jsonb_on_postgresql(postgres_url: str) -> None:
    db = Database(postgres_url)
    try:
        with db.read() as tx:
            kinds = tx.execute(
                text(
                    "SELECT table_name || '.' || column_name, data_type"
                    " FROM information_schema.columns"
                    " WHERE table_schema = 'public' AND data_type LIKE 'json%'"
                )
            ).all()
    finally:
        db.dispose()
    assert dict(map(tuple, kinds)) == dict.fromkeys(
        (
            "audit.about",
            "flow.kwargs",
            "flow.notify",
            "notice.facts",
            "provenance.environment",
            "provenance.kwargs",
            "provenance.steps",
            "run.event",
            "run_step.metrics",
            "token.scopes",
        ),
        "jsonb",
    )


def test_times_carry_their_zone_on_postgresql(postgres_url: str) -> None:
    db = Database(postgres_url)
    try:
        with db.read() as tx:
            naive = tx.execute(
                text(
                    "SELECT count(*) FROM information_schema.columns WHERE"
                    " table_schema = 'public'"
                    " AND data_type = 'timestamp without time zone'"
                )
            ).scalar_one()
    finally:
        db.dispose()
    assert naive == 0


def test_every_revision_goes_down_and_up_again(db: Database) -> None:
    seen: list[set[str]] = [tables(db)]
    for revision in REVISIONS:
        assert schema.upgrade(db, revision) == revision
        seen.append(tables(db))
    for revision in reversed(REVISIONS):
        below = SCRIPTS.get_revision(revision).down_revision
        assert schema.downgrade(db, below or "base") == below
        assert schema.upgrade(db, revision) == revision
        assert tables(db) == seen[-1]
        assert schema.downgrade(db, below or "base") == below
        seen.pop()
        assert tables(db) == seen[-1]
    assert schema.upgrade(db) == REVISION
    assert differences(db) == []


def test_the_constant_is_the_head() -> None:
    assert SCRIPTS.get_heads() == [REVISION]


def test_names_and_order() -> None:
    files = sorted(path.name for path in Path(SCRIPTS.versions).glob("[0-9]*.py"))
    assert [f"{number:04}" for number in range(1, len(files) + 1)] == REVISIONS
    assert [name[:5] for name in files] == [f"{revision}_" for revision in REVISIONS]
    for below, revision in zip([None, *REVISIONS], REVISIONS, strict=False):
        script = SCRIPTS.get_revision(revision)
        assert script.down_revision == below
        assert (script.doc or "").endswith(".")


UPGRADE = """
import os, signal, sys
from sqlalchemy import event
from aero.db import schema
from aero.db.session import Database

url, at = sys.argv[1:]
db = Database(url)
created = []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

@event.listens_for(db.engine, "after_cursor_execute")
def count(connection, cursor, statement, *rest):
    if statement.lstrip().startswith("CREATE"):
        created.append(statement)
        if str(len(created)) == at:
            die()

@event.listens_for(db.engine, "commit")
def commit(connection):
    if at == "commit":
        die()

schema.ensure(db, upgrade_existing=True)
db.dispose()
"""


def upgrade_in_a_process(url: str, kill_at: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", UPGRADE, url, kill_at])


@pytest.mark.parametrize("kill_at", ["1", "25", "commit"])
def test_killed_half_way_nothing_of_it_is_there(
    url: str, db: Database, kill_at: str
) -> None:
    assert upgrade_in_a_process(url, kill_at).wait(60) == -signal.SIGKILL
    assert schema.current(db) is None
    assert tables(db) == set()
    schema.ensure(db, upgrade_existing=True)
    assert schema.current(db) == REVISION
    assert differences(db) == []


def test_two_processes_upgrade_at_once(url: str, db: Database) -> None:
    processes = [upgrade_in_a_process(url) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert schema.current(db) == REVISION
    assert differences(db) == []


@contextmanager
def upgrading_elsewhere(url: str) -> Iterator[None]:
    """Hold the lock that an upgrade holds."""
    elsewhere = Database(url)
    try:
        with elsewhere.read() as tx:
            elsewhere.advisory_lock(tx, schema._LOCK)
            yield
    finally:
        elsewhere.dispose()


def waits(db: Database) -> bool:
    with db.read() as tx:
        statement = text(
            "SELECT count(*) > 0 FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE datname = current_database() AND locktype = 'advisory'"
            " AND NOT granted"
        )
        return bool(tx.execute(statement).scalar_one())


def test_an_upgrade_waits_for_the_one_under_way(empty_postgres_url: str) -> None:
    db = Database(empty_postgres_url)
    upgrade = threading.Thread(target=schema.upgrade, args=(db,))
    with upgrading_elsewhere(empty_postgres_url):
        upgrade.start()
        while not waits(db):
            assert upgrade.is_alive()
        assert schema.current(db) is None
    upgrade.join()
    assert schema.current(db) == REVISION
    db.dispose()


def test_without_the_lock_it_would_not(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = Database(empty_postgres_url)
    with upgrading_elsewhere(empty_postgres_url):
        monkeypatch.setattr(Database, "advisory_lock", lambda *_: None)
        assert schema.upgrade(db) == REVISION
    db.dispose()


def test_a_newer_schema_is_refused_in_one_sentence(db: Database) -> None:
    schema.upgrade(db)
    db.write(
        lambda tx: tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    )
    for attempt in (
        lambda: schema.ensure(db, upgrade_existing=True),
        lambda: schema.upgrade(db),
    ):
        with pytest.raises(SchemaError, match="newer than this aero") as caught:
            attempt()
        assert str(caught.value).count(".") == 1
        assert (caught.value.found, caught.value.needed) == ("9999", REVISION)
    assert schema.current(db) == "9999"


def test_reproductions_become_edges_of_the_lineage(
    url: str, db: Database, tmp_path: Path, publisher: Publisher
) -> None:
    schema.upgrade(db)
    with make_app(tmp_path / "home", database_url=url) as app:
        origin = source(app, publisher.url("cases.csv"))
        same = analysis(app, constant, {"cases": made(origin)})
        for content in ("one", "two"):
            publisher.publish("cases.csv", content)
            app.run_flow(origin["id"])
            app.run_flow(same["id"])
    edges = table(VersionEdge).select().order_by(*table(VersionEdge).c)
    with db.read() as tx:
        before = tx.execute(edges).all()
    assert [reproduced for *_, reproduced in before] == [False, True]
    schema.downgrade(db, "0001")
    schema.upgrade(db)
    with db.read() as tx:
        assert tx.execute(edges).all() == before
