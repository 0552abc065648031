"""Two transactions at once, brought to the same point whatever the machine's load.

Each scenario lets a first transaction go up to a named function, begins a second one,
waits until that is done or blocked by a lock, and lets the first one go on. It raises a
Violation where a law did not hold. There are no sleeps that anything depends on.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text

import aero.db.queries.claims
import aero.db.queries.flows
import aero.db.queries.runs
import aero.registration
import aero.runs.commit
import aero.scheduling
from aero.app import Aero
from aero.db.models import DataVersion, Flow, Run, RunInput
from aero.error import AeroError
from aero.runs.dispatch import Dispatcher
from aero.scheduling import tick
from aero.testing import make_app
from tests.histories import Violation, Workers, analyse, sha256
from tests.invariants import check_invariants

PATIENCE = 20


class Work(threading.Thread):
    """Runs `work` in a thread, and keeps what it returned or raised."""

    def __init__(self, name: str, work: Callable[[], Any]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self.result: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001 -- the scenario judges it
            self.error = error

    def end(self) -> Any:
        self.join(PATIENCE)
        assert not self.is_alive(), f"{self.name} did not end"
        return self.error if self.error is not None else self.result


class Race:
    """A workspace on PostgreSQL whose transactions meet where a scenario wants it."""

    def __init__(self, app: Aero, workers: Workers) -> None:
        self.app = app
        self.workers = workers
        self.number = 0
        self.function = app.register_function(analyse)
        self.dispatcher: Dispatcher = app.engine._ready()
        self.dispatcher.enter()

    def source(self, **options: Any) -> tuple[str, str]:
        """Register an ingestion; return its id and its Data's."""
        return self._register(
            None,
            {},
            {"out": {"url": f"http://127.0.0.1:9/{self.number}"}},
            policy="INGESTION",
            **options,
        )

    def analysis(
        self, *data: str, policy: str, output: str | None = None
    ) -> tuple[str, str]:
        """Register an analysis of these Data; return its id and its Data's."""
        inputs = {f"x{i}": {"id": each} for i, each in enumerate(data)}
        made = {} if output is None else {"id": output}
        return self._register(self.function, inputs, {"out": made}, policy=policy)

    def _register(self, *args: Any, **options: Any) -> tuple[str, str]:
        self.number += 1
        kwargs = {"number": self.number}
        flow = self.app.register_flow("local", *args, kwargs, **options)
        return flow["id"], flow["contributed_to"][0]["id"]

    def held(self) -> dict[str, Any]:
        """Claim what may start; return flow -> what the dispatcher holds."""
        self.dispatcher.wake()
        self.dispatcher.step()
        return {held.run.flow_id: held for held in self.dispatcher._held.values()}

    def commit(self, held: Any, content: str) -> None:
        """Commit a run whose output has this content."""
        del self.dispatcher._held[held.run.id]
        payload = held.task["aero"]
        for entry in payload["output_data"].values():
            entry.update(sha256=sha256(content), size=1, uri="", etag=content)
            if "url" in entry:
                entry["retrieved_at"] = "2026-01-01T00:00:00+00:00"
        result = {"aero": payload, "steps": [], "environment": {}, "error": None}
        self.dispatcher._commit(held, result)

    def waiting(self, flow: str) -> list[dict[str, int]]:
        """Return the inputs of the flow's PENDING runs."""
        return self._inputs(flow, "PENDING")

    def running(self, flow: str) -> list[dict[str, int]]:
        """Return the inputs of the flow's RUNNING runs."""
        return self._inputs(flow, "RUNNING")

    def _inputs(self, flow: str, status: str) -> list[dict[str, int]]:
        with self.app.db.read() as tx:
            runs = tx.execute(
                select(Run.id).where(Run.flow_id == flow, Run.status == status)
            ).scalars()
            return [
                dict(
                    tx.execute(
                        select(RunInput.name, DataVersion.version)
                        .join(DataVersion, DataVersion.id == RunInput.version_id)
                        .where(RunInput.run_id == run)
                    ).all()
                )
                for run in runs.all()
            ]

    def meet(
        self,
        first: Callable[[], Any],
        second: Callable[[], Any],
        *,
        at: tuple[Any, str],
    ) -> tuple[Any, Any]:
        """Run both, the second beside the first as it has just done `at`."""
        reached, go_on = threading.Event(), threading.Event()
        module, name = at
        original = getattr(module, name)

        def stopping(*args: Any, **kwargs: Any) -> Any:
            found = original(*args, **kwargs)
            if threading.current_thread().name == "first" and not reached.is_set():
                reached.set()
                assert go_on.wait(PATIENCE)
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, name, stopping)
            one, two = Work("first", first), Work("second", second)
            one.start()
            assert reached.wait(PATIENCE), f"{name} was not reached: {one.error}"
            two.start()
            while two.is_alive() and not self._blocked():
                two.join(0.01)
            go_on.set()
            return one.end(), two.end()

    def _blocked(self) -> bool:
        with self.app.db.read() as tx:
            return bool(
                tx.execute(
                    text(
                        "SELECT count(*) FROM pg_stat_activity WHERE "
                        "datname = current_database() AND wait_event_type = 'Lock'"
                    )
                ).scalar_one()
            )

    def sound(self, *ended: Any) -> None:
        """Raise a Violation for an unexpected error, or what may never be."""
        errors = [each for each in ended if isinstance(each, Exception)]
        found = check_invariants(self.app.db)
        if errors or found:
            raise Violation(f"{errors} {found}")


