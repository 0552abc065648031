"""Every policy: when it fires, with which inputs, and when it does not."""

from datetime import timedelta

import pytest

from tests.scenarios import (
    analysis,
    both,
    length,
    made,
    source,
    statuses,
    text,
    tick,
    upper,
)


@pytest.fixture
def two(app, publisher):
    """Two sources, a and b, without a version yet."""
    publisher.publish("a", "a1")
    publisher.publish("b", "b1")
    return [source(app, publisher.url(name), name) for name in ("a", "b")]


def take(app, publisher, flow, content):
    """Publish content and take it in as a version."""
    app.db.clock.advance(1)
    publisher.publish(flow["contributed_to"][0]["name"], content)
    assert app.run_flow(flow["id"])["status"] == "SUCCEEDED"


def joined(app, two, policy, **inputs):
    a, b = (made(flow) for flow in two)
    return analysis(app, both, {"a": a, "b": b, **inputs}, ("joined",), policy=policy)


def used(app, flow):
    """Return the versions each run used, oldest run first."""
    runs = list(app.list_runs(flow["id"]))[::-1]
    return [
        {i["name"]: i["version"] for i in app.get_run(run["id"])["inputs"]}
        for run in runs
    ]


def test_none_runs_only_when_told_to(app, clock, publisher, two):
    flow = joined(app, two, "NONE")
    for each in two:
        take(app, publisher, each, "new")
    clock.advance(timedelta(days=400))
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    app.run_flow(flow["id"])
    assert statuses(app, flow) == ["SUCCEEDED"]


def test_ingestion_fires_at_registration_and_then_by_its_timer(app, clock, publisher):
    url = publisher.publish("cases", "one")
    flow = source(app, url, policy="INGESTION", timer_delay=60)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    clock.advance(59.9)
    app.run_until_idle(10)
    assert len(statuses(app, flow)) == 1
    clock.advance(0.1)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "UNCHANGED"]
    publisher.publish("cases", "two")
    clock.advance(60)
    app.run_until_idle(10)
    assert statuses(app, flow)[-1] == "SUCCEEDED"


def test_ingestion_polls_daily_by_default(app, publisher):
    flow = source(app, publisher.publish("cases", "one"), policy="INGESTION")
    assert flow["timer"] == 86400
    assert flow["next_due"] == "2026-01-02T00:00:00+00:00"


def test_ingestion_by_cron_fires_at_registration_too(app, clock, publisher):
    url = publisher.publish("cases", "one")
    flow = source(app, url, policy="INGESTION", cron="30 6 * * 1-5")
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    assert app.get_flow(flow["id"], inputs_only=False)["next_due"] == (
        "2026-01-01T06:30:00+00:00"
    )
    clock.advance(timedelta(hours=7))
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "UNCHANGED"]


def test_timer_by_delay_fires_at_registration_too(app, clock, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(app, two, "NONE")
    app.delete_flow(flow["id"])
    a, b = (made(each) for each in two)
    flow = analysis(
        app, both, {"a": a, "b": b}, ("joined",), policy="TIMER", timer_delay=60
    )
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    take(app, publisher, two[0], "newer")
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    clock.advance(60)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]
    assert used(app, flow) == [{"a": 1, "b": 1}, {"a": 2, "b": 1}]


def test_timer_by_cron_fires_at_its_first_tick(app, clock):
    flow = app.register_flow(
        "local",
        app.register_function(tick),
        policy="TIMER",
        cron="0 6 * * *",
        timezone="Europe/Berlin",
    )
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    assert flow["next_due"] == "2026-01-01T05:00:00+00:00"
    clock.advance(timedelta(hours=5))
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SUCCEEDED"]
    [run] = app.list_runs(flow["id"])
    assert run["trigger_key"] == "timer:2026-01-01T05:00:00+00:00"
    assert run["trigger_kind"] == "timer"


def test_timer_is_skipped_with_the_reason_while_an_input_has_no_version(
    app, clock, publisher, two
):
    a, b = (made(each) for each in two)
    flow = analysis(
        app, both, {"a": a, "b": b}, ("joined",), policy="TIMER", timer_delay=60
    )
    take(app, publisher, two[0], "x")
    clock.advance(60)
    app.run_until_idle(10)
    assert statuses(app, flow) == ["SKIPPED", "SKIPPED"]
    messages = [run["error_message"] for run in app.list_runs(flow["id"])]
    assert messages[0] == "No version yet of b: it runs once there is one."
    assert "a, b" in messages[1]
    take(app, publisher, two[1], "y")
    clock.advance(60)
    app.run_until_idle(10)
    assert statuses(app, flow)[-1] == "SUCCEEDED"


def test_any_waits_for_every_input_and_then_for_any(app, publisher, two):
    flow = joined(app, two, "ANY")
    take(app, publisher, two[0], "a2")
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    take(app, publisher, two[1], "b2")
    app.run_until_idle(10)
    assert used(app, flow) == [{"a": 1, "b": 1}]
    take(app, publisher, two[0], "a3")
    app.run_until_idle(10)
    take(app, publisher, two[1], "b3")
    app.run_until_idle(10)
    assert used(app, flow)[1:] == [{"a": 2, "b": 1}, {"a": 2, "b": 2}]


