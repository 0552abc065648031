"""A workspace damaged in one way yields exactly that finding; a sound one none."""

import hashlib
import json
import os
import re
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, event, func, insert, select, text, update

from aero import copying
from aero.cli.root import aero
from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    FunctionRegistration,
    Notice,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    ProvenanceSource,
    Run,
    RunTrigger,
    VersionEdge,
    Worker,
)
from aero.db.queries import invariants as queries
from aero.db.queries.common import table
from aero.db.session import Database
from aero.doctor import CHECKS, Diagnosis
from aero.error import NotFoundError, SchemaError
from aero.storage import LocalStorage
from aero.storage.base import address
from tests.databases import Postgres
from tests.past import History, lived_through

MISSING = str(UUID(int=1))
NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=1)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    with lived_through(tmp_path_factory.mktemp("past")) as history:
        yield history


class Damaged(Database):
    """A database as a transaction sees it that breaks its rules, and is rolled back."""

    tx: Connection

    def look(self, work: Callable[[Connection], Any]) -> Any:
        return work(self.tx)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        yield self.tx

    @contextmanager
    def opened(self) -> Iterator["Damaged"]:
        """Begin the transaction, and end it."""
        try:
            with self.engine.connect() as self.tx:
                if self.is_sqlite:
                    # Nothing of it would be heard within a transaction.
                    self.tx.connection.execute("PRAGMA foreign_keys = OFF")
                else:
                    self.tx.execute(text("SET session_replication_role = replica"))
                yield self
                self.tx.rollback()
        finally:
            self.dispose()


class Patient:
    """The workspace on one of the databases, to be damaged and examined."""

    def __init__(self, history: History, db: Damaged) -> None:
        self.history = history
        self.home = history.home
        self.db = db

    def damage(self, *statements: Any) -> None:
        """Execute statements that the database would not take from its users."""
        for statement in statements:
            assert self.db.tx.execute(statement).rowcount, statement

    def one(self, query: Any) -> Any:
        """Return the first row, or the value in it."""
        row = self.db.tx.execute(query).first()
        assert row is not None
        return row[0] if len(row) == 1 else row

    def examined(self, **options: Any) -> Diagnosis:
        """Return a diagnosis of what the transaction sees, and of the home."""
        store = LocalStorage(self.home / "store")
        return Diagnosis(self.db, store, self.home / "scratch", **options)

    def findings(self, **options: Any) -> list[dict[str, Any]]:
        """Return what the doctor finds."""
        return list(self.examined(**options))

    def object(self, version: Any) -> Path:
        """Return the stored file of a version or a download."""
        return self.home / "store" / "objects" / version.sha256[:2] / version.sha256


@pytest.fixture(scope="module")
def moved(past: History) -> Iterator[Callable[[Postgres], str]]:
    """Moves the workspace to one more database of PostgreSQL, once."""
    with ExitStack() as stack:

        @cache
        def move(postgres: Postgres) -> str:
            target = stack.enter_context(postgres.another(migrated=False))
            copying.copy(past.url, target)
            return target

        yield move


@pytest.fixture(params=["sqlite", "postgresql"])
def patient(
    past: History, moved: Callable[[Postgres], str], request: pytest.FixtureRequest
) -> Iterator[Patient]:
    """The workspace on each kind of database; what is done to it is rolled back."""
    sqlite = request.param == "sqlite"
    url = past.url if sqlite else moved(request.getfixturevalue("postgres"))
    with Damaged(url).opened() as db:
        yield Patient(past, db)


@pytest.fixture
def embedded(past: History, tmp_path: Path) -> Iterator[Patient]:
    """The workspace on SQLite, with files of its own."""
    history = past.copy(tmp_path / "home")
    with Damaged(history.url).opened() as db:
        yield Patient(history, db)


# -- the tables -------------------------------------------------------------------

Cut = Callable[[Patient], None]
DAMAGES: list[Any] = []


def breaks(check: str, law: int, says: str) -> Callable[[Cut], Cut]:
    """Say which law of a check a damage breaks, and what is then found."""

    def known(cut: Cut) -> Cut:
        DAMAGES.append(pytest.param(check, law, says, cut, id=cut.__name__))
        return cut

    return known


