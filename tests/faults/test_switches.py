"""A test of a law fails when the law's mechanism is switched off: here each does.

Every case is played twice: as it is, when nothing may be found, and with the mechanism
taken away, when the same check must find the violation.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select, text, update

import aero.runs.commit
from aero.db.models import Data, Flow, Run
from aero.db.queries import claims as claim_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.runs.dispatch import Dispatcher
from tests.faults import racing
from tests.faults.racing import Race, race
from tests.histories import Event, Violation, make_template, play

Switch = Callable[[pytest.MonkeyPatch], None]

LOCKING = (
    "aero.app",
    "aero.registration",
    "aero.runs.commit",
    "aero.runs.dispatch",
    "aero.runs.leases",
)


def no_claim_fence(patch: pytest.MonkeyPatch) -> None:
    leave = claim_queries.leave_running

    def leave_running(
        tx: Connection, run_id: str, claim_id: str | None, **values: Any
    ) -> bool:
        now = tx.execute(select(Run.claim).where(Run.id == run_id)).scalar_one()
        return leave(tx, run_id, now, **values)

    patch.setattr(claim_queries, "leave_running", leave_running)


def running_not_counted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(flow_queries, "running_inputs", lambda tx, flow_ids: [])


def validators_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    commit = Dispatcher._commit

    def early(self: Dispatcher, held: Any, result: Any) -> None:
        told = SimpleNamespace(run=held.run, made=held.definition.made, result=result)
        Database.write(
            self._db,
            lambda tx: version_queries.save_source_states(
                tx, aero.runs.commit._source_states(told, self._db.now(tx))
            ),
        )
        commit(self, held, result)

    patch.setattr(Dispatcher, "_commit", early)


def _no_lock(patch: pytest.MonkeyPatch, model: Any, *modules: str) -> None:
    def lock(tx: Connection, locked: Any, ids: Any) -> None:
        if locked is not model:
            lock_rows(tx, locked, ids)

    for module in modules:
        patch.setattr(f"{module}.lock_rows", lock)


def no_flow_lock(patch: pytest.MonkeyPatch) -> None:
    _no_lock(patch, Flow, *LOCKING)


def no_data_lock_at_registration(patch: pytest.MonkeyPatch) -> None:
    _no_lock(patch, Data, "aero.registration")


def no_registration_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Database, "advisory_lock", lambda self, tx, key: None)


def ticks_do_not_lock(patch: pytest.MonkeyPatch) -> None:
    due = flow_queries.due

    def unlocked(tx: Connection, *args: Any) -> Any:
        tx = tx.execution_options()
        return due(_Unlocked(tx), *args)

    patch.setattr(flow_queries, "due", unlocked)


class _Unlocked:
    """Executes selects without FOR UPDATE."""

    def __init__(self, tx: Connection) -> None:
        self._tx = tx

    def execute(self, statement: Any, *args: Any) -> Any:
        clone = statement._generate()
        clone._for_update_arg = None
        return self._tx.execute(clone, *args)


def joins_without_asking(patch: pytest.MonkeyPatch) -> None:
    """A join that reads first, and then changes whatever the run is by now."""

    def join_pending(tx: Connection, slots: Any) -> Any:
        found = {}
        for flow_id, task, source_key in slots:
            slot = {"flow_id": flow_id, "task": task, "source_key": source_key}
            pending = select(Run.id).filter_by(**slot, status="PENDING")
            run_id = tx.execute(pending).scalar_one_or_none()
            if run_id is not None:
                tx.execute(update(Run).where(Run.id == run_id).values(task=task))
                found[flow_id, task, source_key] = run_id
        return found

    patch.setattr(run_queries, "join_pending", join_pending)


# -- histories, on SQLite ----------------------------------------------------------

# A stalled process's run is taken over by another; then the first one goes on.
TAKEN_OVER: list[Event] = [
    ("source", 0, 0),
    ("claim", 0, 0),
    ("stall", 0, 0),
    ("forwards", 0, 5),
    ("beat", 0, 0),
    ("forwards", 0, 0),
    ("claim", 0, 0),
    ("finish", 0, 0),
]

# One input of an ALL flow is renewed while the flow's run has both.
RENEWED_MEANWHILE: list[Event] = [
    ("source", 0, 0),
    ("source", 0, 0),
    ("analysis", 0, 1),
    ("claim", 0, 0),
    ("finish", 0, 0),
    ("finish", 0, 0),
    ("claim", 0, 0),
    ("publish", 1, 2),
    ("forwards", 0, 2),
    ("tick", 0, 0),
    ("claim", 0, 0),
    ("finish", 2, 0),
]

# The process dies between the download of new bytes and their commit.
DIED_BEFORE_COMMIT: list[Event] = [
    ("source", 0, 0),
    ("claim", 0, 0),
    ("finish", 0, 0),
    ("publish", 0, 2),
    ("forwards", 0, 2),
    ("tick", 0, 0),
    ("claim", 0, 0),
    ("die", 0, 0),
    ("forwards", 0, 0),
    ("claim", 0, 0),
    ("finish", 0, 0),
]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.mark.parametrize(
    ("switch", "history", "found"),
    [
        (no_claim_fence, TAKEN_OVER, "statuses"),
        (running_not_counted, RENEWED_MEANWHILE, "statuses"),
        (validators_before_the_commit, DIED_BEFORE_COMMIT, "was not given 'b'"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_histories_need(
    switch: Switch,
    history: Sequence[Event],
    found: str,
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play(history, tmp_path / "on", template)
    switch(monkeypatch)
    with pytest.raises(Violation, match=found):
        play(history, tmp_path / "off", template)


# -- races, on PostgreSQL ----------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "scenario", "found"),
    [
        (no_flow_lock, racing.two_inputs_at_once, "missed"),
        (
            no_data_lock_at_registration,
            racing.registration_beside_first_commit,
            "missed",
        ),
        (no_data_lock_at_registration, racing.commit_beside_registration, "missed"),
        (no_registration_lock, racing.two_halves_of_a_cycle, "0 were refused"),
        (ticks_do_not_lock, racing.two_ticks_at_once, "fired"),
        (joins_without_asking, racing.join_beside_claim, "was changed"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_races_need(
    switch: Switch,
    scenario: Callable[[Race], None],
    found: str,
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with race(postgres_url, tmp_path / "home") as on:
        # The foreign key of a flow's inputs locks their Data too, if a little later.
        on.app.db.write(_drop_foreign_key)
        scenario(on)
        switch(monkeypatch)
        with pytest.raises(Violation, match=found):
            scenario(on)


def test_partial_unique_indexes_hold_where_a_lock_was_forgotten(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_flow_lock(monkeypatch)
    with race(postgres_url, tmp_path / "home") as on:
        racing.two_triggers_at_once(on)
        on.app.db.write(_drop_indexes)
        with pytest.raises(Violation, match="2 runs wait in one slot"):
            racing.two_triggers_at_once(on)


def _drop_foreign_key(tx: Connection) -> None:
    tx.execute(text("ALTER TABLE flow_input DROP CONSTRAINT fk_flow_input_data_id"))


def _drop_indexes(tx: Connection) -> None:
    for name in ("uq_run_pending", "uq_run_running"):
        tx.execute(text(f"DROP INDEX {name}"))
