"""A test of a law fails when the law's mechanism is switched off: here each does.

Every case is played twice: as it is, when nothing may be found, and with the mechanism
taken away, when the same check must find the violation.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, select, text

import aero.runs.commit
from aero.db.models import Run
from aero.db.queries import claims as claim_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import versions as version_queries
from aero.db.session import Database
from aero.runs.dispatch import Dispatcher
from tests.faults import gc_races, races, switches
from tests.faults.racing import Race, race
from tests.faults.switches import Switch
from tests.histories import Event, Violation, make_template, play


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

FOREIGN_KEYS = (
    ("flow_input", "data_id"),
    ("run", "flow_id"),
    ("run_trigger", "flow_id"),
)


@pytest.mark.parametrize(
    ("switch", "scenario", "found"),
    [
        (switches.no_flow_lock, races.two_inputs_at_once, "missed"),
        (
            switches.no_data_lock_at_registration,
            races.registration_beside_first_commit,
            "missed",
        ),
        (
            switches.no_data_lock_at_registration,
            races.commit_beside_registration,
            "missed",
        ),
        (switches.own_flow_first, races.crossing_commits, "deadlock"),
        (switches.ticks_wait, races.tick_beside_commit, "waiting"),
        (switches.ticks_do_not_lock, races.tick_beside_failure, "deadlock"),
        (switches.no_flow_lock, races.failure_beside_tick, "IntegrityError"),
        (switches.ticks_do_not_lock, races.tick_beside_delete, "was deleted"),
        (switches.ticks_do_not_lock, races.two_ticks_at_once, "fired"),
        (switches.claims_do_not_lock, races.two_claims_at_once, "3 and 3"),
        (switches.joins_without_asking, races.join_beside_claim, "was changed"),
        (switches.joins_without_locking, races.claim_beside_join, "given .1."),
        (switches.no_registration_lock, races.two_halves_of_a_cycle, "0 were refused"),
        (switches.no_flow_lock, races.retry_beside_delete, "was deleted"),
        (switches.gc_asks_once, gc_races.commit_beside_gc, "lost"),
        (switches.puts_do_not_touch, gc_races.put_beside_gc, "lost"),
        (switches.readers_pass_over_the_trash, gc_races.gc_within_commit, "lost"),
        (switches.gc_forgets_what_runs, gc_races.gc_beside_a_long_run, "lost"),
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
        # Foreign keys lock what they refer to as well, if a little later.
        on.app.db.write(_drop_foreign_keys)
        scenario(on)
        switch(monkeypatch)
        with pytest.raises(Violation, match=found):
            scenario(on)


def test_partial_unique_indexes_hold_where_a_lock_was_forgotten(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switches.no_flow_lock(monkeypatch)
    with race(postgres_url, tmp_path / "home") as on:
        races.two_triggers_at_once(on)
        on.app.db.write(_drop_indexes)
        with pytest.raises(Violation, match="2 runs wait in one slot"):
            races.two_triggers_at_once(on)


def _drop_foreign_keys(tx: Connection) -> None:
    for table, column in FOREIGN_KEYS:
        name = f"fk_{table}_{column}"
        tx.execute(text(f"ALTER TABLE {table} DROP CONSTRAINT {name}"))


def _drop_indexes(tx: Connection) -> None:
    for name in ("uq_run_pending", "uq_run_running"):
        tx.execute(text(f"DROP INDEX {name}"))
