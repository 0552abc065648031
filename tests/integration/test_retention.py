"""gc frees what nothing needs and never what something may; pruning forgets runs."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, insert, select, text, update

from aero import retention
from aero.app import Aero
from aero.clock import utc_now
from aero.db.models import Data, DataVersion, ProvenanceSource, Run, RunTrigger
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.error import ConflictError, MissingObjectError
from aero.runs import presence
from aero.runs.presence import Presence
from aero.storage import LocalStorage, MemoryStorage
from aero.testing import FrozenClock, make_app
from aero.types import StoredObject

DAY = timedelta(days=1)
OLD = timedelta(hours=25)


def upper(cases):
    from pathlib import Path

    made = Path("upper.csv")
    made.write_text(Path(cases).read_text().upper())
    return AeroOutput("cases", made)  # noqa: F821 - always provided


@pytest.fixture
def epoch() -> datetime:
    """The time of the file system, which says when an object was put."""
    return utc_now()


@pytest.fixture
def store(app: Aero) -> LocalStorage:
    return LocalStorage(app.settings.store)


@pytest.fixture
def flow(app: Aero, publisher) -> str:
    url = publisher.publish("cases.csv", "a,b\n")
    function = app.register_function(upper)
    made = app.register_flow(
        "local", function, None, {"cases": {"url": url}}, policy="INGESTION"
    )
    return str(made["id"])


def put(store: LocalStorage, folder: Path, content: str) -> StoredObject:
    path = folder / "object"
    path.write_text(content)
    return store.put(path)


def listed(store: LocalStorage) -> tuple[set[str], set[str]]:
    return {o.uri for o in store.objects()}, {o.uri for o in store.trashed()}


def start(app: Aero, flow: str) -> str:
    """Make a run of `flow` RUNNING by a process that is not there."""
    run_id = str(app.run_flow(flow, wait=False)["id"])
    values = {
        "status": "RUNNING",
        "claim": str(uuid.uuid4()),
        "claimed_by": str(uuid.uuid4()),
        "started_at": app.db.clock(),
        "lease_expires": app.db.clock() + 100 * DAY,
    }
    app.db.write(lambda tx: run_queries.update_joined(tx, run_id, **values))
    return run_id


def test_what_nothing_refers_to_goes_in_two_steps(
    app: Aero, store: LocalStorage, clock: FrozenClock, tmp_path: Path
) -> None:
    orphan = put(store, tmp_path, "orphan")
    assert app.gc()["trashed"] == 0
    clock.advance(OLD)
    report = app.gc()
    assert (report["trashed"], report["trash_bytes"]) == (1, 6)
    assert (report["removed"], report["bytes"]) == (0, 0)
    store.get(orphan.uri, tmp_path / "copy")
    report = app.gc()
    assert (report["removed"], report["bytes"]) == (1, 6)
    assert (report["trashed"], report["trash_bytes"]) == (0, 0)
    with pytest.raises(MissingObjectError):
        store.get(orphan.uri, tmp_path / "copy")


def test_a_day_is_counted_from_the_last_put(
    app: Aero, store: LocalStorage, clock: FrozenClock, tmp_path: Path
) -> None:
    orphan = put(store, tmp_path, "orphan")
    os.utime(store.root / "objects" / orphan.sha256[:2] / orphan.sha256, (0, 0))
    put(store, tmp_path, "orphan")
    clock.advance(DAY - timedelta(minutes=5))
    assert app.gc()["trashed"] == 0
    clock.advance(timedelta(minutes=10))
    assert app.gc()["trashed"] == 1


def test_versions_and_kept_downloads_stay(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str, tmp_path: Path
) -> None:
    app.run_until_idle(30)
    objects, _ = listed(store)
    assert len(objects) == 2
    clock.advance(OLD)
    for _ in range(2):
        report = app.gc()
        assert report["trashed"] == report["removed"] == report["restored"] == 0
    assert listed(store) == (objects, set())
    app.fetch_version("cases", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "A,B\n"


@pytest.mark.usefixtures("flow")
def test_what_is_referenced_after_all_comes_back_from_the_trash(
    app: Aero,
    store: LocalStorage,
    clock: FrozenClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app.run_until_idle(30)
    objects, _ = listed(store)
    clock.advance(OLD)
    with monkeypatch.context() as patch:
        # Without asking the tables, gc takes what versions need.
        patch.setattr(version_queries, "referenced", lambda tx, sha256s: set())
        assert app.gc()["trashed"] == 2
    assert listed(store) == (set(), objects)
    app.fetch_version("cases", tmp_path / "copy")
    report = app.gc()
    assert (report["restored"], report["removed"], report["trashed"]) == (2, 0, 0)
    assert listed(store) == (objects, set())


@pytest.mark.usefixtures("flow")
def test_a_dry_run_changes_nothing_and_tells_the_same(
    app: Aero, store: LocalStorage, clock: FrozenClock, tmp_path: Path
) -> None:
    app.run_until_idle(30)
    put(store, tmp_path, "one")
    clock.advance(OLD)
    app.gc()
    put(store, tmp_path, "two, which is longer")
    for entry in list(store.objects()):
        if entry.size == 4:
            store.trash(entry.uri)
    (store.root / "tmp" / "left").write_text("half")
    scratch = app.settings.scratch / f"{uuid.uuid4()}.1.abc"
    (scratch / "deep").mkdir(parents=True)
    (app.settings.home / "workers" / f"{uuid.uuid4()}.lock").touch()
    clock.advance(timedelta(days=100))
    before = everything(app.settings.home)
    told = app.gc(dry_run=True)
    assert everything(app.settings.home) == before
    assert app.gc(dry_run=True) == told
    done = app.gc()
    assert told == done | {"dry_run": True}
    assert done == {
        "removed": 1,
        "bytes": 3,
        "trashed": 1,
        "trash_bytes": 20,
        "restored": 2,
        "temp_files": 1,
        "leftovers": 2,
        "pruned_runs": 1,
        "pruned_triggers": 1,
        "dry_run": False,
    }


def everything(folder: Path) -> dict[str, float]:
    return {
        str(path): path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if not path.name.startswith("aero.db")
    }


def test_what_a_run_in_flight_put_stays_however_long_it_runs(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str, tmp_path: Path
) -> None:
    app.run_until_idle(30)
    older = put(store, tmp_path, "older than the run")
    place = store.root / "objects" / older.sha256[:2] / older.sha256
    early = (clock() - DAY).timestamp()
    os.utime(place, (early, early))
    run_id = start(app, flow)
    put(store, tmp_path, "put by the run")
    clock.advance(5 * DAY)
    assert app.gc()["trash_bytes"] == len("older than the run")
    app.cancel_run(run_id)
    assert app.gc()["trash_bytes"] == len("put by the run")


def test_without_the_oldest_run_that_would_be_lost(
    app: Aero,
    store: LocalStorage,
    clock: FrozenClock,
    flow: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app.run_until_idle(30)
    start(app, flow)
    put(store, tmp_path, "put by the run")
    clock.advance(5 * DAY)
    monkeypatch.setattr(retention.queries, "oldest_start", lambda tx: None)
    assert app.gc()["trashed"] == 1


class Meddling:
    """A store where something happens just before an object goes to the trash."""

    def __init__(self, store: LocalStorage, meddle: Callable[[], Any]) -> None:
        self._store = store
        self._meddle = meddle

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def trash(self, uri: str) -> None:
        self._meddle()
        self._store.trash(uri)


def test_a_commit_of_the_same_address_beside_gc_is_not_lost(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str, tmp_path: Path
) -> None:
    same = put(store, tmp_path, "A,B\n")
    clock.advance(OLD)
    done: list[Any] = []

    def commit() -> None:
        done or done.append(app.run_flow(flow))

    meddling: Any = Meddling(store, commit)
    report = retention.gc(app.db, meddling, app.settings)
    assert done[0]["status"] == "SUCCEEDED"
    assert (report["trashed"], report["restored"]) == (0, 1)
    assert same.uri in listed(store)[0]
    clock.advance(OLD)
    app.gc()
    app.fetch_version("cases", tmp_path / "copy")


def test_a_put_touches_so_that_a_commit_after_gc_asked_is_not_lost(
    app: Aero, store: LocalStorage, clock: FrozenClock, tmp_path: Path, flow: str
) -> None:
    app.run_until_idle(30)
    same = put(store, tmp_path, "shared")
    place = store.root / "objects" / same.sha256[:2] / same.sha256
    os.utime(place, (0, 0))
    meddling: Any = Meddling(store, lambda: put(store, tmp_path, "shared"))
    assert retention.gc(app.db, meddling, app.settings)["trashed"] == 1
    assert app.gc()["removed"] == 0
    store.get(same.uri, tmp_path / "copy")
    app.db.write(lambda tx: refer(tx, app, same.sha256))
    report = app.gc()
    assert (report["restored"], report["removed"]) == (1, 0)
    assert same.uri in listed(store)[0]


def refer(tx: Any, app: Aero, sha256: str) -> None:
    data_id = tx.execute(select(Data.id).limit(1)).scalar_one()
    number = version_queries.newest_number(tx, data_id) + 1
    values = {
        "id": str(uuid.uuid4()),
        "data_id": data_id,
        "version": number,
        "task": 0,
        "source_key": "",
        "sha256": sha256,
        "media_type": "text/csv",
        "file_name": "x",
        "created_at": app.db.now(tx),
    }
    tx.execute(insert(DataVersion).values(values))


def test_a_download_that_only_provenance_names_counts(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str
) -> None:
    app.run_until_idle(30)
    with app.db.read() as tx:
        raw = tx.execute(select(ProvenanceSource.uri)).scalar_one()
        made = tx.execute(select(DataVersion.uri)).scalar_one()
    assert raw != made
    clock.advance(OLD)
    app.gc()
    app.gc()
    assert store.exists(raw)


class Forgetful(Meddling):
    """A store that passes over an entry of its trash while others are moved out."""

    def trashed(self) -> Any:
        return iter(list(self._store.trashed())[:1])


def test_a_listing_that_passes_over_entries_loses_nothing(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str
) -> None:
    app.run_until_idle(30)
    objects, _ = listed(store)
    for uri in objects:
        store.trash(uri)
    clock.advance(OLD)
    forgetful: Any = Forgetful(store, lambda: None)
    assert retention.gc(app.db, forgetful, app.settings)["restored"] == 2
    assert listed(store) == (objects, set())


def test_any_number_in_batches(
    app: Aero,
    store: LocalStorage,
    clock: FrozenClock,
    flow: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    app.run_until_idle(30)
    for _ in range(4):
        app.run_flow(flow)
    for number in range(7):
        put(store, tmp_path, f"orphan {number}")
    clock.advance(timedelta(days=100))
    report = app.gc()
    assert (report["trashed"], report["trash_bytes"]) == (7, 56)
    assert (report["pruned_runs"], report["pruned_triggers"]) == (5, 5)
    with monkeypatch.context() as patch:
        patch.setattr(version_queries, "referenced", lambda tx, sha256s: set())
        patch.setattr(MemoryStorage, "empty_trash", lambda self, **_: 0)
        patch.setattr(LocalStorage, "empty_trash", lambda self, **_: 0)
        app.gc()
    assert len(listed(store)[1]) == 9
    report = app.gc()
    assert (report["restored"], report["removed"], report["bytes"]) == (2, 7, 56)


def test_what_killed_processes_left_goes_and_what_living_ones_use_stays(
    app: Aero, store: LocalStorage, clock: FrozenClock, flow: str
) -> None:
    app.run_until_idle(30)
    running = start(app, flow)
    claimant = claimed_by(app, running)
    scratch, workers = app.settings.scratch, app.settings.home / "workers"
    (scratch / f"{running}.1.abc").mkdir()
    (scratch / f"{running}.1.abc.log").touch()
    gone = scratch / f"{uuid.uuid4()}.1.abc"
    gone.mkdir()
    gone.with_name(gone.name + ".claim").symlink_to("1")
    (scratch / "what is this").touch()
    (workers / f"{claimant}.lock").touch()
    (workers / f"{uuid.uuid4()}.lock").touch()
    (workers / "README").touch()
    (store.root / "tmp" / "half").touch()
    assert app.gc()["leftovers"] == app.gc()["temp_files"] == 0
    clock.advance(OLD)
    here = Presence(workers)
    here.enter()
    app.db.write(lambda tx: presence.beat(tx, here, app.db.now(tx)))
    old = (clock() - timedelta(days=3)).timestamp()
    os.utime(workers / f"{here.id}.lock", (old, old))
    # This application's own dispatcher was last heard of a day ago.
    report = app.gc()
    assert (report["leftovers"], report["temp_files"]) == (5, 1)
    assert {path.name for path in scratch.iterdir()} == {
        f"{running}.1.abc",
        f"{running}.1.abc.log",
    }
    assert {path.name for path in workers.iterdir()} == {
        f"{claimant}.lock",
        f"{here.id}.lock",
        "README",
    }
    here.leave()


def claimed_by(app: Aero, run_id: str) -> str:
    with app.db.read() as tx:
        found = run_queries.get(tx, run_id)
    assert found is not None
    return str(found.claimed_by)


def test_an_entry_that_goes_away_meanwhile_is_no_error(
    app: Aero, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghost = app.settings.scratch / "ghost"
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([ghost]))
    app.settings.scratch.mkdir(parents=True)
    clock.advance(OLD)
    assert app.gc()["leftovers"] == 0


def test_a_workspace_without_anything(app: Aero) -> None:
    report = app.gc()
    assert report.pop("dry_run") is False
    assert set(report.values()) == {0}


def test_one_gc_at_a_time_of_a_store_that_two_homes_share(
    app: Aero, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one would empty the trash of what the other is about to restore."""
    shared = {"store": app.settings.store, "database_url": app.settings.database_url}
    refused = []

    def meanwhile(*_: Any) -> datetime | None:
        with (
            make_app(tmp_path / "elsewhere", clock=app.db.clock, **shared) as other,
            pytest.raises(ConflictError, match="under way"),
        ):
            other.gc()
        refused.append(True)
        return None

    with monkeypatch.context() as patch:
        patch.setattr(retention.queries, "oldest_start", meanwhile)
        app.gc()
    assert refused == [True]
    assert app.gc()["trashed"] == 0


