"""What meets on PostgreSQL; each raises a Violation where a law did not hold."""

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import text

import aero.db.queries.claims
import aero.db.queries.flows
import aero.db.queries.runs
import aero.registration
import aero.runs.commit
import aero.scheduling
from aero.error import AeroError
from aero.runs.lifecycle import Failure
from aero.scheduling import tick
from tests.faults.racing import Race
from tests.histories import Violation

LOST = Failure(type="WorkerLostError", message="It is gone.", fault="lost")


def two_inputs_at_once(on: Race) -> None:
    """Two inputs of an ALL flow are committed at once: one of them must fire it."""
    (one, left), (two, right) = on.source(), on.source()
    flow, _ = on.analysis(left, right, policy="ALL")
    held = on.held()
    ended = on.meet(
        lambda: on.commit(held[one], "a"),
        lambda: on.commit(held[two], "b"),
        at=(aero.runs.commit.lifecycle, "judge"),
    )
    on.sound(*ended)
    if on.waiting(flow) != [{"x0": 1, "x1": 1}]:
        raise Violation(f"both commits missed the other: {on.waiting(flow)}")


def registration_beside_first_commit(on: Race) -> None:
    """A flow is registered as its input gets its first version: it must fire."""
    source, data = on.source()
    held = on.held()
    committed, registered = on.meet(
        lambda: on.commit(held[source], "a"),
        lambda: on.analysis(data, policy="ANY"),
        at=(aero.db.queries.flows, "dependents"),
    )
    on.sound(committed, registered)
    if on.waiting(registered[0]) != [{"x0": 1}]:
        raise Violation("commit and registration missed each other")


def commit_beside_registration(on: Race) -> None:
    """An input gets its first version as a flow is registered: it must fire."""
    source, data = on.source()
    held = on.held()
    registered, committed = on.meet(
        lambda: on.analysis(data, policy="ANY"),
        lambda: on.commit(held[source], "a"),
        at=(aero.registration.lifecycle, "judge"),
    )
    on.sound(committed, registered)
    if on.waiting(registered[0]) != [{"x0": 1}]:
        raise Violation("commit and registration missed each other")


def crossing_commits(on: Race) -> None:
    """F1 -> F2, F1 -> F3 and F3 -> F2 commit at once: neither waits for the other."""
    f1, first = on.source()
    f3, third = on.analysis(first, policy="ANY")
    f2, _ = on.analysis(first, third, policy="ANY")
    while f3 < f2:
        # Who locks its own flow before the others then meets who holds F2.
        on.app.delete_flow(f3)
        f3, _ = on.analysis(first, policy="ANY", output=third)
    on.commit(on.held()[f1], "a")
    on.app.run_flow(f1, wait=False)
    held = on.held()
    ended = on.meet(
        lambda: on.commit(held[f3], "c"),
        lambda: on.commit(held[f1], "b"),
        at=r"FROM flow\b.*FOR UPDATE",
    )
    on.sound(*ended)
    found = on.waiting(f2), on.waiting(f3)
    if found != ([{"x0": 2, "x1": 1}], [{"x0": 2}]):
        raise Violation(f"the commits missed each other: {found}")


def tick_beside_commit(on: Race) -> None:
    """A flow is due as its run commits: the tick does not wait, and none is lost."""
    (source, _), (other, _) = (on.source(timer_delay=86400) for _ in range(2))
    held = on.held()
    for flow in (source, other):
        on.make_due(flow)
    committed, ticked = on.meet(
        lambda: on.commit(held[source], "a"),
        lambda: tick(on.app.db),
        at=(aero.db.queries.flows, "executed"),
    )
    on.sound(committed, ticked)
    if on.waited or ticked != 1:
        raise Violation(f"a commit kept the others waiting: {ticked}")
    if tick(on.app.db) != 1 or on.waiting(source) != [{}] != on.waiting(other):
        raise Violation(f"two ticks made {on.waiting(source)}, {on.waiting(other)}")


