"""Sweeps: one run per entry of the config, each with its own kwargs and slot."""

import json

import pytest

from aero.error import InvalidValueError
from tests.scenarios import analysis, length, made, source, statuses, text


@pytest.fixture
def origin(app, publisher):
    flow = source(app, publisher.publish("cases.csv", "ab"))
    app.run_flow(flow["id"])
    return flow


@pytest.fixture
def sweep(app, origin, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps([{"factor": n} for n in (1, 10, 100)]))
    return analysis(app, length, {"cases": made(origin)}, config=path)


def by_task(app, flow):
    return {v["task"]: v for v in list(app.list_versions(made(flow)))[::-1]}


def test_each_entry_keeps_its_own_values(app, sweep, tmp_path):
    app.run_until_idle(10)
    assert statuses(app, sweep) == ["SUCCEEDED"] * 3
    versions = by_task(app, sweep)
    assert sorted(versions) == [0, 1, 2]
    found = {
        task: text(app, made(sweep), tmp_path, v["version"])
        for task, v in versions.items()
    }
    assert found == {0: "2", 1: "20", 2: "200"}
    records = {r["task"]: r["kwargs"] for r in app.list_metadata("prov") if r["task"]}
    assert records == {1: {"factor": 10}, 2: {"factor": 100}}


def test_the_record_shows_entry_0_and_all_of_them_in_tasks(app, sweep):
    kwargs = app.get_flow(sweep["id"])
    assert kwargs["factor"] == 1
    assert kwargs["aero"]["tasks"] == [{"factor": n} for n in (1, 10, 100)]
    assert kwargs["aero"]["task"] == 0


def test_each_entry_has_its_own_slot_and_consumption(app, publisher, origin, sweep):
    runs = {run["task"]: run for run in app.list_runs(sweep["id"])}
    assert sorted(runs) == [0, 1, 2]
    assert {run["trigger_key"] for run in runs.values()} == {"inputs:cases=1"}
    app.cancel_run(runs[1]["id"])
    app.run_until_idle(10)
    assert sorted(statuses(app, sweep)) == ["CANCELLED", "SUCCEEDED", "SUCCEEDED"]
    publisher.publish("cases.csv", "abcd")
    app.run_flow(origin["id"])
    app.run_until_idle(10)
    assert sorted(by_task(app, sweep)) == [0, 1, 2]
    assert app.get_data(made(sweep))["available_versions"] == 5


def test_one_entry_that_fails_leaves_the_others(app, origin, tmp_path):
    path = tmp_path / "mixed.json"
    path.write_text(json.dumps([{"factor": 1}, {"factor": None}, {"factor": 3}]))
    flow = analysis(app, length, {"cases": made(origin)}, config=str(path))
    app.run_until_idle(10)
    runs = {run["task"]: run["status"] for run in app.list_runs(flow["id"])}
    assert runs == {0: "SUCCEEDED", 1: "FAILED", 2: "SUCCEEDED"}


def test_the_same_again_is_unchanged_by_task(app, sweep):
    app.run_until_idle(10)
    run = app.run_flow(sweep["id"])
    assert run["task"] == 0
    assert [r["task"] for r in run["runs"]] == [0, 1, 2]
    assert {r["status"] for r in run["runs"]} == {"UNCHANGED"}
    assert app.get_data(made(sweep))["available_versions"] == 3


def test_entries_that_agree_are_still_versions_of_their_task(app, origin, tmp_path):
    path = tmp_path / "same.json"
    path.write_text(json.dumps([{"factor": 1}, {"factor": 1}]))
    flow = analysis(app, length, {"cases": made(origin)}, config=path)
    app.run_until_idle(10)
    assert sorted(by_task(app, flow)) == [0, 1]


def test_config_and_kwargs_exclude_each_other(app, origin, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_text("[{}]")
    with pytest.raises(InvalidValueError, match="Both"):
        analysis(
            app, length, {"cases": made(origin)}, config=path, kwargs={"factor": 1}
        )


def test_a_changed_config_is_another_flow(app, origin, sweep, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps([{"factor": 1}]))
    assert (
        analysis(app, length, {"cases": made(origin)}, config=path)["id"]
        != (sweep["id"])
    )


def test_a_sweep_on_a_timer_ticks_every_entry(app, clock, origin, tmp_path):
    path = tmp_path / "timed.json"
    path.write_text(json.dumps([{"factor": 1}, {"factor": 2}]))
    flow = analysis(
        app,
        length,
        {"cases": made(origin)},
        config=path,
        policy="TIMER",
        timer_delay=60,
    )
    app.run_until_idle(10)
    clock.advance(60)
    app.run_until_idle(10)
    tasks = sorted((r["task"], r["status"]) for r in app.list_runs(flow["id"]))
    assert tasks == [
        (0, "SUCCEEDED"),
        (0, "UNCHANGED"),
        (1, "SUCCEEDED"),
        (1, "UNCHANGED"),
    ]


def test_explain_counts_as_used_what_every_entry_has_used(app, origin, sweep, tmp_path):
    path = tmp_path / "half.json"
    path.write_text(json.dumps([{"factor": 1}, {"factor": None}]))
    half = analysis(app, length, {"cases": made(origin)}, config=path)
    app.run_until_idle(10)
    assert sorted(statuses(app, half)) == ["FAILED", "SUCCEEDED"]
    assert app.explain(half["id"])["inputs"][0]["consumed"] is None
    assert app.explain(sweep["id"])["inputs"][0]["consumed"] == 1