def version(patient: Patient, data: str, number: int) -> Any:
    """Return the first version of that number of a Data of that name."""
    return patient.one(
        select(*DataVersion.__table__.c)
        .join(Data, Data.id == DataVersion.data_id)
        .where(Data.name == data, DataVersion.version == number)
        .order_by(DataVersion.key)
    )


def of(key: Any, value: Any) -> Any:
    """Return an UPDATE of the row with this key."""
    return update(key.class_).where(key == value)


def ended(patient: Patient, status: str) -> Any:
    """Return the id of a run that ended so, the newest one that made something."""
    return patient.one(
        select(Run.id)
        .outerjoin(Provenance, Provenance.run_id == Run.id)
        .where(Run.status == status, Run.event.is_(None))
        .order_by(Run.created_at.desc(), Run.id)
    )


def waiting(patient: Patient) -> Any:
    """Return the run that waits for a paused flow."""
    return patient.one(select(*Run.__table__.c).where(Run.status == "PENDING"))


def copy_of(model: Any, row: Any, **changed: Any) -> Any:
    """Return an INSERT of a row like another one."""
    return insert(table(model)).values({**row._mapping, **changed})


@breaks("versions", 0, r"The 2 versions of Data \S+ are numbered 1 to 3, not 1 to 2")
def a_number_is_skipped(patient: Patient) -> None:
    key = version(patient, "size", 2).key
    patient.damage(of(DataVersion.key, key).values(version=3))


@breaks("versions", 0, r"are numbered 2 to 3, not 1 to 2")
def the_first_number_is_lacking(patient: Patient) -> None:
    data = version(patient, "size", 1).data_id
    for number in (2, 1):
        which = (DataVersion.data_id == data, DataVersion.version == number)
        patient.damage(update(DataVersion).where(*which).values(version=number + 1))


@breaks("versions", 1, r"size@2 has the content of version 1, which was the newest")
def a_version_is_no_news(patient: Patient) -> None:
    old = version(patient, "size", 1)
    same = {"sha256": old.sha256, "uri": old.uri, "size": old.size}
    new = patient.one(
        select(DataVersion.key).where(
            DataVersion.data_id == old.data_id, DataVersion.version == 2
        )
    )
    patient.damage(of(DataVersion.key, new).values(same))


@breaks("records", 0, r"0 records, not one, say that they made events@1")
def nobody_made_a_version(patient: Patient) -> None:
    key = version(patient, "events", 1).id
    patient.damage(of(ProvenanceContribution.version_id, key).values(is_new=False))


@breaks("records", 0, r"2 records, not one, say that they made events@1")
def two_made_a_version(patient: Patient) -> None:
    made = patient.one(
        select(*ProvenanceContribution.__table__.c).where(
            ProvenanceContribution.version_id == version(patient, "events", 1).id
        )
    )
    patient.damage(copy_of(ProvenanceContribution, made, name="again"))


@breaks("records", 1, r"Run \S+ is SUCCEEDED and left no record")
def a_success_left_no_record(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "FAILED")).values(status="SUCCEEDED"))


@breaks("records", 1, r"Run \S+ is UNCHANGED and left no record")
def an_analysis_reproduced_nothing(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "FAILED")).values(status="UNCHANGED"))


@breaks("records", 2, r"Record \S+ is of a run that made .*, but run \S+ is FAILED")
def a_failure_left_a_record(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "SUCCEEDED")).values(status="FAILED"))


@breaks("records", 2, r"but run \S+ is UNCHANGED")
def a_reproduction_made_a_version(patient: Patient) -> None:
    run = patient.one(
        select(Provenance.run_id)
        .join(ProvenanceContribution)
        .where(ProvenanceContribution.version_id == version(patient, "size", 1).id)
    )
    patient.damage(of(Run.id, run).values(status="UNCHANGED"))


