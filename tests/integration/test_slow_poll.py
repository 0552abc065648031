"""A slow poll makes good what a lost notification would have told."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from aero import scheduling
from aero.app import Aero
from aero.db.queries import events as event_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import versions as version_queries
from aero.error import InvalidValueError
from aero.scheduling import tick
from aero.testing import FrozenClock, make_app
from tests.conftest import Publisher
from tests.invariants import check_invariants
from tests.scenarios import another, statuses, ticked_at_once

HOUR = timedelta(hours=1)


def versions(app: Aero, data: str) -> list[tuple[str, str]]:
    """Return key and checksum of every version, oldest first."""
    found = [(v["source_key"], v["checksum"]) for v in app.list_versions(data)]
    return found[::-1]


def poll(app: Aero, clock: FrozenClock) -> None:
    clock.advance(HOUR)
    app.run_until_idle(20)


def test_a_change_nobody_told_of_becomes_a_version_once(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    url = publisher.publish("d/a.csv", "one")
    publisher.publish("d/b.csv", "other")
    made = app.create_source(
        "cases", publisher.url("d/*.csv"), type_name="T", poll_delay=3600
    )
    assert (made["poll_delay"], made["timer"]) == (3600, None)
    assert made["timer_job_id"] == made["flow_id"]
    for key in ("d/a.csv", "d/b.csv"):
        app.notify(key=key)
    app.run_until_idle(20)
    assert len(versions(app, "cases")) == 2

    publisher.publish("d/a.csv", "two")
    poll(app, clock)
    assert [key for key, _ in versions(app, "cases")][2:] == ["d/a.csv"]
    # The notification comes late, or was answered by the poll: no second version.
    run = app.notify(url=url)
    app.run_until_idle(20)
    assert app.get_run(run["id"])["status"] == "UNCHANGED"
    poll(app, clock)
    assert len(versions(app, "cases")) == 3
    ended = sorted(statuses(app, {"id": made["flow_id"]}))
    assert ended == [*["SUCCEEDED"] * 3, *["UNCHANGED"] * 4]
    keys = {run["trigger_key"] for run in app.list_runs(made["flow_id"])}
    assert "timer:2026-01-01T01:00:00+00:00:d/a.csv" in keys
    # Nothing but a question went to what did not change.
    assert publisher.requests("d/b.csv") == 3
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_a_notification_and_a_poll_at_once_make_one_version(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    publisher.publish("a.csv", "one")
    made = app.create_source("cases", publisher.url("a.csv"), poll_delay=3600)
    clock.advance(HOUR)
    run = app.notify(key="a.csv", signed_url="https://s/1")
    app.run_until_idle(20)
    # What waits is not polled: its run will ask, and knows the signed URL.
    assert statuses(app, {"id": made["flow_id"]}) == ["SUCCEEDED"]
    assert app.get_run(run["id"])["trigger_kind"] == "event"
    clock.advance(HOUR)
    assert tick(app.db) == 1
    joined = app.notify(key="a.csv")
    assert joined["trigger_kind"] == "event"
    app.run_until_idle(20)
    assert statuses(app, {"id": made["flow_id"]}) == ["SUCCEEDED", "UNCHANGED"]


@pytest.mark.parametrize("first", ["poll", "url", "file_id", "run"])
def test_one_object_is_one_whoever_tells_of_it(
    app: Aero, clock: FrozenClock, publisher: Publisher, first: str
) -> None:
    """A source without type may be named by id, by URL, or run: it has one object."""
    url = publisher.publish("a.csv", "one")
    made = app.create_source("cases", url, poll_delay=3600)
    ways = {
        "poll": lambda: clock.advance(HOUR),
        "url": lambda: app.notify(url=url),
        "file_id": lambda: app.notify(file_id=made["id"]),
        "run": lambda: app.run_flow(made["flow_id"], timeout=20),
    }
    for number, way in enumerate([first, *(w for w in ways if w != first)]):
        ways[way]()
        app.run_until_idle(20)
        if way != "run" or first == "run":
            assert len(versions(app, "cases")) == 1, (number, way)


def test_what_is_registered_is_polled_before_it_was_ever_seen(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    publisher.publish("d/a.csv", "a")
    publisher.publish("e.csv", "e")
    app.create_source("cases", publisher.url("d/*.csv"), type_name="T", poll_delay=3600)
    app.add_type_url("T", publisher.url("e.csv"))
    poll(app, clock)
    # A pattern cannot be listed: of its objects none is known yet.
    assert [key for key, _ in versions(app, "cases")] == ["e.csv"]


def test_without_it_nothing_is_asked(
    app: Aero,
    clock: FrozenClock,
    publisher: Publisher,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = app.create_source("cases", publisher.publish("a.csv", "a"))
    off = app.create_source("off", publisher.publish("b.csv", "b"), poll_delay=0)
    assert [made["poll_delay"], off["poll_delay"]] == [None, None]
    assert app.get_flow(made["flow_id"], inputs_only=False)["next_due"] is None
    monkeypatch.setattr(event_queries, "ingested", None)
    clock.advance(timedelta(days=30))
    app.run_until_idle(20)
    assert list(app.list_runs()) == []


def test_objects_whose_bytes_are_not_kept_are_asked_for_their_etag(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    publisher.publish("d/a.csv", "one", etag="1")
    app.create_source(
        "cases",
        publisher.url("d/*.csv"),
        type_name="T",
        no_copy=True,
        poll_delay=3600,
    )
    app.notify(key="d/a.csv", etag="1")
    publisher.publish("d/a.csv", "three", etag="2")
    poll(app, clock)
    assert versions(app, "cases") == [("d/a.csv", "1"), ("d/a.csv", '"2"')]
    newest = app.get_version("cases")
    assert newest["uri"] is None
    assert newest["data_file"]["file_name"] == "a.csv"
    assert newest["data_file"]["file_size"] == 5
    assert newest["media_type"] == "text/csv"
    poll(app, clock)
    assert app.notify(key="d/a.csv", etag="2")["status"] == "UNCHANGED"
    assert len(versions(app, "cases")) == 2
    record = app.get_provenance(next(app.list_runs(status="SUCCEEDED"))["id"])
    assert record["contributed_to"][0]["version"] == 2
    assert record["sources"] == []
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []


def test_what_cannot_be_asked_or_is_no_longer_its_own_is_left_out(
    sqlite_app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    url = publisher.publish("old.csv", "a", etag="1")
    options: dict[str, Any] = {"no_copy": True, "type_name": "T", "poll_delay": 3600}
    made = sqlite_app.create_source("cases", url, **options)
    sqlite_app.add_type_url("T", "s3://b/far.csv")
    for key in ("old.csv", "far.csv"):
        sqlite_app.notify(key=key, etag="1")
    state = {"data_id": made["id"], "task": 0, "source_key": "other.csv"}
    now = {"last_checked": clock(), "url": publisher.url("other.csv")}
    unknown = {"etag": None, "last_modified": None, "raw_sha256": None}
    sqlite_app.db.write(
        lambda tx: version_queries.save_source_states(tx, [state | now | unknown])
    )
    poll(sqlite_app, clock)
    [polled] = [r for r in sqlite_app.list_runs() if r["trigger_kind"] == "timer"]
    assert (polled["source_key"], polled["status"]) == ("old.csv", "UNCHANGED")


def test_a_notification_ends_the_poll_that_asks_meanwhile(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    url = publisher.publish("a.csv", "one", etag="1")
    made = app.create_source("cases", url, no_copy=True, poll_delay=3600)
    clock.advance(HOUR)
    assert tick(app.db) == 1
    [poll] = app.list_runs()
    told: list[Any] = []
    app.engine.listeners.append(
        lambda event, facts: told or told.append(app.notify(url=url, etag="1"))
    )
    app.run_until_idle(20)
    assert told[0]["status"] == "SUCCEEDED"
    ended = app.get_run(poll["id"])
    assert ended["status"] == "CANCELLED"
    assert "notification" in ended["error_message"]
    assert len(versions(app, made["id"])) == 1
    # One that waits is joined instead, and committed at once.
    clock.advance(HOUR)
    assert tick(app.db) == 1
    assert app.notify(url=url, etag="2")["status"] == "SUCCEEDED"
    assert list(app.list_runs(status="PENDING")) == []


def test_what_is_gone_is_no_failure_but_what_never_was_is(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    for name, no_copy in (("kept", False), ("tracked", True)):
        url = publisher.publish(f"{name}.csv", "x")
        app.create_source(name, url, no_copy=no_copy, poll_delay=3600)
    app.create_source("never", publisher.url("never.csv"), poll_delay=3600)
    app.create_source(
        "vague", publisher.publish("v", "v", etag=None), no_copy=True, poll_delay=3600
    )
    poll(app, clock)
    errors = sorted(run["error_message"] for run in app.list_runs(status="FAILED"))
    assert len(errors) == 2
    assert "404" in errors[0]
    assert "no etag" in errors[1]
    for name in ("kept.csv", "tracked.csv"):
        publisher.withdraw(name)
    poll(app, clock)
    assert len(list(app.list_runs(status="UNCHANGED"))) == 2
    # A refusal is one: who may no longer read it must hear of it.
    publisher.publish("kept.csv", "x")
    publisher.status = 403
    poll(app, clock)
    assert any("403" in r["error_message"] for r in app.list_runs(status="FAILED"))


def test_a_paused_source_is_polled_once_it_goes_on(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    url = publisher.publish("a.csv", "a")
    flow = app.create_source("cases", url, poll_delay=3600)["flow_id"]
    app.pause_flow(flow)
    for _ in range(3):
        poll(app, clock)
    assert list(app.list_runs()) == []
    app.resume_flow(flow)
    app.run_until_idle(20)
    assert statuses(app, {"id": flow}) == ["SUCCEEDED"]


def test_two_schedulers_poll_a_source_once(
    app: Aero, clock: FrozenClock, publisher: Publisher
) -> None:
    urls = [publisher.publish(f"{n}.csv", "a") for n in range(5)]
    app.create_source("cases", urls[0], type_name="T", poll_delay=3600)
    for url in urls[1:]:
        app.add_type_url("T", url)
    with another(app, clock=clock) as two:
        clock.advance(HOUR)
        assert ticked_at_once(app, two) == [0, 1]
    assert len(list(app.list_runs())) == 5


def test_a_tick_that_is_repeated_counts_once(
    app: Aero, clock: FrozenClock, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More objects than one statement takes, and the answer to the commit is lost."""
    monkeypatch.setattr(scheduling, "TRIGGERS", 2)
    urls = [publisher.publish(f"{n}.csv", "a") for n in range(5)]
    flow = app.create_source("cases", urls[0], type_name="T", poll_delay=3600)
    for url in urls[1:]:
        app.add_type_url("T", url)
    clock.advance(HOUR)
    due = app.get_flow(flow["flow_id"], inputs_only=False)["next_due"]
    assert tick(app.db) == 1
    app.run_until_idle(20)
    app.db.write(
        lambda tx: flow_queries.set_values(
            tx, flow["flow_id"], next_due=datetime.fromisoformat(due)
        )
    )
    assert tick(app.db) == 1
    assert len(list(app.list_runs())) == 5


