"""The shapes people see, from rows."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from aero import records
from tests.scenarios import analysis, length, made, source

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHOWN = "2026-01-01T00:00:00+00:00"


def version_row(**values):
    return SimpleNamespace(
        **{
            "id": "v",
            "data_id": "d",
            "version": 2,
            "task": 0,
            "source_key": "k",
            "sha256": "ff",
            "etag": "e",
            "size": 4,
            "media_type": "text/csv",
            "encoding": "utf-8",
            "file_name": "a.tar.gz",
            "uri": "u",
            "created_at": NOW,
            **values,
        }
    )


def test_a_version_key_by_key():
    assert records.version(version_row()) == {
        "id": "v",
        "data_id": "d",
        "version": 2,
        "checksum": "ff",
        "created_at": SHOWN,
        "source_key": "k",
        "task": 0,
        "media_type": "text/csv",
        "uri": "u",
        "data_file": {
            "file_name": "a.tar.gz",
            "file_type": "gz",
            "file_size": 4,
            "encoding": "utf-8",
        },
    }


def test_the_checksum_of_a_version_without_bytes_is_its_etag():
    assert records.version(version_row(sha256=None))["checksum"] == "e"


@pytest.mark.parametrize(
    ("name", "kind"), [("a.csv", "csv"), ("a", ""), (".hidden", ""), ("a.", "")]
)
def test_the_file_type_is_the_extension(name, kind):
    assert (
        records.version(version_row(file_name=name))["data_file"]["file_type"] == kind
    )


def test_a_run_key_by_key():
    row = SimpleNamespace(
        id="r",
        flow_id="f",
        task=0,
        source_key="",
        status="PENDING",
        trigger_kind="timer",
        trigger_key="timer:x",
        attempt=1,
        created_at=NOW,
        started_at=None,
        finished_at=None,
        not_before=NOW,
        error_type=None,
        error_message=None,
    )
    assert records.run(row) == {
        "id": "r",
        "flow_id": "f",
        "task": 0,
        "source_key": "",
        "status": "PENDING",
        "trigger_kind": "timer",
        "trigger_key": "timer:x",
        "attempt": 1,
        "created_at": SHOWN,
        "started_at": None,
        "finished_at": None,
        "not_before": SHOWN,
        "error_type": None,
        "error_message": None,
    }


def test_data_key_by_key(app, publisher):
    flow = source(app, publisher.publish("c.csv", "x"), tags=["b", "a"])
    assert app.get_data("cases") == {
        "id": made(flow),
        "name": "cases",
        "url": publisher.url("c.csv"),
        "collection_uuid": None,
        "collection_url": None,
        "description": "",
        "no_copy": False,
        "available_versions": 0,
        "tags": ["a", "b"],
        "created_at": SHOWN,
        "owner": app.owner,
        "visibility": "private",
        "group": None,
    }


def test_a_provenance_record_shows_code_or_where_it_is_known(sqlite_app):
    def code(row):
        with sqlite_app.db.read() as tx:
            return records._code(tx, row)

    assert code(None) is None
    row = SimpleNamespace(id="f", name="n", source="def n(): ...", source_sha256="ff")
    assert code(row)["code"] == "source"
    row = SimpleNamespace(id="f", name="n", source=None, source_sha256=None)
    assert code(row)["code"] == "globus:f"


def test_many_flows_at_once_cost_as_many_statements_as_one(app, publisher):
    from sqlalchemy import event

    flow = source(app, publisher.publish("c.csv", "x"))
    app.run_flow(flow["id"])
    for number in range(8):
        analysis(app, length, {"cases": made(flow)}, kwargs={"factor": number})
    seen = []
    event.listen(
        app.db.engine, "before_cursor_execute", lambda *args: seen.append(args[2])
    )

    def statements(rows):
        seen.clear()
        with app.db.read() as tx:
            assert len(records.flows(tx, rows)) == len(rows)
        return len(seen)

    with app.db.read() as tx:
        from sqlalchemy import select

        from aero.db.models import Flow

        rows = tx.execute(select(*Flow.__table__.c)).all()
    assert statements(rows) == statements(rows[:1])
