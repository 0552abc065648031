"""Several `aero work` on one PostgreSQL: nothing lost, nothing doubled."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import update

from aero import AeroOutput
from aero.db.models import DataVersion, Flow, Provenance, Run, RunTrigger
from aero.runs import leases
from tests.faults.replicas import Group
from tests.invariants import check_invariants

FLOWS, TASKS = 200, 10
PROCESSES = ("left", "left", "middle", "right")
LEASE, HEARTBEAT = 4.0, 1.0
BACK_OFF = 1.0
SLACK = 15.0


def note(executed: str, name: str, wait: float = 0.0, go: str = "") -> AeroOutput:
    """Note this execution, then wait so long, or until there is a file."""
    import os
    import time
    from pathlib import Path

    log = os.open(executed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{name}\n".encode())
    os.close(log)
    time.sleep(wait)
    while go and not Path(go).exists():
        time.sleep(0.02)
    Path("out.txt").write_text(f"made of {name}")
    return AeroOutput("out", "out.txt")


@pytest.fixture
def group(postgres_url: str, tmp_path: Path) -> Iterator[Group]:
    """An empty workspace for several processes."""
    with Group(postgres_url, tmp_path) as made:
        yield made


def _register(
    group: Group, flows: int, tasks: int, *, wait: float = 0.0, retries: int = 0
) -> None:
    """Register sweeps that are due only when somebody says so."""
    function = group.app.register_function(note)
    for flow in range(flows):
        config = group.folder / "sweep.json"
        entries = [
            {"executed": str(group.executed), "name": f"{flow}/{task}", "wait": wait}
            for task in range(tasks)
        ]
        config.write_text(json.dumps(entries))
        group.app.register_flow(
            "local",
            function,
            {},
            {"out": {}},
            config=config,
            policy="TIMER",
            cron="0 0 1 1 *",
            retries=retries,
        )


def _make_due(group: Group, delay: float) -> datetime:
    due = group.now() + timedelta(seconds=delay)
    group.app.db.write(lambda tx: tx.execute(update(Flow).values(next_due=due)))
    return due


def _hold(group: Group, **settings: Any) -> tuple[Any, str, Path]:
    """Start a process that works on a run until a file is there; return all three."""
    go = group.folder / "go"
    flow = group.app.register_flow(
        "local",
        group.app.register_function(note),
        {},
        {"out": {}},
        {"executed": str(group.executed), "name": "held", "go": str(go)},
        policy="NONE",
    )
    run = group.app.run_flow(flow["id"], wait=False)["id"]
    holder = group.start("holder", **settings)
    group.until(group.executions, holder)
    return holder, run, go


def _lease_of(group: Group, run: str) -> datetime:
    ((lease,),) = (
        [lease] for each, lease in group.rows(Run.id, Run.lease_expires) if each == run
    )
    return lease


def _sound(group: Group, runs: int) -> str:
    """Assert that every run committed once; return the figures."""
    store = group.app.settings.store
    assert check_invariants(group.app.db, store=store, idle=True) == []
    statuses = Counter(status for (status,) in group.rows(Run.status))
    assert statuses == {"SUCCEEDED": runs}
    triggers = group.rows(RunTrigger.run_id)
    assert len(triggers) == len(set(triggers)) == runs
    commits = group.count(Provenance)
    assert commits == group.count(DataVersion) == runs
    executions = group.executions()
    assert len(set(executions)) == runs
    assert not [p for p in (store / "tmp").rglob("*") if p.is_file()]
    return f"{len(executions)} executions, {commits} commits"


def test_two_thousand_runs_in_four_processes(group: Group) -> None:
    _register(group, FLOWS, TASKS)
    _make_due(group, 5.0)
    replicas = [group.start(home) for home in PROCESSES]
    runs = FLOWS * TASKS
    group.until(group.executions, *replicas)
    began = time.monotonic()
    group.until(lambda: group.count(Provenance) == runs, *replicas, patience=300)
    seconds = time.monotonic() - began
    assert [each.stop() for each in replicas] == [0] * len(PROCESSES)
    figures = _sound(group, runs)
    assert len(group.executions()) == runs
    shares = Counter(name for (name,) in group.rows(Run.claimed_by))
    print(
        f"{runs} runs in {seconds:.1f} s ({runs / seconds:.0f}/s): {figures}, "
        f"shares {sorted(shares.values())}"
    )
    assert len(shares) == len(PROCESSES)


def test_killed_at_random_everything_ends_once(group: Group) -> None:
    """Workers, dispatchers and all that one started are killed; others go on."""
    flows, tasks, kills = 30, 10, 12
    _register(group, flows, tasks, wait=0.02, retries=kills)
    _make_due(group, 0.0)
    seeded, settings = random.Random(1849), {"lease": LEASE, "heartbeat": HEARTBEAT}
    homes = ["left", "middle", "right"]
    replicas = {home: group.start(home, **settings) for home in homes}
    group.until(group.executions, *replicas.values())
    kinds: Counter[str] = Counter()
    for number in range(kills):
        time.sleep(seeded.uniform(0.0, 0.6))
        home = seeded.choice(homes)
        kind = ("worker", "dispatcher", "group")[number % 3]
        if kind == "worker":
            for pid in replicas[home].workers():
                psutil.Process(pid).kill()
        else:
            replicas[home].kill(group=kind == "group")
            replicas[home] = group.start(home, **settings)
        kinds[kind] += 1
    last = [group.start(home, "--once", **settings) for home in homes]
    assert [each.end() for each in last] == [0] * len(homes)
    for replica in replicas.values():
        assert replica.stop() == 0
    left = 0
    for scratch in (group.folder / home / "scratch" for home in homes):
        left += len(list(scratch.iterdir()))
        leases.sweep(group.app.db, scratch, group.app.storage_location)
        assert list(scratch.iterdir()) == []
    figures = _sound(group, flows * tasks)
    print(f"{dict(kinds)} kills: {figures}, {left} leftovers until the next start")


@pytest.mark.parametrize("home", ["holder", "other"])
def test_a_killed_process_delays_its_run_by_a_lease_at_most(
    home: str, group: Group
) -> None:
    """With the same home not even that: its lock file says that it is gone."""
    same = home == "holder"
    settings = {"lease": 600.0 if same else LEASE, "heartbeat": HEARTBEAT}
    holder, run, go = _hold(group, **settings)
    other = group.start(home, **settings)
    group.until(lambda: "Working" in other.said(), other)
    # From here on it extends nothing.
    holder.send(signal.SIGSTOP)
    killed, lease = group.now(), _lease_of(group, run)
    holder.kill(group=True)
    go.touch()
    group.until(lambda: len(group.executions()) > 1, other)
    group.until(lambda: group.app.get_run(run)["status"] == "SUCCEEDED", other)
    found = group.app.get_run(run)
    started = datetime.fromisoformat(found["started_at"])
    print(f"lease {settings['lease']} s, taken after {started - killed}")
    assert found["attempt"] == 2
    if same:
        assert started < lease
    else:
        assert lease <= started < lease + timedelta(seconds=BACK_OFF + SLACK)
    assert other.stop() == 0
    _sound(group, 1)


def test_a_stalled_process_whose_run_was_taken_commits_nothing(group: Group) -> None:
    # It does not beat meanwhile, so that its commit is what finds out.
    holder, run, go = _hold(group, lease=600.0, heartbeat=500.0)
    holder.send(signal.SIGSTOP)
    _run_out(group)
    go.touch()
    other = group.start("other", "--once", lease=600.0)
    assert other.end() == 0
    taken = group.app.get_run(run)
    holder.send(signal.SIGCONT)
    group.until(lambda: "its result was not committed" in holder.said(), holder)
    assert holder.stop() == 0
    assert group.app.get_run(run) == taken
    assert (taken["status"], taken["attempt"]) == ("SUCCEEDED", 2)
    assert len(group.executions()) == 2
    _sound(group, 1)


def test_a_stalled_process_whose_run_nobody_took_commits(group: Group) -> None:
    holder, run, go = _hold(group, lease=600.0, heartbeat=500.0)
    holder.send(signal.SIGSTOP)
    _run_out(group)
    go.touch()
    holder.send(signal.SIGCONT)
    group.until(lambda: group.app.get_run(run)["status"] == "SUCCEEDED", holder)
    assert holder.stop() == 0
    assert group.app.get_run(run)["attempt"] == len(group.executions()) == 1
    _sound(group, 1)


def _run_out(group: Group) -> None:
    """Let every lease have run out."""
    past = group.now() - timedelta(seconds=1)
    group.app.db.write(lambda tx: tx.execute(update(Run).values(lease_expires=past)))


@pytest.mark.parametrize("timeout", ["1s", "0"])
def test_a_process_that_stalls_within_a_commit_holds_up_nobody(
    timeout: str, group: Group
) -> None:
    """The server ends its transaction, and with it the locks; but for that timeout."""
    option = f"options=-c%20idle_in_transaction_session_timeout%3D{timeout}"
    settings = {"lease": LEASE, "heartbeat": HEARTBEAT, "url": f"{group.url}?{option}"}
    holder, run, go = _hold(group, faults={"stop_in_commit": True}, **settings)
    go.touch()
    group.until(holder.stands_still, holder)
    other = group.start("other", "--once", **settings)
    if timeout == "0":
        group.until(group.waits_for_a_lock, other)
        holder.send(signal.SIGCONT)
    assert other.end() == 0
    taken = group.app.get_run(run)
    holder.send(signal.SIGCONT)
    group.until(lambda: not holder.stands_still(), holder)
    assert holder.stop() == 0
    assert group.app.get_run(run) == taken
    attempts = 1 if timeout == "0" else 2
    assert (taken["status"], taken["attempt"]) == ("SUCCEEDED", attempts)
    _sound(group, 1)


@pytest.mark.parametrize("own", [False, True])
def test_clocks_two_minutes_apart_change_nothing(own: bool, group: Group) -> None:
    """But if processes went by their own, runs would begin in the future."""
    _register(group, 5, 4, wait=0.2)
    due = _make_due(group, 4.0)
    replicas = [
        group.start(
            home,
            faults={"ahead": ahead, "own_clock": own},
            lease=30.0,
            heartbeat=HEARTBEAT,
        )
        for home, ahead in {"early": 60, "late": -60}.items()
    ]
    group.until(lambda: group.count(Provenance) == 20, *replicas)
    assert [each.stop() for each in replicas] == [0, 0]
    now = group.now()
    columns = Run.created_at, Run.not_before, Run.started_at, Run.finished_at
    wrong = [row for row in group.rows(*columns) if list(row) != sorted(row)]
    wrong += [
        row for row in group.rows(*columns) if not due <= min(row) <= max(row) <= now
    ]
    assert bool(wrong) is own
    if not own:
        assert {attempt for (attempt,) in group.rows(Run.attempt)} == {1}
        assert min(next_due for (next_due,) in group.rows(Flow.next_due)) > now
        print(f"{_sound(group, 20)}, by clocks two minutes apart")