def tick_beside_failure(on: Race) -> None:
    """A flow is due as its run is to be tried again: one run waits."""
    source, held = _due_while_running(on)
    failed, ticked = on.meet(
        lambda: on.dispatcher._fail(held, LOST),
        lambda: tick(on.app.db),
        at=(aero.db.queries.runs, "has_pending"),
    )
    on.sound(failed, ticked)
    if ticked + tick(on.app.db) != 1 or on.waiting(source) != [{}]:
        raise Violation(f"one tick made {on.waiting(source)}")


def failure_beside_tick(on: Race) -> None:
    """A run is to be tried again as its flow is due: one run waits."""
    source, held = _due_while_running(on)
    ticked, failed = on.meet(
        lambda: tick(on.app.db),
        lambda: on.dispatcher._fail(held, LOST),
        at=(aero.scheduling.lifecycle, "trigger"),
    )
    on.sound(ticked, failed)
    if ticked != 1 or on.waiting(source) != [{}]:
        raise Violation(f"one tick made {on.waiting(source)}")


def _due_while_running(on: Race) -> tuple[str, Any]:
    source, _ = on.source(timer_delay=86400)
    held = on.held()[source]
    del on.dispatcher._held[held.run.id]
    on.make_due(source)
    return source, held


def tick_beside_delete(on: Race) -> None:
    """A flow is due as it is deleted: no run is left waiting for nothing."""
    source, _ = on.source(timer_delay=86400)
    on.commit(on.held()[source], "a")
    on.make_due(source)
    ended = on.meet(
        lambda: on.app.delete_flow(source),
        lambda: tick(on.app.db),
        at=(aero.db.queries.runs, "living"),
    )
    on.sound(*ended)


def two_claims_at_once(on: Race) -> None:
    """Two processes look for work: neither waits, and each run is claimed once."""
    for _ in range(3):
        on.source()

    def claim() -> set[str]:
        claimed = on.app.db.write(lambda tx: _claim(on, tx, limit=3))
        return {run.id for run in claimed}

    one, two = on.meet(claim, claim, at=(aero.db.queries.claims, "claim"))
    on.sound(one, two)
    if on.waited or (len(one), len(two)) != (3, 0):
        raise Violation(f"of three runs {len(one)} and {len(two)} were claimed")


def two_ticks_at_once(on: Race) -> None:
    """Two schedulers see the same flow due: it fires once."""
    source, _ = on.source(timer_delay=86400)
    on.commit(on.held()[source], "a")
    on.make_due(source)
    ticked = on.meet(
        lambda: tick(on.app.db),
        lambda: tick(on.app.db),
        at=(aero.scheduling.lifecycle, "trigger"),
    )
    on.sound(*ticked)
    if sum(ticked) != 1 or on.waiting(source) != [{}]:
        raise Violation(f"one tick fired {ticked}")


def join_beside_claim(on: Race) -> None:
    """A PENDING run is claimed as a trigger would join it: another run is made."""
    source, data = on.source()
    on.commit(on.held()[source], "a")
    flow, _ = on.analysis(data, policy="ANY")
    newer = _second_poll(on, source, but=flow)
    ended = on.meet(
        on.held, lambda: on.commit(newer, "b"), at=(aero.db.queries.claims, "claim")
    )
    on.sound(*ended)
    found = on.running(flow), on.waiting(flow)
    if found != ([{"x0": 1}], [{"x0": 2}]):
        raise Violation(f"a claimed run was changed, or the update lost: {found}")