@breaks(
    "lineage", 0, r"Record \S+ made size@1 from cases@1, which the lineage does not"
)
def an_edge_is_lacking(patient: Patient) -> None:
    child = VersionEdge.child == version(patient, "size", 1).key
    patient.damage(table(VersionEdge).delete().where(child))


@breaks("lineage", 1, r"shows events@1 made from size@1, which no record says")
def an_edge_is_invented(patient: Patient) -> None:
    ends = {"child": version(patient, "events", 1).key}
    ends["parent"] = version(patient, "size", 1).key
    patient.damage(insert(VersionEdge).values({**ends, "reproduced": False}))


@breaks("lineage", 2, r"Record \S+ repeats its flow, task or version of cases wrongly")
def what_was_consumed_is_wrong(patient: Patient) -> None:
    record = patient.one(select(ProvenanceDerivation.provenance_id))
    patient.damage(of(ProvenanceDerivation.provenance_id, record).values(version=1000))


@breaks("slots", 0, r"2 runs are PENDING in the slot of flow \S+, task 0, object \'\'")
def two_wait_in_a_slot(patient: Patient) -> None:
    patient.damage(text("DROP INDEX uq_run_pending"), *_twins(patient))


@breaks("slots", 1, r"2 runs are RUNNING in the slot")
def two_run_in_a_slot(patient: Patient) -> None:
    tomorrow = NOW + timedelta(days=1)
    running = {"status": "RUNNING", "claim": MISSING, "lease_expires": tomorrow}
    run = waiting(patient).id
    patient.damage(text("DROP INDEX uq_run_running"), of(Run.id, run).values(running))
    patient.damage(*_twins(patient, "RUNNING"))


def _twins(patient: Patient, status: str = "PENDING") -> list[Any]:
    run = patient.one(select(*Run.__table__.c).where(Run.status == status))
    trigger = patient.one(
        select(*RunTrigger.__table__.c).where(RunTrigger.run_id == run.id)
    )
    return [
        copy_of(Run, run, id=MISSING),
        copy_of(RunTrigger, trigger, key="twin", run_id=MISSING),
    ]


@breaks("runs", 0, r"Run \S+ is FAILED, and its lease, claim or end are not those")
def a_run_never_ended(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "FAILED")).values(finished_at=None))


@breaks("runs", 0, r"Run \S+ is LOST")
def a_run_is_in_no_state(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "FAILED")).values(status="LOST"))


@breaks("runs", 0, r"Run \S+ is FAILED, and its lease")
def an_ended_run_is_leased(patient: Patient) -> None:
    patient.damage(of(Run.id, ended(patient, "FAILED")).values(lease_expires=NOW))


@breaks("runs", 0, r"Run \S+ is RUNNING, and its lease")
def a_run_is_nobodys(patient: Patient) -> None:
    tomorrow = NOW + timedelta(days=1)
    values = {"status": "RUNNING", "lease_expires": tomorrow}
    patient.damage(of(Run.id, waiting(patient).id).values(values))


@breaks("runs", 1, r"Run \S+ is PENDING though its flow \S+ was deleted: .*cancel")
def a_deleted_flow_waits(patient: Patient) -> None:
    flow = waiting(patient).flow_id
    patient.damage(of(Flow.id, flow).values(deleted_at=NOW))


@breaks("triggers", 0, r"Run \S+ is due to no trigger")
def a_run_has_no_reason(patient: Patient) -> None:
    trigger = RunTrigger.run_id == waiting(patient).id
    patient.damage(table(RunTrigger).delete().where(trigger))


@breaks("triggers", 1, r"Trigger lost of flow \S+ names run \S+1, which is not there")
def a_reason_has_no_run(patient: Patient) -> None:
    trigger = patient.one(select(*RunTrigger.__table__.c))
    patient.damage(
        copy_of(RunTrigger, trigger, key="lost", run_id=MISSING),
        # Runs are pruned before their triggers.
        copy_of(
            RunTrigger,
            trigger,
            key="pruned",
            run_id=MISSING,
            created_at=NOW - timedelta(days=31),
        ),
    )


@breaks("stuck", 0, r"Run \S+ is RUNNING, but who worked on it was last .* 'aero work'")
def nobody_is_left(patient: Patient) -> None:
    _lost(patient, NOW)