@contextmanager
def race(url: str, home: Path) -> Iterator[Race]:
    """Open an empty workspace on PostgreSQL."""
    workers = Workers()
    with make_app(home, database_url=url, executor=workers, workers=8) as app:
        yield Race(app, workers)


# -- the scenarios -----------------------------------------------------------------


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


def tick_beside_commit(on: Race) -> None:
    """A flow is due as its run commits: it fires once, and neither waits for ever."""
    source, _ = on.source(timer_delay=86400)
    held = on.held()
    _make_due(on, source)
    committed, ticked = on.meet(
        lambda: on.commit(held[source], "a"),
        lambda: tick(on.app.db),
        at=(aero.db.queries.flows, "set_values"),
    )
    on.sound(committed, ticked)
    if ticked + tick(on.app.db) != 1 or on.waiting(source) != [{}]:
        raise Violation(f"one tick made {on.waiting(source)}")


def two_ticks_at_once(on: Race) -> None:
    """Two schedulers see the same flow due: it fires once."""
    source, _ = on.source(timer_delay=86400)
    on.commit(on.held()[source], "a")
    _make_due(on, source)
    ticked = on.meet(
        lambda: tick(on.app.db),
        lambda: tick(on.app.db),
        at=(aero.scheduling.lifecycle, "trigger"),
    )
    on.sound(*ticked)
    if sum(ticked) != 1 or on.waiting(source) != [{}]:
        raise Violation(f"one tick fired {ticked}")


def _make_due(on: Race, flow: str) -> None:
    def work(tx: Any) -> None:
        values = {"next_due": on.app.db.now(tx)}
        tx.execute(Flow.__table__.update().where(Flow.id == flow).values(**values))

    on.app.db.write(work)


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
    on.held()
    found = on.running(flow), on.waiting(flow)
    if found != ([{"x0": 2}], []):
        raise Violation(f"the joined run was started too early, or twice: {found}")


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
    run = next(iter(on.held().values())).run.id
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
        return aero.db.queries.claims.claim(
            tx,
            now=on.app.db.now(tx),
            lease_expires=on.app.db.now(tx),
            claim_id=str(uuid.uuid4()),
            claimed_by=on.dispatcher._here.id,
            endpoints=["local"],
            limit=3,
        )

    claimed = on.app.db.write(work)
    if len(claimed) != 3:
        raise Violation(f"a claim of three took {len(claimed)}")


SCENARIOS = (
    claims_no_more_than_asked,
    two_inputs_at_once,
    registration_beside_first_commit,
    commit_beside_registration,
    tick_beside_commit,
    two_ticks_at_once,
    join_beside_claim,
    claim_beside_join,
    two_halves_of_a_cycle,
    two_triggers_at_once,
    retry_beside_delete,
)
