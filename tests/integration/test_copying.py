"""A workspace moves to another database: every row, once, and it goes on there."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import Uuid, func, make_url, select, text, update
from sqlalchemy.exc import IntegrityError

from aero import copying
from aero.app import Aero
from aero.cli.root import aero
from aero.db.models import DataVersion, Flow, Run, Worker
from aero.db.queries import copying as queries
from aero.db.queries.common import table
from aero.db.session import Database
from aero.error import ConflictError, InvalidValueError, NotFoundError, SchemaError
from aero.testing import EPOCH
from tests import scenarios
from tests.databases import Postgres
from tests.invariants import check_invariants
from tests.past import History, lived_through


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with lived_through(tmp_path_factory.mktemp("past")) as history:
        yield history


@pytest.fixture
def history(past: History, tmp_path: Path) -> History:
    """The workspace, for this test to change."""
    return past.copy(tmp_path / "home")


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an SQLite database that is not there yet."""
    yield from _place("sqlite", tmp_path_factory, None)


def _place(kind: str, paths: pytest.TempPathFactory, request: Any) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{paths.mktemp('target') / 'new' / 'aero.db'}"
    else:
        postgres = request.getfixturevalue("postgres")
        with postgres.another(migrated=False) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    yield from _place(request.param, tmp_path_factory, request)