def claim_beside_join(on: Race) -> None:
    """A trigger joins a PENDING run as it would be claimed: it starts with the new."""
    source, data = on.source()
    on.commit(on.held()[source], "a")
    flow, _ = on.analysis(data, policy="ANY")
    newer = _second_poll(on, source, but=flow)
    ended = on.meet(
        lambda: on.commit(newer, "b"),
        on.held,
        at=(aero.db.queries.runs, "join_pending"),
    )
    on.sound(*ended)
    given = [each.version for each in on.held()[flow].inputs]
    found = on.running(flow), on.waiting(flow)
    if given != [2] or found != ([{"x0": 2}], []):
        raise Violation(f"the joined run was given {given}: {found}")


def _second_poll(on: Race, source: str, *, but: str) -> Any:
    """Start another run of a source, while `but` waits."""
    on.app.pause_flow(but)
    on.app.run_flow(source, wait=False)
    held = on.held()[source]
    on.app.resume_flow(but)
    return held


def two_halves_of_a_cycle(on: Race) -> None:
    """Two flows are registered that would feed each other: one is refused."""
    _, base = on.source()
    data = []
    for _ in range(4):
        flow, made = on.analysis(base, policy="ANY")
        on.app.delete_flow(flow)
        data.append(made)
    on.analysis(data[1], policy="ANY", output=data[2])
    on.analysis(data[3], policy="ANY", output=data[0])
    ended = on.meet(
        lambda: on.analysis(data[0], policy="ANY", output=data[1]),
        lambda: on.analysis(data[2], policy="ANY", output=data[3]),
        at=(aero.registration, "_check_cycle"),
    )
    refused = [each for each in ended if isinstance(each, AeroError)]
    on.sound(*(each for each in ended if each not in refused))
    if len(refused) != 1:
        raise Violation(f"of two halves of a cycle {len(refused)} were refused")


def two_triggers_at_once(on: Race) -> None:
    """Two people run a flow now: there is one PENDING run, whoever fails."""
    source, _ = on.source()
    on.commit(on.held()[source], "a")
    ended = on.meet(
        lambda: on.app.run_flow(source, wait=False),
        lambda: on.app.run_flow(source, wait=False),
        at=(aero.db.queries.runs, "join_pending"),
    )
    if len(on.waiting(source)) != 1:
        raise Violation(f"{len(on.waiting(source))} runs wait in one slot: {ended}")


def retry_beside_delete(on: Race) -> None:
    """A run is retried as its flow is deleted: no run is left waiting for nothing."""
    source, _ = on.source()
    run = on.held()[source].run.id
    on.app.cancel_run(run)
    on.meet(
        lambda: on.app.delete_flow(source),
        lambda: on.app.retry_run(run),
        at=(aero.db.queries.runs, "living"),
    )
    on.sound()


def claims_no_more_than_asked(on: Race) -> None:
    """A claim of three takes three, whatever plan the database makes."""
    for _ in range(12):
        on.source()

    def work(tx: Any) -> Any:
        # What is left is the plan that asks for the three once for every run.
        for way in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
            tx.execute(text(f"SET LOCAL enable_{way} = off"))
        return _claim(on, tx, limit=3)

    claimed = on.app.db.write(work)
    if len(claimed) != 3:
        raise Violation(f"a claim of three took {len(claimed)}")


def _claim(on: Race, tx: Any, *, limit: int) -> Any:
    now = on.app.db.now(tx)
    return aero.db.queries.claims.claim(
        tx,
        now=now,
        lease_expires=now + timedelta(hours=1),
        claim_id=str(uuid.uuid4()),
        claimed_by=on.dispatcher._here.id,
        endpoints=["local"],
        limit=limit,
    )


SCENARIOS = (
    claims_no_more_than_asked,
    two_inputs_at_once,
    registration_beside_first_commit,
    commit_beside_registration,
    crossing_commits,
    tick_beside_commit,
    tick_beside_failure,
    failure_beside_tick,
    tick_beside_delete,
    two_ticks_at_once,
    two_claims_at_once,
    join_beside_claim,
    claim_beside_join,
    two_halves_of_a_cycle,
    two_triggers_at_once,
    retry_beside_delete,
)