# -- pruning --------------------------------------------------------------------------


@pytest.fixture
def either(database_url: str, tmp_path: Path) -> Iterator[Aero]:
    """A workspace in real time."""
    with make_app(tmp_path / "home", database_url=database_url) as app:
        yield app


def age(app: Aero, by: timedelta) -> None:
    """Move what happened in a workspace into the past."""

    def work(tx: Any) -> None:
        for row in tx.execute(select(*Run.__table__.c)).all():
            moments = {
                name: getattr(row, name) - by
                for name in ("created_at", "started_at", "finished_at")
                if getattr(row, name) is not None
            }
            tx.execute(update(Run).where(Run.id == row.id).values(**moments))
        created = RunTrigger.created_at
        for (moment,) in tx.execute(select(created).distinct()).all():
            tx.execute(
                update(RunTrigger)
                .where(created == moment)
                .values(created_at=moment - by)
            )

    app.db.write(work)


def counts(app: Aero) -> tuple[int, int]:
    with app.db.read() as tx:
        return (
            tx.execute(select(func.count()).select_from(Run)).scalar_one(),
            tx.execute(select(func.count()).select_from(RunTrigger)).scalar_one(),
        )


def paused(app: Aero, publisher) -> str:
    url = publisher.publish("cases.csv", "a,b\n")
    made = app.register_flow(
        "local",
        app.register_function(upper),
        None,
        {"cases": {"url": url}},
        policy="INGESTION",
    )
    app.run_until_idle(30)
    app.run_flow(made["id"])
    app.pause_flow(made["id"])
    app.run_flow(made["id"], wait=False)
    return str(made["id"])