def test_the_profile_may_poll_all_of_them(
    tmp_path: Any, sqlite_url: str, clock: FrozenClock, publisher: Publisher
) -> None:
    home = tmp_path / "home"
    with make_app(home, clock=clock, database_url=sqlite_url, poll_delay=60.0) as app:
        url = publisher.publish("a.csv", "a")
        assert app.create_source("a", url)["poll_delay"] == 60
        assert app.create_source("b", f"{url}2", poll_delay=5)["poll_delay"] == 5
        assert app.create_source("c", f"{url}3", poll_delay=0)["poll_delay"] is None
        # What cannot be polled is not, and what has a timer of its own keeps it.
        no_copy = {"no_copy": True, "type_name": "d"}
        assert app.create_source("d", "s3://b/d", **no_copy)["poll_delay"] is None
        polled = app.create_source("e", url, policy="INGESTION")
        assert (polled["timer"], polled["poll_delay"]) == (86400, None)
        outputs = {"x": {"url": f"{url}4"}}
        flow = app.register_flow("local", None, {}, outputs, policy="INGESTION_EVENT")
        assert (flow["poll_delay"], flow["timer"]) == (60, None)
        [entry] = app.get_data_flows("x")
        assert (entry["poll_delay"], entry["timer_job_id"]) == (60, flow["id"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"poll_delay": -1}, "poll_delay is -1"),
        ({"poll_delay": 0.5}, "from 1 to"),
        ({"poll_delay": True}, "poll_delay is True"),
        ({"poll_delay": "often"}, "poll_delay is 'often'"),
        ({"poll_delay": 60, "policy": "INGESTION"}, "policy INGESTION does not wait"),
        ({"poll_delay": 60, "url": "s3://b/a", "no_copy": True}, "cannot be asked"),
        ({"timer_delay": 60}, "no schedule"),
    ],
)
def test_what_cannot_be_polled_is_refused(
    sqlite_app: Aero, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(InvalidValueError, match=match):
        sqlite_app.create_source(**{"name": "n", "url": "https://h/a", **options})
    assert list(sqlite_app.list_metadata("data")) == []


def test_a_flow_of_several_sources_is_not_polled(sqlite_app: Aero) -> None:
    outputs = {name: {"url": f"https://h/{name}"} for name in ("a", "b")}
    options: dict[str, Any] = {"policy": "INGESTION_EVENT", "poll_delay": 60}
    with pytest.raises(InvalidValueError, match="several sources"):
        sqlite_app.register_flow("local", None, {}, outputs, **options)
