"""However many processes claim at once, no more runs run than a limit allows."""

import json
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select

import aero.db.queries.claims
import aero.db.queries.limits
import aero.db.queries.runs
import aero.runs.limits
from aero.db.models import EndpointLimit, Run
from aero.runs.claiming import Claimer
from tests.faults.racing import Race, Work, race
from tests.histories import Violation
from tests.invariants import check_invariants

LIMIT, CLAIMERS, RUNS = 3, 8, 48


def numbered(number):
    """Write nothing."""
    return None


def sweep(on: Race, folder: Path, runs: int, **options: Any) -> str:
    """Start a flow of so many tasks; return its id."""
    on.number += 1
    config = folder / f"sweep{on.number}.json"
    config.write_text(json.dumps([{"number": [on.number, n]} for n in range(runs)]))
    function = on.app.register_function(numbered)
    flow = on.app.register_flow("local", function, config=config, **options)
    on.app.run_flow(flow["id"], wait=False)
    return str(flow["id"])


def by_flow(on: Race, folder: Path, runs: int = RUNS) -> str:
    return sweep(on, folder, runs, max_running=LIMIT)


def by_endpoint(on: Race, folder: Path, runs: int = RUNS) -> str:
    on.app.set_limit("local", LIMIT)
    return sweep(on, folder, runs)


def by_both(on: Race, folder: Path, runs: int = RUNS) -> str:
    on.app.set_limit("local", LIMIT)
    return sweep(on, folder, runs, max_running=LIMIT)


def running(on: Race) -> int:
    with on.app.db.read() as tx:
        return tx.execute(
            select(func.count()).where(Run.status == "RUNNING")
        ).scalar_one()


# -- eight claimers ----------------------------------------------------------------


class Board:
    """Counts what runs at once, between what was claimed and what is committed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._attempts = self._running = 0
        self.most = self.done = self.claims = 0

    def begun(self, count: int) -> None:
        """Count runs that begin, and let them run until others have tried too."""
        with self._changed:
            self._attempts += 1
            self._running += count
            self.claims += bool(count)
            self.most = max(self.most, self._running)
            self._changed.notify_all()
            if count:
                enough = self._attempts + CLAIMERS
                self._changed.wait_for(lambda: self._attempts >= enough, 0.1)

    def ended(self, count: int) -> None:
        with self._changed:
            self._running -= count
            self.done += count


def work(on: Race, board: Board, seen: list[int]) -> None:
    while board.done < RUNS:
        on.held()
        held = list(on.dispatcher._held.values())
        board.begun(len(held))
        seen.append(running(on))
        board.ended(len(held))
        for each in held:
            on.commit(each, "")


@pytest.mark.parametrize("limit", [by_flow, by_endpoint, by_both])
def test_eight_claimers_never_run_more_than_three(
    limit: Callable[..., str], postgres_url: str, tmp_path: Path
) -> None:
    board, seen = Board(), []
    with ExitStack() as open_:
        claimers = [
            open_.enter_context(race(postgres_url, tmp_path / f"home{number}"))
            for number in range(CLAIMERS)
        ]
        on = claimers[0]
        limit(on, tmp_path)
        threads = [
            Work(f"claimer {number}", partial(work, each, board, seen))
            for number, each in enumerate(claimers)
        ]
        for thread in threads:
            thread.start()
        ended = [thread.end() for thread in threads]
        found = check_invariants(on.app.db, idle=True)
    assert ended == [None] * CLAIMERS
    assert found == []
    print(
        f"{CLAIMERS} claimers, {RUNS} runs {limit.__name__}: {board.claims} claims, "
        f"at most {board.most} at once, {max(seen)} RUNNING"
    )
    assert (board.done, board.most) == (RUNS, LIMIT)
    assert max(seen) <= LIMIT


# -- two of them, at the same point ------------------------------------------------


def take(on: Race) -> list[Any]:
    settings = on.app.engine._dispatch_settings()
    claimer = Claimer(
        on.app.db, settings, worker=on.dispatcher._here.id, endpoints=["local"]
    )
    return claimer.take(8)


def two_claims(on: Race, folder: Path, limit: Callable[..., str], at: str) -> None:
    """Two claims count what runs before either has taken anything."""
    flow = limit(on, folder, 10)
    ended = on.meet(lambda: take(on), lambda: take(on), at=(aero.db.queries.limits, at))
    found = running(on)
    on.app.delete_flow(flow)
    on.app.set_limit("local", None)
    on.sound(*ended)
    if found != LIMIT:
        raise Violation(f"{found} run at a limit of {LIMIT}")


def no_flow_lock(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(aero.runs.limits, "lock_rows", lambda tx, model, ids: None)


def no_endpoint_lock(patch: pytest.MonkeyPatch) -> None:
    def read(tx: Connection, endpoints: Any) -> dict[str, int]:
        rows = tx.execute(select(EndpointLimit.endpoint, EndpointLimit.max_running))
        return {row.endpoint: row.max_running for row in rows}

    patch.setattr(aero.db.queries.limits, "lock_endpoints", read)


@pytest.mark.parametrize(
    ("limit", "at", "switch"),
    [
        (by_flow, "room_of", no_flow_lock),
        (by_endpoint, "running", no_endpoint_lock),
    ],
)
def test_two_claims_at_once_need_the_lock_of_the_limit(
    limit: Callable[..., str],
    at: str,
    switch: Callable[[pytest.MonkeyPatch], None],
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with race(postgres_url, tmp_path / "home") as on:
        two_claims(on, tmp_path, limit, at)
        switch(monkeypatch)
        with pytest.raises(Violation, match=f"{2 * LIMIT} run at a limit of {LIMIT}"):
            two_claims(on, tmp_path, limit, at)


def test_a_limit_set_beside_a_claim_counts_what_that_took(
    postgres_url: str, tmp_path: Path
) -> None:
    with race(postgres_url, tmp_path / "home") as on:
        flow = sweep(on, tmp_path, 20)
        claimed, set_ = on.meet(
            lambda: take(on),
            lambda: on.app.set_flow(flow, max_running=LIMIT),
            at=(aero.db.queries.claims, "claim"),
        )
        on.sound(claimed, set_)
        assert len(claimed) == running(on) == 8
        assert take(on) == []


def test_a_claim_beside_a_limit_being_set_keeps_to_it(
    postgres_url: str, tmp_path: Path
) -> None:
    with race(postgres_url, tmp_path / "home") as on:
        flow = sweep(on, tmp_path, 20)
        set_, claimed = on.meet(
            lambda: on.app.set_flow(flow, max_running=LIMIT),
            lambda: take(on),
            at=(aero.db.queries.runs, "follow_flow"),
        )
        on.sound(set_, claimed)
        take(on)
        assert running(on) == LIMIT


def test_claims_beside_commits_of_limited_flows_end(
    postgres_url: str, tmp_path: Path
) -> None:
    """Both lock flows: in one order, so that neither waits for the other."""
    with race(postgres_url, tmp_path / "home") as on:
        flows = [sweep(on, tmp_path, 4, max_running=1) for _ in range(4)]
        held = on.held()
        assert held.keys() == set(flows)
        committed, claimed = on.meet(
            lambda: on.commit(held[flows[0]], ""),
            lambda: take(on),
            at=(aero.db.queries.claims, "leave_running"),
        )
        on.sound(committed, claimed)
        assert running(on) + len(take(on)) == len(flows)