def test_ended_runs_are_pruned_and_their_triggers_30_days_later(
    either: Aero, publisher
) -> None:
    flow = paused(either, publisher)
    assert counts(either) == (3, 3)
    assert either.gc()["pruned_runs"] == 0
    age(either, 31 * DAY)
    assert either.gc(dry_run=True)["pruned_runs"] == 2
    report = either.gc()
    assert (report["pruned_runs"], report["pruned_triggers"]) == (2, 0)
    assert [run["status"] for run in either.list_runs()] == ["PENDING"]
    assert counts(either) == (1, 3)
    age(either, 30 * DAY)
    assert either.gc(dry_run=True)["pruned_triggers"] == 2
    report = either.gc()
    assert (report["pruned_runs"], report["pruned_triggers"]) == (0, 2)
    assert counts(either) == (1, 1)
    # What was recorded is for ever.
    assert len(list(either.list_metadata("prov"))) == 1
    assert either.get_version("cases")["version"] == 1
    either.resume_flow(flow)
    either.run_until_idle(30)
    assert [run["status"] for run in either.list_runs()] == ["UNCHANGED"]


def test_a_run_that_is_retried_meanwhile_is_not_pruned(either: Aero, publisher) -> None:
    paused(either, publisher)
    age(either, 31 * DAY)
    retried = next(r["id"] for r in either.list_runs() if r["status"] != "PENDING")
    began = threading.Event()
    values = {"status": "SKIPPED", "finished_at": None}

    def retry(tx: Any) -> None:
        run_queries.update_joined(tx, retried, **values)
        began.set()
        thread.join(0.3)

    def prune() -> None:
        began.wait(10)
        report.update(either.gc())

    report: dict[str, Any] = {}
    thread = threading.Thread(target=prune)
    thread.start()
    either.db.write(retry)
    thread.join()
    assert report["pruned_runs"] == 1
    assert retried in {run["id"] for run in either.list_runs()}


