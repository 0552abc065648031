"""Processes that share a home or a store never take from what another one works on."""

import time
import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from aero import retention, scheduling
from aero.app import Aero
from aero.db.models import Flow, Run, Worker
from aero.db.queries import claims as claim_queries
from aero.db.queries.common import lock_rows
from aero.error import ConflictError
from aero.runs import leases, presence
from aero.runs.presence import Presence
from aero.testing import make_app
from tests.scenarios import tick


@pytest.mark.parametrize("question", [1, 2])
def test_a_sweep_leaves_what_a_run_makes_that_starts_meanwhile(
    question: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run starts just after the sweep asked, for that time, which runs live."""
    running_ids, asked = claim_queries.running_ids, []
    made = [tmp_path / "scratch" / "new.1.0a", tmp_path / "store" / "tmp" / "0b"]

    def starts_meanwhile(tx: Any) -> set[str]:
        started = {"new"} if len(asked) >= question else set()
        living = running_ids(tx) | started
        asked.append(tx)
        if len(asked) == question:
            for path in made:
                path.write_text("half")
        return living

    monkeypatch.setattr(claim_queries, "running_ids", starts_meanwhile)
    with make_app(tmp_path) as app:
        for path in made:
            path.parent.mkdir(parents=True)
        leases.sweep(app.db, app.settings.scratch, app.storage_location)
    assert len(asked) == 2
    assert [path for path in made if not path.exists()] == []


def test_a_sweep_leaves_half_written_files_while_another_machine_works(
    postgres_url: str, tmp_path: Path
) -> None:
    half = tmp_path / "store" / "tmp" / "0a"
    half.parent.mkdir(parents=True)
    half.write_text("half")
    shared = {"database_url": postgres_url, "store": tmp_path / "store"}
    with make_app(tmp_path / "here", **shared) as app:
        app.settings.scratch.mkdir(parents=True)
        run = _wanted(app)
        other = Presence(tmp_path / "elsewhere")
        app.db.write(lambda tx: _work_on(tx, app.db.now(tx), run, other, "there", 9.0))
        leases.sweep(app.db, app.settings.scratch, app.storage_location)
        assert half.exists()
        app.cancel_run(run)
        leases.sweep(app.db, app.settings.scratch, app.storage_location)
        assert not half.exists()


def _wanted(app: Aero) -> str:
    flow = app.register_flow("local", app.register_function(tick), policy="NONE")
    return str(app.run_flow(flow["id"], wait=False)["id"])


@pytest.mark.parametrize(("host", "taken"), [("elsewhere", False), (None, True)])
def test_only_of_this_machine_a_lock_file_says_who_is_gone(
    host: str | None, taken: bool, postgres_url: str, tmp_path: Path
) -> None:
    """On a network file system another machine's lock may look free."""
    with make_app(tmp_path / "a", database_url=postgres_url) as app:
        run = _wanted(app)
        here, other = Presence(tmp_path / "workers"), Presence(tmp_path / "workers")
        app.db.write(lambda tx: _work_on(tx, app.db.now(tx), run, other, host, 3600.0))
        (tmp_path / "workers").mkdir()
        (tmp_path / "workers" / f"{other.id}.lock").touch()
        leases.recover(app.db, here, [])
        assert (app.get_run(run)["status"] == "PENDING") is taken


def _work_on(
    tx: Any,
    now: datetime,
    run: str,
    other: Presence,
    host: str | None,
    lease: float,
) -> None:
    """Let another process hold a run, for as many seconds."""
    presence.beat(tx, other, now)
    if host is not None:
        tx.execute(update(Worker).values(host=host))
    values = {"claim": str(uuid.uuid4()), "claimed_by": other.id}
    moments = {"started_at": now, "lease_expires": now + timedelta(seconds=lease)}
    held = update(Run).where(Run.id == run)
    tx.execute(held.values(status="RUNNING", **values, **moments))


def test_a_lost_run_is_taken_as_its_lease_runs_out(tmp_path: Path) -> None:
    """And not only with the heartbeat that comes after that."""
    with make_app(tmp_path, lease=7200.0, heartbeat=3600.0) as app:
        run = _wanted(app)
        other = Presence(tmp_path / "elsewhere")
        app.db.write(lambda tx: _work_on(tx, app.db.now(tx), run, other, None, 1.0))
        app.run_until_idle(30)
        found = app.get_run(run)
        assert (found["status"], found["attempt"]) == ("SUCCEEDED", 2)


def test_two_machines_do_not_gc_the_same_store_at_once(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"database_url": postgres_url, "store": tmp_path / "store"}
    oldest_start, refused = retention.queries.oldest_start, []

    def meanwhile(tx: Any) -> Any:
        monkeypatch.setattr(retention.queries, "oldest_start", oldest_start)
        with pytest.raises(ConflictError, match="Another gc") as error:
            two.gc()
        refused.append(error)
        return oldest_start(tx)

    with (
        make_app(tmp_path / "one", **shared) as one,
        make_app(tmp_path / "two", **shared) as two,
    ):
        monkeypatch.setattr(retention.queries, "oldest_start", meanwhile)
        one.gc()
        assert refused
        two.gc()


def test_a_flow_that_another_holds_is_not_asked_for_without_pause(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticked = []
    with make_app(tmp_path, database_url=postgres_url) as app:
        flow = app.register_flow(
            "local", app.register_function(tick), policy="TIMER", cron="0 0 1 1 *"
        )["id"]
        due = update(Flow).where(Flow.id == flow)
        app.db.write(lambda tx: tx.execute(due.values(next_due=app.db.now(tx))))
        original = scheduling.tick
        monkeypatch.setattr(
            scheduling, "tick", lambda db: ticked.append(original(db)) or ticked[-1]
        )
        with app.db.engine.begin() as other:
            lock_rows(other, Flow, [flow])
            app.start()
            while not ticked:
                time.sleep(0.01)
            # How often it asks is the question.
            time.sleep(1.0)
            held = len(ticked)
        app.engine.run_until(lambda _tx: 1 in ticked, timeout=30)
        app.stop()
    print(f"{held} ticks in a second for a flow that is locked")
    assert held <= 25
