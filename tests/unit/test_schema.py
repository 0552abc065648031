"""The schema is ensured with one SELECT, and changed only where it may be."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from aero.db import schema
from aero.db.base import REVISION
from aero.db.session import Database
from aero.error import SchemaError


@pytest.fixture
def db(empty_database_url: str) -> Iterator[Database]:
    database = Database(empty_database_url)
    yield database
    database.dispose()


def set_revision(db: Database, revision: str) -> None:
    statement = text("UPDATE alembic_version SET version_num = :revision")
    db.write(lambda tx: tx.execute(statement, {"revision": revision}))


@pytest.mark.parametrize("upgrade_existing", [True, False])
def test_an_empty_database_is_brought_to_head(
    db: Database, upgrade_existing: bool
) -> None:
    schema.ensure(db, upgrade_existing=upgrade_existing)
    assert schema.current(db) == REVISION


def test_at_head_ensuring_is_one_select(db: Database) -> None:
    schema.upgrade(db)
    statements: list[str] = []

    @event.listens_for(db.engine, "after_cursor_execute")
    def remember(connection, cursor, statement, *rest) -> None:  # type: ignore[no-untyped-def]
        statements.append(statement)

    schema.ensure(db, upgrade_existing=True)
    assert [s for s in statements if s != "BEGIN"] == [
        "SELECT version_num FROM alembic_version"
    ]


def test_alembic_is_not_loaded_where_nothing_is_to_be_done(db: Database) -> None:
    schema.upgrade(db)
    code = (
        "import sys; from aero.db import schema; from aero.db.session import Database;"
        "db = Database(sys.argv[1]); schema.ensure(db, upgrade_existing=True);"
        "db.dispose(); print('alembic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, db.url.render_as_string(hide_password=False)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "False\n"


def test_an_older_schema_is_upgraded_only_where_that_is_asked_for(db: Database) -> None:
    schema.upgrade(db)
    set_revision(db, "0000")
    with pytest.raises(SchemaError, match="run 'aero db upgrade'") as caught:
        schema.ensure(db, upgrade_existing=False)
    assert (caught.value.found, caught.value.needed) == ("0000", REVISION)


def test_a_newer_schema_is_refused(db: Database) -> None:
    schema.upgrade(db)
    set_revision(db, "9999")
    with pytest.raises(SchemaError, match="install the newer aero-orchestrator"):
        schema.ensure(db, upgrade_existing=True)


def test_upgrading_again_changes_nothing(db: Database) -> None:
    assert schema.upgrade(db) == schema.upgrade(db) == REVISION


def test_downgrading_leaves_an_empty_database(db: Database) -> None:
    schema.upgrade(db)
    assert schema.downgrade(db, "base") is None
    assert schema.upgrade(db) == REVISION


def test_a_database_that_cannot_be_read_is_not_taken_for_an_empty_one(
    db: Database,
) -> None:
    db.write(lambda tx: tx.execute(text("CREATE TABLE alembic_version (x INTEGER)")))
    with pytest.raises(DBAPIError, match="version_num"):
        schema.current(db)


def test_in_memory_there_is_no_file_to_lock() -> None:
    db = Database("sqlite://")
    try:
        assert db.path is None
        assert schema.current(db) is None
        assert schema.upgrade(db) == REVISION
    finally:
        db.dispose()


def test_an_empty_postgresql_is_seen_as_such_and_the_connection_goes_on(
    empty_postgres_url: str,
) -> None:
    db = Database(empty_postgres_url)
    try:
        assert schema.current(db) is None
        with db.read() as tx:
            assert tx.execute(text("SELECT 1")).scalar_one() == 1
        schema.ensure(db, upgrade_existing=False)
        assert schema.current(db) == REVISION
        db.write(
            lambda tx: tx.execute(
                text("ALTER TABLE alembic_version RENAME version_num TO x")
            )
        )
        with pytest.raises(DBAPIError, match="version_num"):
            schema.current(db)
    finally:
        db.dispose()