def test_how_long_ended_runs_are_kept_is_configured(
    tmp_path: Path, database_url: str, publisher, clock: FrozenClock
) -> None:
    conf = {"database_url": database_url, "retention_days": 2}
    with make_app(tmp_path / "home", clock=clock, **conf) as app:
        paused(app, publisher)
        clock.advance(DAY)
        assert app.gc()["pruned_runs"] == 0
        clock.advance(DAY + timedelta(seconds=1))
        assert app.gc()["pruned_runs"] == 2


def test_every_question_of_gc_has_an_index(sqlite_app: Aero) -> None:
    statements = [
        "SELECT sha256 FROM data_version WHERE sha256 IN ('a', 'b')",
        "SELECT sha256 FROM provenance_source WHERE sha256 IN ('a', 'b')",
        "SELECT id FROM run WHERE created_at < 'x' AND finished_at < 'x'"
        " AND status NOT IN ('PENDING', 'RUNNING') ORDER BY created_at, id LIMIT 500",
    ]
    with sqlite_app.db.read() as tx:
        for statement in statements:
            plan = tx.execute(text(f"EXPLAIN QUERY PLAN {statement}")).all()
            assert all(row.detail.startswith("SEARCH") for row in plan), plan


# -- any history ----------------------------------------------------------------------