@breaks("stuck", 0, r"Run \S+ is RUNNING, but who worked on it was last heard of")
def those_alive_do_not_take_it_over(patient: Patient) -> None:
    _lost(patient, LONG_AGO)
    patient.damage(_worker())


@breaks("stuck", 1, r"Run \S+ could start since .*Z, and those who work do nothing")
def those_alive_do_nothing(patient: Patient) -> None:
    _overdue(patient)
    patient.damage(_worker())


@breaks("stuck", 2, r"Notice \S+ of flow \S+ could be sent since .*Z, and those who")
def those_alive_tell_nobody(patient: Patient) -> None:
    notice = patient.one(select(Notice.id))
    patient.damage(of(Notice.id, notice).values(not_before=LONG_AGO), _worker())


def _lost(patient: Patient, lease: datetime) -> None:
    values = {"status": "RUNNING", "claim": MISSING, "lease_expires": lease}
    patient.damage(of(Run.id, waiting(patient).id).values(values))


def _overdue(patient: Patient) -> None:
    run = waiting(patient)
    patient.damage(
        of(Run.id, run.id).values(not_before=LONG_AGO),
        of(Flow.id, run.flow_id).values(enabled=True),
    )


def _worker() -> Any:
    alive = NOW + timedelta(hours=1)
    who = {"id": MISSING, "host": "h", "pid": 1}
    return insert(Worker).values({**who, "started_at": alive, "seen_at": alive})


@pytest.mark.parametrize(("check", "law", "says", "cut"), DAMAGES)
def test_what_is_damaged_is_exactly_what_is_found(
    patient: Patient, check: str, law: int, says: str, cut: Cut
) -> None:
    cut(patient)
    found = patient.findings()
    assert [(each["check"]) for each in found] == [check]
    assert re.search(says, found[0]["message"])
    laws = [each for each in queries.laws() if each.check == check]
    assert found[0]["message"] == laws[law].says.format(**found[0]["facts"])


def test_every_law_is_broken_by_a_damage() -> None:
    laws = [each.check for each in queries.laws()]
    broken = {(damage.values[0], damage.values[1]) for damage in DAMAGES}
    wanted = {
        (check, number)
        for check in CHECKS
        if check != "orphans"
        for number in range(laws.count(check))
    }
    assert broken == wanted


def test_rows_without_their_other_end_are_found(patient: Patient) -> None:
    record = patient.one(select(*ProvenanceDerivation.__table__.c))
    made = {"version_id": MISSING, "is_new": False}
    known = record.provenance_id
    patient.damage(
        insert(VersionEdge).values(child=10**9, parent=1, reproduced=False),
        copy_of(ProvenanceDerivation, record, name="x", version_id=MISSING),
        insert(ProvenanceContribution).values(provenance_id=known, name="x", **made),
    )
    found = [(each["check"], each["message"]) for each in patient.findings()]
    assert [check for check, _ in found] == ["orphans"] * 3
    for (_, message), (row, other) in zip(
        found,
        [
            ("provenance_contribution", f"data_version {MISSING} as its version_id"),
            ("provenance_derivation", f"data_version {MISSING} as its version_id"),
            ("version_edge", "data_version 1000000000 as its child"),
        ],
        strict=True,
    ):
        assert message.startswith(f"A row of {row} names the {other}, which is not")


def test_every_foreign_key_is_followed(patient: Patient) -> None:
    patient.damage(
        insert(FunctionRegistration).values(
            function_id=MISSING, service="s", remote_id="r"
        )
    )
    wanted = {("function_registration", "function_id")}
    for model in (mapper.class_ for mapper in DataVersion.registry.mappers):
        found = table(model)
        keys = list(found.primary_key)
        for number, column in enumerate(each.parent for each in found.foreign_keys):
            if (found.name, column.name) not in wanted:
                value = 10**9 + number if column.type.python_type is int else None
                row = patient.one(select(*keys, column).where(column.is_not(None)))
                patient.damage(
                    update(found)
                    .where(*(key == each for key, each in zip(keys, row, strict=False)))
                    .values({column.name: value or str(UUID(int=number + 1))})
                )
                wanted.add((found.name, column.name))
    said = [e["message"] for e in patient.findings() if e["check"] == "orphans"]
    pattern = re.compile(r"A row of (\w+) names the \w+ \S+ as its (\w+), which")
    assert sorted(pattern.match(each).groups() for each in said) == sorted(wanted)