@pytest.fixture(params=["sqlite", "postgresql"])
def source(
    history: History,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The URL of the workspace on a database of each kind."""
    if request.param == "sqlite":
        yield history.url
        return
    for url in _place(request.param, tmp_path_factory, request):
        copying.copy(history.url, url)
        yield url


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a database, by table."""
    db = Database(url)
    try:
        with db.read() as tx:
            return {
                name: [dict(row._mapping) for row in queries.rows(tx, name)]
                for name in queries.MODELS
            }
    finally:
        db.dispose()


def execute(url: str, statement: Any, *more: Any) -> Any:
    """Execute a statement and commit it."""
    db = Database(url)
    try:
        return db.write(lambda tx: tx.execute(statement, *more).rowcount)
    finally:
        db.dispose()


# -- a copy is the workspace ------------------------------------------------------


def test_the_copy_is_equal_and_goes_on(
    history: History, source: str, target: str
) -> None:
    before = contents(source)
    report = copying.copy(source, target)
    after = contents(target)
    assert {name: len(rows) for name, rows in after.items()} == report["tables"]
    assert report["rows"] == report["copied"] == sum(map(len, after.values()))
    lacking = [name for name, rows in after.items() if not rows]
    assert lacking == ["function_registration"]
    assert contents(source) == before == after
    with history.open(source) as old, history.open(target) as app:
        assert _lineages(app) == _lineages(old) != []
        _go_on(history, app)
        assert check_invariants(app.db, store=app.settings.store) == []


def _lineages(app: Aero) -> list[Any]:
    """Return the whole ancestry, and all that came of it, of every version."""
    versions = [
        f"{data['id']}@{version['version']}"
        for data in app.list_metadata("data")
        for version in app.list_versions(data["id"])
    ]
    return [app.lineage(each, to) for each in versions for to in ("up", "down")]


def _go_on(history: History, app: Aero) -> None:
    version = app.get_version("cases")["version"]
    newest = _newest(app)
    waiting = next(app.list_runs(status="PENDING"))
    history.publisher.publish("cases", os.urandom(8).hex())
    app.resume_flow(waiting["flow_id"])
    flow = next(each["flow_id"] for each in app.get_data_flows("cases"))
    assert app.run_flow(flow, timeout=60)["status"] == "SUCCEEDED"
    app.run_until_idle(60)
    assert app.get_run(waiting["id"])["status"] == "SUCCEEDED"
    assert app.get_version("cases")["version"] == version + 1
    with app.db.read() as tx:
        keys = tx.execute(
            select(DataVersion.key)
            .where(DataVersion.key > newest)
            .order_by(DataVersion.key)
        ).scalars()
        assert next(iter(keys)) == newest + 1


def _newest(app: Aero) -> int:
    with app.db.read() as tx:
        return tx.execute(select(func.max(DataVersion.key))).scalar_one()


@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_without_its_sequence_a_copy_would_not_go_on(
    history: History, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "_advance", lambda *_: None)
    copying.copy(history.url, target)
    row = contents(target)["data_version"][0]
    new = {**row, "id": str(UUID(int=1)), "version": 1000}
    del new["key"]
    with pytest.raises(IntegrityError, match="pk_data_version"):
        execute(target, table(DataVersion).insert(), new)


def test_workers_stay_where_they_work(history: History, made: str) -> None:
    row = {"id": str(UUID(int=1)), "host": "h", "pid": 1}
    execute(
        history.url,
        table(Worker).insert(),
        {**row, "started_at": EPOCH, "seen_at": EPOCH},
    )
    assert "worker" not in copying.copy(history.url, made)["tables"]
    db = Database(made)
    with db.read() as tx:
        assert tx.execute(select(func.count()).select_from(Worker)).scalar_one() == 0
    db.dispose()


# -- interrupted ------------------------------------------------------------------


class Stop(Exception):  # noqa: N818 -- what happens to the copy
    pass


class Counted:
    """Adds batches and counts them; stops within the transaction of the `fatal`th."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.added: list[int] = []
        self.fatal = 0
        self._add = queries.add
        monkeypatch.setattr(queries, "BATCH", 25)
        monkeypatch.setattr(queries, "add", self)

    def __call__(self, tx: Any, name: str, batch: Any) -> None:
        self._add(tx, name, batch)
        self.fatal -= 1
        if self.fatal == 0:
            raise Stop
        self.added.append(len(batch))


def _stop_after_a_batch(what: str, *_: int) -> None:
    if what.startswith("copying"):
        raise Stop


@pytest.mark.parametrize(
    ("target", "place"),
    [("sqlite", "after"), ("postgresql", "within")],
    indirect=["target"],
)
def test_stopped_at_every_batch_it_goes_on_where_it_stopped(
    history: History, target: str, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    before = contents(history.url)
    counted = Counted(monkeypatch)
    tell = _stop_after_a_batch if place == "after" else lambda *_: None
    stops = 0
    while stops < 1000:
        counted.fatal = 2 if place == "within" else 0
        try:
            report = copying.copy(history.url, target, tell)
        except Stop:
            stops += 1
        else:
            break
    assert contents(target) == before
    rows = sum(map(len, before.values()))
    batches = sum(-(-len(found) // 25) for found in before.values())
    assert sum(counted.added) == rows
    assert len(counted.added) == batches
    assert stops >= batches - 1
    assert report["copied"] <= 25
    print(f"{stops} stops, {batches} batches, {rows} rows, none of them added twice")


KILLED = """
import os, signal, sys
from aero import copying
from aero.db.queries import copying as queries
add, left = queries.add, int(sys.argv[3])
def killed(tx, name, batch):
    global left
    add(tx, name, batch)
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
queries.BATCH, queries.add = 11, killed
copying.copy(sys.argv[1], sys.argv[2])
"""


@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_killed_half_way_it_goes_on(history: History, target: str) -> None:
    for batch in (3, 12):
        command = [sys.executable, "-c", KILLED, history.url, target, str(batch)]
        assert subprocess.run(command, check=False, timeout=60).returncode == -9
    report = copying.copy(history.url, target)
    assert 0 < report["copied"] < report["rows"]
    assert contents(target) == contents(history.url)


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_a_complete_copy_is_only_compared(history: History, target: str) -> None:
    copying.copy(history.url, target)
    told: list[str] = []
    report = copying.copy(history.url, target, lambda what, *_: told.append(what))
    assert report["copied"] == 0
    assert {what.partition(" ")[0] for what in told} == {"comparing", "verifying"}


@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_what_is_missing_in_the_middle_is_added(history: History, target: str) -> None:
    copying.copy(history.url, target)
    name = "version_edge"
    edges = contents(target)[name]
    for edge in edges[1:3]:
        execute(target, _of_key(name, edge).delete)
    report = copying.copy(history.url, target)
    assert (report["copied"], contents(target)[name]) == (2, edges)


def test_it_tells_how_far_it_is(history: History, made: str) -> None:
    told: list[tuple[str, int, int]] = []
    rows = copying.copy(history.url, made, lambda *facts: told.append(facts))["tables"]
    for name, count in rows.items():
        for doing in ("copying", "verifying"):
            ends = [facts[1:] for facts in told if facts[0] == f"{doing} {name}"]
            assert ends[-1:] == ([(count, count)] if count else [])


# -- what differs is found --------------------------------------------------------


class _of_key:  # noqa: N801 -- reads as a phrase
    """The statements about one row of a table."""

    def __init__(self, name: str, row: dict[str, Any]) -> None:
        found = table(queries.MODELS[name])
        keys = [each == row[each.name] for each in found.primary_key]
        self.delete = found.delete().where(*keys)
        self.update = found.update().where(*keys)


def _other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return "~" + value[1:]
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, dict):
        return {**value, "more": None}
    return [*value, 0] if isinstance(value, list) else value + 1


_ONE_OF_FEW = {"visibility", "role"}


def _alterable(name: str, row: dict[str, Any]) -> list[str]:
    """Return the columns that may hold something else, as the database sees it."""
    return [
        column.name
        for column in table(queries.MODELS[name]).c
        if not column.primary_key
        and not column.foreign_keys
        and not isinstance(column.type, Uuid)
        and column.name not in _ONE_OF_FEW
        and row[column.name] is not None
    ]


@pytest.mark.parametrize("target", ["postgresql"], indirect=True)
def test_a_row_that_differs_is_found_in_every_table(
    history: History, target: str
) -> None:
    copying.copy(history.url, target)
    altered = 0
    for name, rows in contents(target).items():
        row = rows[-1] if rows else {}
        for column in _alterable(name, row)[-1:] if rows else []:
            where = _of_key(name, row).update
            execute(target, where.values({column: _other(row[column])}))
            with pytest.raises(ConflictError, match=f"{name} differs in {column}:"):
                copying.copy(history.url, target)
            execute(target, where.values({column: row[column]}))
            altered += 1
    assert copying.copy(history.url, target)["copied"] == 0
    print(f"{altered} tables")
    assert altered > 15


def test_every_column_is_compared(history: History) -> None:
    compared = 0
    for name, rows in contents(history.url).items():
        for row in rows[:3]:
            whole = Row_(row)
            assert copying.differing(whole, whole) == []
            for column, value in row.items():
                if value is not None:
                    other = Row_({**row, column: _other(value)})
                    assert copying.differing(whole, other) == [column], name
                    compared += 1
                other = Row_({**row, column: object() if value is None else None})
                assert copying.differing(whole, other) == [column], name
    assert compared > 100


class Row_(tuple):  # noqa: N801 -- what differing() needs of a row
    def __new__(cls, row: dict[str, Any]) -> "Row_":
        made = super().__new__(cls, row.values())
        made._fields = tuple(row)
        return made


@pytest.mark.parametrize(
    ("a", "b", "equal"),
    [
        (1e22, 10**22, True),
        (1e23, 10**23, True),
        ({"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 2}]}, True),
        ({"a": 1}, {"a": True}, False),
        ([True], [1], False),
        ({"a": None}, {}, False),
        ([1], [1, 2], False),
        (1.5, 1, False),
        (None, 0, False),
    ],
)
def test_values_are_equal_as_both_databases_keep_them(
    a: Any, b: Any, equal: bool
) -> None:
    assert copying.same(a, b) is copying.same(b, a) is equal


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_what_is_written_wrong_is_found(
    history: History, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = queries.add

    def wrong(tx: Any, name: str, batch: Any) -> None:
        if name == "provenance":
            batch[-1]["agent"] += "?"
        add(tx, name, batch)

    monkeypatch.setattr(queries, "add", wrong)
    with pytest.raises(ConflictError, match="provenance differs in agent"):
        copying.copy(history.url, target)


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_what_is_not_written_is_found(
    history: History, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = queries.add

    def lossy(tx: Any, name: str, batch: Any) -> None:
        add(tx, name, batch[1:] if name == "source_state" else batch)

    monkeypatch.setattr(queries, "add", lossy)
    with pytest.raises(ConflictError, match="source_state is only in the source"):
        copying.copy(history.url, target)


# -- what is refused, and that nothing was written ---------------------------------


def test_another_workspace_is_left_alone(history: History, target: str) -> None:
    with history.open(target) as app:
        app.register_function(scenarios.tick)
    before = contents(target)
    with pytest.raises(ConflictError, match="function is only in the target"):
        copying.copy(history.url, target)
    assert contents(target) == before


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_a_copy_that_went_on_is_another_workspace(
    history: History, target: str
) -> None:
    copying.copy(history.url, target)
    with history.open(target) as app:
        _go_on(history, app)
    before = contents(target)
    with pytest.raises(ConflictError, match="is another workspace"):
        copying.copy(history.url, target)
    assert contents(target) == before


def test_the_source_itself_is_refused(history: History, postgres_url: str) -> None:
    twice = f"sqlite:///{history.home / '..' / history.home.name / 'aero.db'}"
    with pytest.raises(InvalidValueError, match="the same database"):
        copying.copy(history.url, twice)
    copying.copy(history.url, postgres_url)
    other = make_url(postgres_url).update_query_dict({"application_name": "x"})
    with pytest.raises(InvalidValueError, match="the same database"):
        copying.copy(postgres_url, other.render_as_string(hide_password=False))


def test_nothing_is_no_source(history: History, made: str, postgres: Postgres) -> None:
    missing = history.home / "missing.db"
    with pytest.raises(NotFoundError, match="There is no workspace in sqlite"):
        copying.copy(f"sqlite:///{missing}", made)
    assert not missing.exists()
    with (
        postgres.another(migrated=False) as empty,
        pytest.raises(NotFoundError, match="There is no workspace in postgres"),
    ):
        copying.copy(empty, made)


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite://", "sqlite:///:memory:", "mysql://h/d", ""]
)
def test_a_url_must_be_of_a_database_that_can_hold_it(
    history: History, url: str
) -> None:
    for pair in ((url, history.url), (history.url, url)):
        with pytest.raises(InvalidValueError, match=r"write sqlite:////abs.*psycopg"):
            copying.copy(*pair)


def test_a_source_of_an_older_aero_is_refused(history: History, made: str) -> None:
    execute(history.url, text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaError, match="run 'aero db upgrade'"):
        copying.copy(history.url, made)


def test_a_target_of_another_aero_is_refused(history: History, made: str) -> None:
    copying.copy(history.url, made)
    for found, said in (("0000", "run 'aero db upgrade'"), ("9999", "install the new")):
        execute(made, text(f"UPDATE alembic_version SET version_num = '{found}'"))
        with pytest.raises(SchemaError, match=said):
            copying.copy(history.url, made)


def test_tables_of_somebody_else_are_left_alone(history: History, target: str) -> None:
    path = Database(target).path
    if path is not None:
        path.parent.mkdir()
    execute(target, text("CREATE TABLE data (x INTEGER)"))
    with pytest.raises(ConflictError, match=r"not aero's \(data\)"):
        copying.copy(history.url, target)


def test_who_works_on_the_source_is_asked_to_stop(history: History, made: str) -> None:
    with history.open(history.url) as app:
        app.run_until_idle(30)
        with pytest.raises(ConflictError, match="stop 'aero work' there, or wait 45"):
            copying.copy(history.url, made)
    assert not Path(str(Database(made).url.database)).exists()


def test_who_works_on_the_target_is_asked_to_stop(
    history: History, target: str
) -> None:
    copying.copy(history.url, target)
    with history.open(target) as app:
        app.run_until_idle(30)
        with pytest.raises(ConflictError, match="which is to be written: stop"):
            copying.copy(history.url, target)


def test_what_runs_is_to_be_ended_first(history: History, made: str) -> None:
    values = {"status": "RUNNING", "claim": "0" * 32}
    execute(history.url, update(Run).where(Run.status == "PENDING").values(values))
    with pytest.raises(ConflictError, match="run 'aero work --once' there first"):
        copying.copy(history.url, made)


def test_a_source_that_goes_on_meanwhile_is_noticed(
    history: History, source: str, made: str
) -> None:
    def meanwhile(what: str, *_: int) -> None:
        if what == "verifying provenance":
            with history.open(source) as app:
                app.register_function(scenarios.tick)

    with pytest.raises(ConflictError, match=r"was changed while.*\(function\)"):
        copying.copy(source, made, meanwhile)


def test_a_log_that_only_sqlite_could_store_is_copied(
    history: History, postgres_url: str
) -> None:
    logged = text("UPDATE run SET log_tail = 'a' || char(0) || 'b'")
    rows = execute(history.url, logged)
    copying.copy(history.url, postgres_url)
    logs = [row["log_tail"] for row in contents(postgres_url)["run"]]
    assert logs == ["a\ufffdb"] * rows


def test_what_the_target_cannot_store_is_named(
    history: History, postgres_url: str
) -> None:
    execute(history.url, update(Flow).values(priority=2**40))
    with pytest.raises(
        ConflictError, match=r"Rows of flow cannot be stored in .*out of"
    ):
        copying.copy(history.url, postgres_url)


# -- size -------------------------------------------------------------------------


def _grow(url: str, count: int) -> None:
    """Give the first Data that many more versions, of 1 kB a row."""
    row = contents(url)["data_version"][0]
    number = range(10_000, 10_000 + count)
    rows = [
        {**row, "key": n, "version": n, "id": str(UUID(int=n)), "uri": "x" * 1000}
        for n in number
    ]
    execute(url, table(DataVersion).insert(), rows)


def test_memory_does_not_grow_with_the_workspace(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "BATCH", 100)
    peaks = []
    for count in (300, 2_100):
        _grow(history.url, count)
        tracemalloc.start()
        copying.copy(history.url, f"sqlite:///{tmp_path / f'{count}.db'}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        execute(
            history.url, DataVersion.__table__.delete().where(DataVersion.key > 9999)
        )
    print(f"peak of 300 rows {peaks[0]} B, of 2,100 rows {peaks[1]} B")
    assert peaks[1] < 1.3 * peaks[0]


# -- the command ------------------------------------------------------------------


def test_the_command(history: History, made: str) -> None:
    command = ["db", "copy", "--from", history.url, "--to", made]
    shown = CliRunner().invoke(aero, command)
    assert shown.exit_code == 0
    rows = contents(made)
    last = shown.stdout.splitlines()[-1].split()
    assert last == ["all", str(sum(map(len, rows.values())))]
    assert "use the copy with AERO_DATABASE_URL" in shown.stderr
    report = json.loads(CliRunner().invoke(aero, [*command, "--json"]).stdout)
    assert report["tables"] == {name: len(found) for name, found in rows.items()}
    refused = CliRunner().invoke(aero, ["db", "copy", "--from", made, "--to", made])
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: Source and target are the same database")