def test_any_is_judged_at_registration(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(app, two, "ANY")
    [run] = app.list_runs(flow["id"])
    assert (run["status"], run["trigger_key"]) == ("PENDING", "inputs:a=1,b=1")


def test_any_takes_updates_that_come_while_it_waits_together(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(app, two, "ANY")
    app.pause_flow(flow["id"])
    for content in ("p", "q", "r"):
        take(app, publisher, two[0], content)
    app.resume_flow(flow["id"])
    app.run_until_idle(10)
    assert used(app, flow) == [{"a": 4, "b": 1}]


def test_all_waits_for_each(app, publisher, two):
    flow = joined(app, two, "ALL")
    take(app, publisher, two[0], "a2")
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    take(app, publisher, two[1], "b2")
    app.run_until_idle(10)
    assert used(app, flow) == [{"a": 1, "b": 1}]
    for content in ("a3", "a4"):
        take(app, publisher, two[0], content)
        app.run_until_idle(10)
    assert len(statuses(app, flow)) == 1
    take(app, publisher, two[1], "b3")
    app.run_until_idle(10)
    assert used(app, flow)[1:] == [{"a": 3, "b": 2}]


def test_all_is_judged_at_registration(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(app, two, "ALL")
    assert statuses(app, flow) == ["PENDING"]


@pytest.mark.parametrize("policy", ["ANY", "ALL"])
def test_a_pinned_input_is_used_and_never_triggers(
    app, publisher, two, policy, tmp_path
):
    for each in two:
        take(app, publisher, each, "first ")
    flow = joined(app, two, policy, b={"id": made(two[1]), "version": 1})
    app.run_until_idle(10)
    take(app, publisher, two[1], "second ")
    app.run_until_idle(10)
    assert used(app, flow) == [{"a": 1, "b": 1}]
    take(app, publisher, two[0], "third ")
    app.run_until_idle(10)
    assert used(app, flow)[1:] == [{"a": 2, "b": 1}]
    assert text(app, made(flow), tmp_path) == "third first "


def test_a_flow_of_pinned_inputs_alone_never_fires(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(
        app,
        two,
        "ANY",
        a={"id": made(two[0]), "version": 1},
        b={"id": made(two[1]), "version": 1},
    )
    take(app, publisher, two[0], "y")
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    assert app.explain(flow["id"])["reason"].startswith("It runs only when told to")


def test_the_same_content_triggers_nothing(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = joined(app, two, "ANY")
    app.run_until_idle(10)
    publisher.publish("a", "x", etag="another")
    assert app.run_flow(two[0]["id"])["status"] == "UNCHANGED"
    app.run_until_idle(10)
    assert len(statuses(app, flow)) == 1


def test_a_failed_run_has_not_consumed_its_inputs(app, publisher, two):
    for each in two:
        take(app, publisher, each, "x")
    flow = analysis(
        app,
        both,
        {"a": made(two[0]), "b": made(two[1])},
        ("other_name",),
        policy="ALL",
    )
    app.run_until_idle(10)
    assert statuses(app, flow) == ["FAILED"]
    take(app, publisher, two[0], "y")
    app.run_until_idle(10)
    assert statuses(app, flow) == ["FAILED", "FAILED"]
    assert used(app, flow)[1:] == [{"a": 2, "b": 1}]


def test_chains_run_to_their_end(app, publisher, two, tmp_path):
    first = analysis(app, upper, {"cases": made(two[0])}, ("cases",))
    second = analysis(app, length, {"cases": made(first)})
    for content in ("one", "three"):
        take(app, publisher, two[0], content)
        app.run_until_idle(10)
    assert text(app, made(first), tmp_path) == "THREE"
    assert text(app, made(second), tmp_path) == "5"
    assert statuses(app, second) == ["SUCCEEDED", "SUCCEEDED"]


def test_an_event_source_waits_for_a_notification(app, clock, publisher):
    flow = source(app, publisher.publish("c", "one"), policy="INGESTION_EVENT")
    clock.advance(timedelta(days=30))
    app.run_until_idle(10)
    assert statuses(app, flow) == []
    assert app.explain(flow["id"])["reason"] == "It waits for a notification."
    app.run_flow(flow["id"])
    assert statuses(app, flow) == ["SUCCEEDED"]


def test_events_about_different_objects_never_coalesce(app, publisher):
    from aero.db.queries import flows as flow_queries
    from aero.runs import lifecycle
    from aero.runs.lifecycle import Trigger
    from aero.triggers import event_key

    flow = source(app, publisher.publish("x", "x"), policy="INGESTION_EVENT")
    publisher.publish("y", "y")

    def notify(tx):
        rule = flow_queries.rules(tx, [flow["id"]])[flow["id"]]
        due = [
            Trigger(
                flow_id=flow["id"],
                task=0,
                key=event_key(key, delivery),
                kind="event",
                source_key=key,
                event={"url": publisher.url(key)},
            )
            for key, delivery in (("x", "1"), ("y", "2"), ("x", "3"), ("x", "1"))
        ]
        return lifecycle.trigger(tx, app.db.now(tx), due, rules={flow["id"]: rule})

    x, y, again, repeated = app.db.write(notify)
    assert x == again == repeated != y
    assert app.db.write(notify) == [x, y, x, x]
    app.run_until_idle(10)
    versions = {v["source_key"]: v for v in app.list_versions("cases")}
    assert sorted(versions) == ["x", "y"]
    assert statuses(app, flow) == ["SUCCEEDED", "SUCCEEDED"]