# -- what is sound ----------------------------------------------------------------


def test_a_sound_workspace_is_healthy(patient: Patient) -> None:
    diagnosis = patient.examined()
    assert list(diagnosis) == []
    assert diagnosis.healthy
    assert [each["check"] for each in diagnosis.checks] == list(CHECKS)
    looked_at = {each["check"]: each["looked_at"] for each in diagnosis.checks}
    assert looked_at.pop("leftovers") == 0
    assert all(looked_at.values())


def test_a_busy_workspace_is_healthy(embedded: Patient) -> None:
    """Runs wait while others run, and an expired lease is about to be taken over."""
    _overdue(embedded)
    assert embedded.findings() == []  # nobody works: nothing is late
    embedded.damage(_worker())
    run = ended(embedded, "FAILED")
    values = {"status": "RUNNING", "claim": MISSING, "finished_at": None}
    just_now = datetime.now(UTC)
    embedded.damage(of(Run.id, run).values({**values, "lease_expires": just_now}))
    (embedded.home / "scratch" / f"{run}.1.0a").mkdir(parents=True)
    assert embedded.findings() == []


def test_it_only_reads(patient: Patient) -> None:
    a_run_has_no_reason(patient)
    before = _files(patient.home)
    statements: list[str] = []

    @event.listens_for(patient.db.engine, "before_cursor_execute")
    def remember(connection, cursor, statement, *rest) -> None:  # type: ignore[no-untyped-def]
        statements.append(statement)

    assert len(patient.findings()) == 1
    assert {each.split()[0] for each in statements} == {"SELECT"}
    assert len(statements) > 50
    assert _files(patient.home) == before


def _files(home: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and path.suffix not in {".db-wal", ".db-shm"}
    }


