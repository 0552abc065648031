"""PostgreSQL for users: one URL to set, and what is said when it does not work."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from aero.cli.root import aero
from aero.db import schema
from aero.db.base import REVISION
from aero.db.session import Database
from aero.error import ConfigError
from aero.testing import make_app
from tests.scenarios import analysis, length, made, source
from tests.scenarios import text as content

NOWHERE = "postgresql+psycopg://nobody:pa55word@127.0.0.1:1/nothing"


def shell(*args: str) -> str:
    """Run `aero` as a shell does; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "aero", *args],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return done.stdout


def refused(*args: str) -> str:
    """Run `aero` and return the one line that it fails with."""
    result = CliRunner().invoke(aero, args)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@contextmanager
def database(url: str) -> Iterator[Database]:
    db = Database(url)
    try:
        yield db
    finally:
        db.dispose()


def test_a_url_in_the_configuration_is_all_there_is_to_change(
    empty_postgres_url: str,
    isolation: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AERO_DATABASE_URL")
    isolation.mkdir()
    settings = f"[default]\ndatabase_url = '{empty_postgres_url}'\n"
    (isolation / "config.toml").write_text(settings)
    (tmp_path / "cases.csv").write_text("a,b\n")
    url = (tmp_path / "cases.csv").as_uri()
    # The first use makes the tables.
    shell("create", "-n", "cases", "-u", url, "-p", "INGESTION")
    assert "made cases@1" in shell("work", "--once")
    assert shell("get", "cases", "-o", "-") == "a,b\n"
    assert empty_postgres_url in shell("status")
    assert not list(isolation.rglob("*.db*"))


def test_an_older_database_is_left_to_db_upgrade(empty_postgres_url: str) -> None:
    """Others may be at work on it, with the aero it belongs to."""
    with database(empty_postgres_url) as db:
        schema.upgrade(db, "0001")
        assert "run 'aero db upgrade'" in refused("list")
        assert schema.current(db) == "0001"
        done = CliRunner().invoke(aero, ["db", "upgrade"])
        assert (done.exit_code, done.stdout[:4]) == (0, REVISION)
        assert CliRunner().invoke(aero, ["list"]).exit_code == 0


def test_an_older_embedded_one_is_brought_up_to_date_by_its_use(
    empty_sqlite_url: str,
) -> None:
    with database(empty_sqlite_url) as db:
        schema.upgrade(db, "0001")
        assert CliRunner().invoke(aero, ["list"]).exit_code == 0
        assert schema.current(db) == REVISION


def test_a_newer_database_asks_for_the_newer_aero(postgres_url: str) -> None:
    with database(postgres_url) as db:
        newer = text("UPDATE alembic_version SET version_num = '9999'")
        db.write(lambda tx: tx.execute(newer))
    assert "install the newer aero-orchestrator" in refused("list")


@pytest.mark.parametrize("args", [["list"], ["status"], ["db", "upgrade"], ["gc"]])
def test_a_server_that_is_not_there_is_one_sentence(
    args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("AERO_DATABASE_URL", NOWHERE)
    said = refused(*args)
    assert said.startswith("Error: The database at postgresql+psycopg://nobody:***@")
    assert "does not answer (connection failed: " in said
    assert said.endswith("that AERO_DATABASE_URL names it, then try again.\n")
    assert "pa55word" not in said


def test_a_driver_that_is_not_installed_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    monkeypatch.setenv("AERO_DATABASE_URL", NOWHERE)
    said = refused("list")
    assert said.endswith("run pip install 'aero-orchestrator[postgres]'.\n")
    db = Database(NOWHERE)
    with pytest.raises(ConfigError, match="is not installed"):
        schema.current(db)


def test_two_homes_share_a_database_and_a_store(
    database_url: str, tmp_path: Path, publisher
) -> None:
    shared = {"database_url": database_url, "store": tmp_path / "store"}
    with (
        make_app(tmp_path / "one", **shared) as one,
        make_app(tmp_path / "two", **shared) as two,
    ):
        cases = made(source(one, publisher.publish("cases.csv", "a,b\n")))
        one.run_flow("cases")
        flow = analysis(two, length, {"cases": cases})
        two.run_until_idle(30)
        assert content(one, made(flow), tmp_path) == "4"
        assert {run["id"] for run in one.list_runs()} == {
            run["id"] for run in two.list_runs()
        }