NAMES = ("a", "b", "c")
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["put", "put and refer"]), st.sampled_from(NAMES)),
        st.tuples(st.just("gc"), st.booleans()),
        st.tuples(st.just("wait"), st.integers(1, 40)),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aero]:
    clock = FrozenClock(datetime(2026, 1, 1, tzinfo=UTC))
    with make_app(tmp_path_factory.mktemp("lasting"), clock=clock) as app:
        yield app


@settings(max_examples=60, deadline=None)
@given(history=steps)
def test_whatever_happens_what_is_referenced_stays_and_the_rest_goes(
    lasting: Aero, history: list[tuple[str, Any]]
) -> None:
    clock: Any = lasting.db.clock
    storage: Any = MemoryStorage(clock=clock)
    folder = lasting.settings.home
    known: dict[str, StoredObject] = {}
    referenced: set[str] = set()
    put_at: dict[str, datetime] = {}
    lasting.db.write(clear)
    for step, what in history:
        if step == "wait":
            clock.advance(timedelta(hours=what))
        elif step == "gc":
            retention.gc(lasting.db, storage, lasting.settings, dry_run=what)
        else:
            known[what] = put(storage, folder, what)
            put_at[what] = clock()
            if step == "put and refer":
                referenced.add(what)
                sha256 = known[what].sha256
                lasting.db.write(lambda tx, s=sha256: refer(tx, lasting, s))
        for name, stored in known.items():
            if name in referenced or clock() - put_at[name] <= DAY:
                assert storage.exists(stored.uri)
    clock.advance(OLD)
    for _ in range(2):
        retention.gc(lasting.db, storage, lasting.settings)
    assert {entry.uri for entry in storage.objects()} == {
        known[name].uri for name in referenced
    }
    assert list(storage.trashed()) == []


def clear(tx: Any) -> None:
    tx.execute(delete(DataVersion))
    tx.execute(delete(Data))
    values = {
        "id": str(uuid.uuid4()),
        "owner": "o",
        "name": "n",
        "description": "",
        "storage": "memory:x",
        "no_copy": False,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    tx.execute(insert(Data).values(values))