def test_what_is_found_is_paged(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE", 2)
    patient.damage(table(RunTrigger).delete(), table(VersionEdge).delete())
    runs = patient.one(select(func.count()).select_from(Run))
    found = patient.findings()
    counted = {
        check: len({json.dumps(e["facts"]) for e in found if e["check"] == check})
        for check in ("triggers", "lineage")
    }
    assert counted["triggers"] == runs
    assert counted["lineage"] > 4
    assert len(found) == sum(counted.values())


def test_a_fresh_machine_stays_fresh(embedded: Patient, tmp_path: Path) -> None:
    with (
        History(tmp_path / "fresh", embedded.history.publisher).open("") as app,
        pytest.raises(NotFoundError, match="There is no workspace in sqlite"),
    ):
        list(app.doctor())
    assert not (tmp_path / "fresh").exists()


def test_an_older_database_is_not_examined(embedded: Patient) -> None:
    embedded.damage(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaError, match="run 'aero db upgrade'"):
        embedded.findings()


# -- the store --------------------------------------------------------------------


def one_of(found: list[dict[str, Any]]) -> tuple[str, str]:
    """Return check and message of the only finding."""
    (only,) = found
    return only["check"], only["message"]


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(content)


def test_bytes_that_are_gone(embedded: Patient) -> None:
    lost = version(embedded, "size", 1)
    embedded.object(lost).unlink()
    for hashing in (True, False):
        check, message = one_of(embedded.findings(hashing=hashing))
        assert check == "bytes"
        assert message.startswith(
            f"The bytes of size@1 ({lost.uri}) are not there: rest"
        )


def test_bytes_in_the_trash_are_there(embedded: Patient) -> None:
    kept = embedded.object(version(embedded, "size", 1))
    trash = embedded.home / "store" / "trash"
    trash.mkdir()
    kept.rename(trash / kept.name)
    assert embedded.findings() == []


def test_bytes_that_changed(embedded: Patient) -> None:
    path = embedded.object(version(embedded, "size", 1))
    overwrite(path, bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    check, message = one_of(embedded.findings())
    assert check == "store"
    assert f"sha256:{path.name} of size@1 is damaged, it hashes to" in message
    assert embedded.findings(hashing=False) == []


def test_bytes_that_are_fewer(embedded: Patient) -> None:
    path = embedded.object(version(embedded, "cases", 1))
    overwrite(path, b"")
    assert one_of(embedded.findings())[0] == "store"
    check, message = one_of(embedded.findings(hashing=False))
    assert (check, message[:44]) == (
        "bytes",
        "Of cases@1 0 bytes are kept, not 3: restore ",
    )


def test_a_size_that_is_wrong_in_the_database(embedded: Patient) -> None:
    key = version(embedded, "size", 1).key
    embedded.damage(of(DataVersion.key, key).values(size=1000))
    assert "Of size@1 1 bytes are kept, not 1000" in one_of(embedded.findings())[1]


@pytest.mark.parametrize("uri", [None, "", address("0" * 64)])
def test_bytes_that_are_kept_elsewhere(embedded: Patient, uri: str | None) -> None:
    key = version(embedded, "size", 1).key
    embedded.damage(of(DataVersion.key, key).values(uri=uri))
    check, message = one_of(embedded.findings())
    assert check == "bytes"
    assert (
        f"The bytes of size@1 are not kept under their SHA-256, but at {uri}" in message
    )


def test_a_download_that_is_gone(embedded: Patient) -> None:
    raw = embedded.one(
        select(*ProvenanceSource.__table__.c).where(
            ProvenanceSource.uri.is_not(None),
            ProvenanceSource.sha256.not_in(
                select(DataVersion.sha256).where(DataVersion.sha256.is_not(None))
            ),
        )
    )
    embedded.object(raw).unlink()
    check, message = one_of(embedded.findings())
    assert check == "bytes"
    assert f"the download cases of record {raw.provenance_id}" in message


def test_a_download_that_changed(embedded: Patient) -> None:
    sha256 = hashlib.sha256(b"one").hexdigest()
    overwrite(embedded.home / "store" / "objects" / sha256[:2] / sha256, b"two")
    message = one_of(embedded.findings())[1]
    assert f"The object sha256:{sha256} of the download of record " in message


def test_an_object_of_many_names_some(embedded: Patient) -> None:
    row = version(embedded, "events", 1)
    for number in range(4, 9):
        new = {"key": 1000 + number, "id": str(UUID(int=number)), "version": number}
        embedded.damage(copy_of(DataVersion, row, **new))
    overwrite(embedded.object(row), b"x")
    found = [e["message"] for e in embedded.findings() if e["check"] == "store"]
    assert found == [
        f"The object {row.uri} of events@1, events@4, events@5 and others is damaged, "
        f"it hashes to {hashlib.sha256(b'x').hexdigest()}: restore it from a backup, "
        "or run the flow that made it again."
    ]


def test_an_object_of_nobody(embedded: Patient) -> None:
    path = embedded.home / "store" / "objects" / "ab" / ("ab" * 32)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    check, message = one_of(embedded.findings())
    assert (check, message[-51:]) == (
        "store",
        "nothing refers to it, and 'aero gc' will remove it.",
    )


def test_an_object_that_cannot_be_read(embedded: Patient) -> None:
    path = embedded.object(version(embedded, "size", 1))
    path.unlink()
    path.mkdir()
    check, message = one_of(embedded.findings())
    assert check == "store"
    assert "of size@1 cannot be read (" in message


def test_an_object_that_gc_takes_meanwhile_is_no_finding(embedded: Patient) -> None:
    path = embedded.home / "store" / "objects" / "ab" / ("ab" * 32)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    told: list[tuple[str, int, int]] = []

    def tell(*facts: Any) -> None:
        told.append(facts)
        if facts[0] == "hashing":
            path.unlink(missing_ok=True)

    objects = LocalStorage.objects

    def last(store: LocalStorage) -> Iterator[Any]:
        return iter(sorted(objects(store), key=lambda entry: entry.uri == uri))

    uri = address("ab" * 32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "objects", last)
        assert embedded.findings(tell=tell) == []
    assert not path.exists()
    assert told[-1][0] == "hashing"
    assert told[-1][1] == told[-1][2] > 0


# -- files ------------------------------------------------------------------------


def _left(patient: Patient) -> tuple[Path, Path]:
    folder = patient.home / "scratch" / f"{MISSING}.1.0a"
    file = patient.home / "store" / "tmp" / "0a"
    for path in (folder, file.parent):
        path.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    return folder, file


def test_files_that_outlived_their_run(embedded: Patient) -> None:
    folder, _ = _left(embedded)
    found = [(each["check"], each["message"]) for each in embedded.findings()]
    removed = "'aero work' removes"
    assert found == [
        ("leftovers", f"{folder} is of no run: {removed} it when it starts."),
        (
            "leftovers",
            f"1 temporary files were left in the store: {removed} them when it starts.",
        ),
    ]
    embedded.db.tx.rollback()
    with embedded.history.open(embedded.history.url) as app:
        app.run_until_idle(30)
        assert list(app.doctor()) == []


def test_files_of_a_run_that_just_ended_are_no_finding(embedded: Patient) -> None:
    folder, file = _left(embedded)
    embedded.damage(_worker())
    assert embedded.findings() == []
    two_days_ago = (NOW - timedelta(days=2)).timestamp()
    for path in (folder, file):
        os.utime(path, (two_days_ago, two_days_ago))
    assert [each["check"] for each in embedded.findings()] == ["leftovers"] * 2


# -- size -------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_workspace(embedded: Patient) -> None:
    """Every version is damaged in several ways, and every finding is had."""
    row = version(embedded, "events", 3)
    peaks = []
    embedded.findings()  # what is compiled is kept
    for first, count in ((10_000, 1_000), (20_000, 8_000)):
        rows = [
            {
                **row._mapping,
                "key": number,
                "version": number,
                "id": str(UUID(int=number)),
                "uri": f"elsewhere {'x' * 500}",
            }
            for number in range(first, first + count)
        ]
        embedded.db.tx.execute(insert(table(DataVersion)), rows)
        del rows
        tracemalloc.start()
        found = sum(1 for _ in embedded.examined())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found > count
    print(f"peak of 1,000 versions {peaks[0]} B, of 9,000 versions {peaks[1]} B")
    assert peaks[1] < 1.3 * peaks[0]


# -- the command ------------------------------------------------------------------


@pytest.fixture
def command(embedded: Patient, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setenv("AERO_HOME", str(embedded.home))
    monkeypatch.delenv("AERO_DATABASE_URL", raising=False)
    return lambda *args: CliRunner().invoke(aero, ["doctor", *args])


def test_the_command_of_a_sound_workspace(command: Callable[..., Any]) -> None:
    shown = command()
    assert (shown.exit_code, shown.stderr) == (0, "Nothing is wrong.\n")
    assert [line.split()[0] for line in shown.stdout.splitlines()] == [
        "CHECK",
        *CHECKS,
    ]
    record = json.loads(command("--json").stdout)
    assert record["findings"] == []
    assert [each["check"] for each in record["checks"]] == list(CHECKS)


def test_the_command_of_a_damaged_workspace(
    embedded: Patient, command: Callable[..., Any]
) -> None:
    a_run_has_no_reason(embedded)
    embedded.db.tx.commit()
    path = embedded.object(version(embedded, "size", 1))
    overwrite(path, b"x")
    shown = command()
    assert shown.exit_code == 1
    first, second = shown.stdout.splitlines()[:2]
    assert first.startswith("triggers: Run ")
    assert second.startswith("store: The object sha256:")
    record = json.loads(command("--json").stdout)
    assert [each["check"] for each in record["findings"]] == ["triggers", "store"]
    found = {each["check"]: each["found"] for each in record["checks"]}
    assert {name for name, count in found.items() if count} == {"triggers", "store"}
    assert len(json.loads(command("--no-hash", "--json").stdout)["findings"]) == 1
