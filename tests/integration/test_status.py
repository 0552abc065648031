"""Status says how a workspace stands, and disturbs nothing."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text, update

from aero import __version__
from aero.app import Aero
from aero.db.base import REVISION
from aero.db.models import Flow, Run, Worker
from aero.db.session import Database
from aero.runs import presence
from aero.runs.presence import Presence
from aero.storage import open_storage
from aero.testing import EPOCH, FrozenClock, make_app
from aero.types import RunStatus
from tests.scenarios import another


def nothing(cases):
    return None


def fail(cases):
    raise ValueError(cases)


@pytest.fixture
def source(app: Aero, publisher) -> str:
    """The id of Data that has a first version."""
    url = publisher.publish("cases.csv", "a,b\n")
    made = app.register_flow(
        "local", None, None, {"cases": {"url": url}}, policy="INGESTION"
    )
    app.run_until_idle(30)
    return str(made["contributed_to"][0]["id"])


def depend(app: Aero, function: Any, source: str, **options: Any) -> str:
    inputs = {"cases": {"id": source}}
    made = app.register_flow(
        "local", app.register_function(function), inputs, {}, **options
    )
    return str(made["id"])


@pytest.fixture
def waiting(app: Aero, source: str, clock: FrozenClock) -> str:
    """A flow that waits to be run, and nobody heard of for long."""
    flow = depend(app, nothing, source, policy="NONE")
    clock.advance(timedelta(minutes=2))
    app.run_flow(flow, wait=False)
    return flow


@pytest.mark.parametrize("home", ["", "deep/down"])
def test_a_fresh_machine_stays_fresh(tmp_path: Path, home: str) -> None:
    fresh = tmp_path / "fresh"
    with make_app(fresh / home) as app:
        report = app.status()
        assert app.waiting_note() is None
    assert report["note"] == "no workspace yet"
    assert report["revision"] is None
    assert report["database_bytes"] == report["store_bytes"] == 0
    assert set(report["runs"].values()) == {0}
    assert not fresh.exists()


def test_an_empty_file_is_no_workspace_either(tmp_path: Path) -> None:
    (tmp_path / "aero.db").touch()
    with make_app(tmp_path) as app:
        assert app.status()["note"] == "no workspace yet"
        assert app.waiting_note() is None


def test_it_says_where_things_are(app: Aero, source: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    report = app.status()
    assert report["version"] == __version__
    assert report["profile"] == "default"
    assert report["config_file"] is None
    assert report["home"] == str(home)
    assert report["database"] == app.settings.database_url
    assert report["database_bytes"] > 100_000
    assert report["store"] == str(home / "store")
    assert report["revision"] == REVISION


def test_the_file_that_was_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    with make_app(tmp_path, config_file=file, profile="testing") as app:
        report = app.status()
    assert (report["config_file"], report["profile"]) == (str(file), "testing")


def test_bytes_are_counted_in_store_and_trash(
    app: Aero, source: str, tmp_path: Path
) -> None:
    report = app.status()
    assert (report["store_objects"], report["store_bytes"]) == (1, 4)
    assert report["trash_bytes"] == 0
    storage = open_storage(app.storage_location)
    for entry in list(storage.objects()):
        storage.trash(entry.uri)
    report = app.status()
    assert (report["store_objects"], report["store_bytes"]) == (0, 0)
    assert report["trash_bytes"] == 4


def test_runs_are_counted_by_status(app: Aero, source: str) -> None:
    depend(app, fail, source, policy="ANY")
    app.run_until_idle(30)
    assert app.status()["runs"] == dict.fromkeys(map(str, RunStatus), 0) | {
        "SUCCEEDED": 1,
        "FAILED": 1,
    }


def test_the_next_due_flow_is_named(app: Aero, source: str, clock: FrozenClock) -> None:
    (ingestion,) = app.list_metadata("flow")
    report = app.status()
    assert report["next_due_flow"] == ingestion["id"]
    assert report["next_due"] == "2026-01-02T00:00:00+00:00"
    app.pause_flow(ingestion["id"])
    report = app.status()
    assert report["next_due"] is report["next_due_flow"] is None


def test_a_worker_is_alive_while_it_is_heard_of(
    app: Aero, source: str, clock: FrozenClock
) -> None:
    assert app.status()["workers_alive"] == 1
    clock.advance(presence.ALIVE_FOR)
    assert app.status()["workers_alive"] == 0


def test_one_run_waits(app: Aero, waiting: str) -> None:
    assert app.waiting_note() == "1 run waits; run 'aero work'"
    assert app.status()["note"] == "1 run waits; run 'aero work'"


def test_two_runs_wait(app: Aero, waiting: str, source: str) -> None:
    app.run_flow(depend(app, fail, source, policy="NONE"), wait=False)
    assert app.waiting_note() == "2 runs wait; run 'aero work'"


def test_due_flows_wait_too_but_not_twice(
    app: Aero, waiting: str, clock: FrozenClock
) -> None:
    clock.advance(timedelta(days=1))
    assert app.waiting_note() == "2 runs wait; run 'aero work'"
    ingestion = next(f for f in app.list_metadata("flow") if f["id"] != waiting)
    app.run_flow(ingestion["id"], wait=False)
    assert app.waiting_note() == "2 runs wait; run 'aero work'"


def test_paused_and_deleted_flows_do_not_wait(app: Aero, waiting: str) -> None:
    app.pause_flow(waiting)
    assert app.waiting_note() is None
    app.resume_flow(waiting)
    assert app.waiting_note() is not None
    app.delete_flow(waiting)
    assert app.waiting_note() is None


def test_what_waits_out_a_back_off_or_for_another_endpoint_does_not(
    app: Aero, waiting: str, clock: FrozenClock
) -> None:
    app.db.write(
        lambda tx: tx.execute(
            update(Run)
            .where(Run.status == "PENDING")
            .values(not_before=EPOCH + timedelta(hours=1))
        )
    )
    assert app.waiting_note() is None
    clock.advance(timedelta(hours=1))
    assert app.waiting_note() == "1 run waits; run 'aero work'"
    app.db.write(lambda tx: tx.execute(update(Flow).values(endpoint="elsewhere")))
    assert app.waiting_note() is None


def test_while_a_worker_lives_nothing_needs_to_be_said(
    app: Aero, waiting: str, clock: FrozenClock, tmp_path: Path
) -> None:
    other = Presence(tmp_path / "workers")
    app.db.write(lambda tx: presence.beat(tx, other, app.db.now(tx)))
    assert app.waiting_note() is None
    assert app.status()["note"] is None
    clock.advance(presence.ALIVE_FOR)
    assert app.waiting_note() is not None


def test_nor_while_this_process_works(app: Aero, waiting: str) -> None:
    app.start()
    app.db.write(lambda tx: tx.execute(Worker.__table__.delete()))
    assert app.waiting_note() is None
    assert app.status()["note"] is None
    app.stop()


def test_with_nothing_to_run_there_is_nothing_to_say(
    app: Aero, source: str, clock: FrozenClock
) -> None:
    clock.advance(timedelta(minutes=2))
    assert app.waiting_note() is None
    assert app.status()["note"] is None


def test_the_note_costs_three_queries(app: Aero, waiting: str) -> None:
    statements: list[str] = []

    @event.listens_for(app.db.engine, "after_cursor_execute")
    def remember(connection, cursor, statement, *rest) -> None:
        statements.append(statement)

    assert app.waiting_note()
    assert sum(not statement.startswith("BEGIN") for statement in statements) <= 3
    assert "BEGIN IMMEDIATE" not in statements


@pytest.fixture
def other_revision(app: Aero, request: pytest.FixtureRequest) -> Iterator[Aero]:
    _ = app.db
    statement = text("UPDATE alembic_version SET version_num = :revision")
    app.db.write(lambda tx: tx.execute(statement, {"revision": request.param}))
    with another(app) as opened:
        yield opened


@pytest.mark.parametrize(
    ("other_revision", "cure"),
    [("0000", "run 'aero db upgrade'"), ("9999", "install the newer aero")],
    indirect=["other_revision"],
)
def test_a_database_of_another_version_is_reported_and_left_alone(
    other_revision: Aero, cure: str
) -> None:
    report = other_revision.status()
    assert cure in report["note"]
    assert report["revision"] in report["note"]
    assert report["database_bytes"] > 0
    assert other_revision.waiting_note() is None
    assert other_revision.status()["revision"] == report["revision"]


def test_on_postgresql(empty_postgres_url: str, tmp_path: Path, publisher) -> None:
    secret = empty_postgres_url.replace("postgres@", "postgres:pa55word@")
    with make_app(tmp_path / "home", database_url=secret) as app:
        assert app.status()["note"] == "no workspace yet"
        assert app.waiting_note() is None
        url = publisher.publish("cases.csv", "a,b\n")
        app.register_flow(
            "local", None, None, {"cases": {"url": url}}, policy="INGESTION"
        )
        report = app.status()
        assert app.waiting_note() == report["note"] == "1 run waits; run 'aero work'"
    assert "pa55word" not in str(report)
    assert ":***@" in report["database"]
    assert report["database_bytes"] > 100_000
    assert report["runs"]["PENDING"] == 1


def test_a_database_in_memory_has_no_file(clock: FrozenClock, tmp_path: Path) -> None:
    with make_app(tmp_path, database_url="sqlite://") as app:
        _: Database = app.db
        assert app.status()["database_bytes"] == 0
