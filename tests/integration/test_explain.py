"""`explain` says in one sentence why a flow did or did not run."""

import json
import uuid

import pytest

from aero.db.queries import claims
from tests.scenarios import analysis, both, failing, length, made, source, tick


@pytest.fixture
def two(app, publisher):
    publisher.publish("a", "a1")
    publisher.publish("b", "b1")
    return [source(app, publisher.url(name), name) for name in ("a", "b")]


def reason(app, flow):
    told = app.explain(flow["id"])["reason"]
    assert "\n" not in told
    return told


def pair(two):
    return {"a": made(two[0]), "b": made(two[1])}


def test_all_that_is_told(app, clock, two):
    for each in two:
        app.run_flow(each["id"])
    inputs = {"a": made(two[0]), "b": {"id": made(two[1]), "version": 1}}
    flow = analysis(app, both, inputs, ("joined",), description="why")
    app.run_until_idle(10)
    told = app.explain("why")
    assert told["flow_id"] == flow["id"]
    assert told["policy"] == "ANY"
    assert (told["enabled"], told["paused_reason"]) == (True, None)
    assert told["next_due"] is None
    assert told["last_executed"] == "2026-01-01T00:00:00+00:00"
    assert told["inputs"] == [
        {
            "name": "a",
            "data_id": made(two[0]),
            "data_name": "a",
            "pinned": None,
            "latest": 1,
            "consumed": 1,
            "newer": False,
        },
        {
            "name": "b",
            "data_id": made(two[1]),
            "data_name": "b",
            "pinned": 1,
            "latest": 1,
            "consumed": 1,
            "newer": False,
        },
    ]
    assert told["last_run"]["status"] == "SUCCEEDED"
    assert told["last_error"] is None


def test_a_first_version_is_missing(app, two):
    flow = analysis(app, both, pair(two), ("joined",))
    assert reason(app, flow) == "It waits for a first version of a, b."
    app.run_flow(two[0]["id"])
    assert reason(app, flow) == "It waits for a first version of b."


@pytest.mark.parametrize(("policy", "word"), [("ANY", "any"), ("ALL", "each")])
def test_newer_versions_are_missing(app, two, policy, word):
    for each in two:
        app.run_flow(each["id"])
    flow = analysis(app, both, pair(two), ("joined",), policy=policy)
    app.run_until_idle(10)
    assert reason(app, flow) == f"It waits for a newer version of {word} of a, b."


def test_of_all_only_the_missing_ones_are_named(app, publisher, two):
    for each in two:
        app.run_flow(each["id"])
    flow = analysis(app, both, pair(two), ("joined",), policy="ALL")
    app.run_until_idle(10)
    publisher.publish("a", "a2")
    app.run_flow(two[0]["id"])
    assert reason(app, flow) == "It waits for a newer version of each of b."
    assert [i["newer"] for i in app.explain(flow["id"])["inputs"]] == [True, False]


def test_it_waits_for_a_worker(app, two):
    run = app.run_flow(two[0]["id"], wait=False)
    assert reason(app, two[0]) == (
        f"Run {run['id'][:8]} waits for a worker: aero work runs it."
    )


def test_it_is_paused(app, two):
    app.pause_flow(two[0]["id"], "holidays")
    assert reason(app, two[0]) == (
        f"It is paused (holidays): aero resume {two[0]['id'][:8]} brings it back."
    )
    app.pause_flow(two[0]["id"])
    assert reason(app, two[0]).startswith("It is paused: aero resume")


def test_it_failed(app, two):
    app.run_flow(two[0]["id"])
    flow = analysis(app, failing, {"cases": made(two[0])})
    app.run_until_idle(10)
    [run] = app.list_runs(flow["id"])
    assert reason(app, flow) == (
        f"Its last run failed (ValueError: no good): aero retry {run['id'][:8]} tries "
        "it again."
    )
    assert app.explain(flow["id"])["last_error"] == {
        "run_id": run["id"],
        "type": "ValueError",
        "message": "no good",
    }


def test_it_is_tried_again(app, two):
    app.run_flow(two[0]["id"])
    flow = analysis(app, failing, {"cases": made(two[0])}, retries=1)
    app.engine.run_ready()
    told = reason(app, flow)
    assert "is tried again at 2026-01-01T00:00:0" in told
    assert told.endswith(": no good")


def test_its_run_was_cancelled(app, two):
    app.run_flow(two[0]["id"])
    flow = analysis(app, length, {"cases": made(two[0])})
    [run] = app.list_runs(flow["id"])
    app.cancel_run(run["id"])
    short = run["id"][:8]
    assert reason(app, flow) == (
        f"Its run {short} for the newest inputs ended CANCELLED: aero retry {short} "
        "tries it again."
    )


def test_it_is_due_later(app):
    flow = app.register_flow(
        "local", app.register_function(tick), policy="TIMER", cron="0 6 * * *"
    )
    assert reason(app, flow) == "It is due at 2026-01-01T06:00:00+00:00."
    assert app.explain(flow["id"])["next_due"] == "2026-01-01T06:00:00+00:00"
    app.pause_flow(flow["id"])
    assert app.explain(flow["id"])["next_due"] is None


def test_it_runs_only_by_hand(app):
    flow = app.register_flow("local", app.register_function(tick))
    assert reason(app, flow) == "It runs only when told to: aero run starts it."


def test_nothing_serves_its_endpoint(app, two):
    elsewhere = "0a0a0a0a-0000-4000-8000-000000000000"
    app.run_flow(two[0]["id"])
    flow = app.register_flow(
        elsewhere,
        app.register_function(length),
        {"cases": {"id": made(two[0])}},
        {"n": {}},
        policy="ANY",
    )
    assert repr(elsewhere) in reason(app, flow)


def test_it_is_running(app, two):
    told = []

    class Spy:
        """Asks while the run is under way."""

        def submit(self, fn, task):
            told.append(app.explain(two[0]["id"])["reason"])
            return real.submit(fn, task)

        def shutdown(self, **options):
            real.shutdown(**options)

    real = app.engine._executor
    app.engine._executor = Spy()
    run = app.run_flow(two[0]["id"])
    assert told == [f"Run {run['id'][:8]} is running now, attempt 1."]


def test_what_runs_of_a_wide_sweep_is_seen(app, two, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([{} for _ in range(30)]))
    app.run_flow(two[0]["id"])
    flow = analysis(app, length, {"cases": made(two[0])}, config=path, policy="NONE")
    app.run_flow(flow["id"], wait=False)
    now = app.db.clock()
    (run,) = app.db.write(
        lambda tx: claims.claim(
            tx,
            now=now,
            lease_expires=now,
            claim_id=str(uuid.uuid4()),
            claimed_by=str(uuid.uuid4()),
            endpoints=["local"],
            limit=1,
        )
    )
    assert reason(app, flow) == f"Run {run.id[:8]} is running now, attempt 1."
