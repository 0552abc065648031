"""How many runs run at once, which come first, and who says so."""

import json
from collections import Counter

import pytest

from aero.error import (
    DuplicateError,
    FunctionError,
    InvalidTypeError,
    InvalidValueError,
)
from aero.testing import make_app
from tests.executors import Held
from tests.scenarios import tick

WORKERS = 8


def numbered(number=0):
    """Write nothing."""
    return None


def failing(number=0):
    """Always fail."""
    raise ValueError("no good")


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def app(tmp_path, clock, held):
    with make_app(tmp_path, clock=clock, executor=held, workers=WORKERS) as app:
        yield app
        held.forget()


@pytest.fixture
def sweep(app, tmp_path):
    """Register a flow of so many tasks and start them; return its record."""

    def make(tasks, function=numbered, first=0, **options):
        config = tmp_path / f"sweep{first}.json"
        numbers = range(first, first + tasks)
        config.write_text(json.dumps([{"number": number} for number in numbers]))
        flow = app.register_flow(
            "local", app.register_function(function), config=config, **options
        )
        app.run_flow(flow["id"], wait=False)
        return flow

    return make


@pytest.fixture
def single(app):
    """Register a flow of one task and start it; return its record."""

    def make(number, **options):
        function = app.register_function(numbered)
        flow = app.register_flow(
            "local", function, None, None, {"number": number}, **options
        )
        app.run_flow(flow["id"], wait=False)
        return flow

    return make


def step(app):
    dispatcher = app.engine._ready()
    for _ in range(3):
        dispatcher.wake()
        dispatcher.step()


def statuses(app, flow=None):
    return Counter(run["status"] for run in app.list_runs(flow and flow["id"]))


def finish(app, held):
    """Let one run after another end; return the most that ran, and whose they were."""
    most, order = 0, []
    step(app)
    while held.futures:
        most = max(most, statuses(app)["RUNNING"])
        order.append(held.answer())
        step(app)
    assert statuses(app).keys() == {"SUCCEEDED"}
    return most, order


# -- limits -----------------------------------------------------------------------


def test_of_a_flow_no_more_runs_run_than_its_limit(app, held, sweep):
    sweep(10, max_running=3)
    assert finish(app, held)[0] == 3


def test_without_a_limit_as_many_run_as_there_are_workers(app, held, sweep):
    sweep(10)
    step(app)
    assert statuses(app) == {"RUNNING": WORKERS, "PENDING": 10 - WORKERS}


def test_at_an_endpoint_no_more_runs_run_than_its_limit(app, held, single):
    app.set_limit("local", 3)
    for number in range(6):
        single(number)
    assert finish(app, held)[0] == 3


def test_both_limits_hold_together(app, held, clock, sweep, single):
    app.set_limit("local", 4)
    limited = sweep(6, max_running=3)
    clock.advance(1)
    for number in range(6):
        single(100 + number)
    step(app)
    assert statuses(app, limited) == {"RUNNING": 3, "PENDING": 3}
    assert statuses(app)["RUNNING"] == 4
    assert finish(app, held)[0] == 4


def test_several_limited_flows_have_a_limit_each(app, held, sweep):
    flows = [sweep(4, first=10 * n, max_running=n) for n in (1, 2, 3)]
    step(app)
    found = [statuses(app, flow)["RUNNING"] for flow in flows]
    assert found == [1, 2, 3]


def test_a_full_flow_holds_nobody_else_back(app, held, sweep, single):
    full = sweep(20, max_running=1, priority=9)
    step(app)
    others = [single(number, priority=-number) for number in range(100, 106)]
    step(app)
    assert statuses(app, full)["RUNNING"] == 1
    assert [statuses(app, other)["RUNNING"] for other in others] == [1] * 6


def test_what_waited_is_claimed_as_soon_as_a_run_ends(app, held, sweep):
    flow = sweep(3, max_running=1)
    step(app)
    held.answer()
    # Nobody says that there is something to claim.
    app.engine._ready().step()
    assert statuses(app, flow) == {"SUCCEEDED": 1, "RUNNING": 1, "PENDING": 1}


def test_a_lower_limit_kills_nothing_and_counts_what_runs(app, held, sweep):
    flow = sweep(8, max_running=4)
    step(app)
    app.set_flow(flow["id"], max_running=2)
    step(app)
    assert statuses(app, flow)["RUNNING"] == 4
    held.answer(), held.answer()
    step(app)
    assert statuses(app, flow)["RUNNING"] == 2
    assert finish(app, held)[0] == 2


def test_a_limit_that_is_removed_frees_at_once(app, held, sweep, single):
    flow = sweep(4, max_running=1)
    step(app)
    app.set_flow(flow["id"], max_running=None)
    app.engine._ready().step()
    assert statuses(app, flow)["RUNNING"] == 4
    app.set_limit("local", 4)
    single(100)
    step(app)
    assert statuses(app)["RUNNING"] == 4
    assert app.set_limit("local", None)["max_running"] is None
    app.engine._ready().step()
    assert statuses(app)["RUNNING"] == 5


def test_a_limit_set_later_binds_what_waits(app, held, sweep):
    flow = sweep(12)
    app.set_flow(flow["id"], max_running=2)
    assert finish(app, held)[0] == 2


def test_what_is_tried_again_is_limited_too(app, held, clock, sweep):
    flow = sweep(3, function=failing, max_running=1, retries=1)
    for _ in range(6):
        step(app)
        assert statuses(app, flow)["RUNNING"] == 1
        future, _, _ = held.futures.pop(0)
        future.set_exception(FunctionError("no good"))
        step(app)
        clock.advance(10)
    assert statuses(app, flow) == {"FAILED": 3}
    app.set_flow(flow["id"], max_running=2)
    for run in list(app.list_runs(flow["id"])):
        app.retry_run(run["id"])
    step(app)
    assert statuses(app, flow) == {"RUNNING": 2, "PENDING": 1}


def test_a_paused_flow_with_a_limit_starts_nothing(app, held, sweep, single):
    flow = sweep(3, max_running=2)
    app.pause_flow(flow["id"])
    other = single(100)
    step(app)
    assert statuses(app, flow) == {"PENDING": 3}
    assert statuses(app, other) == {"RUNNING": 1}


def test_more_flows_wait_than_can_be_claimed(app, held, clock, sweep):
    flows = []
    for number in range(12):
        flows.append(sweep(2, first=10 * number, max_running=1))
        clock.advance(1)
    step(app)
    assert statuses(app)["RUNNING"] == WORKERS
    found = [statuses(app, flow)["RUNNING"] for flow in flows]
    assert found == [1] * WORKERS + [0] * 4
    finish(app, held)


def test_idle_means_that_nothing_waits_for_a_limit(tmp_path, clock):
    with make_app(tmp_path, clock=clock) as app:
        config = tmp_path / "sweep.json"
        config.write_text(json.dumps([{"number": n} for n in range(5)]))
        function = app.register_function(numbered)
        flow = app.register_flow("local", function, config=config, max_running=1)
        app.set_limit("local", 1)
        app.run_flow(flow["id"], wait=False)
        app.run_until_idle(20)
        assert statuses(app) == {"SUCCEEDED": 5}
        app.run_flow(flow["id"], timeout=20)
        assert statuses(app) == {"SUCCEEDED": 10}


# -- priorities -------------------------------------------------------------------


def test_higher_priorities_first_then_the_oldest(app, held, clock, single):
    app.set_limit("local", 1)
    flows = []
    for number, priority in enumerate([0, 5, -5, 5]):
        flows.append(single(number, priority=priority)["id"])
        clock.advance(1)
    _, order = finish(app, held)
    assert order == [flows[1], flows[3], flows[0], flows[2]]


def test_runs_with_and_without_a_limit_are_in_one_order(
    app, held, clock, sweep, single
):
    low = sweep(2, max_running=1, priority=1)["id"]
    clock.advance(1)
    high = single(100, priority=2)["id"]
    middle = single(101, priority=1)["id"]
    app.set_limit("local", 1)
    _, order = finish(app, held)
    assert order == [high, low, low, middle]


def test_a_run_with_a_limit_does_not_wait_behind_lower_ones(app, held, sweep, single):
    for number in range(100, 100 + WORKERS):
        single(number)
    urgent = sweep(2, max_running=1, priority=1)
    step(app)
    assert statuses(app, urgent)["RUNNING"] == 1
    assert statuses(app)["RUNNING"] == WORKERS


def test_runs_that_wait_follow_their_flows_priority(app, held, clock, single):
    app.set_limit("local", 1)
    first, second = single(1)["id"], single(2)["id"]
    assert app.set_flow(second, priority=1)["priority"] == 1
    assert finish(app, held)[1] == [second, first]


# -- what people are told ---------------------------------------------------------


def test_explain_says_which_limit_is_waited_for(app, held, sweep, single):
    flow = sweep(7, max_running=3)
    assert "waits for a worker" in app.explain(flow["id"])["reason"]
    step(app)
    told = app.explain(flow["id"])
    assert "waits: 3 of 3 runs of this flow are running." in told["reason"]
    assert (told["running"], told["max_running"]) == (3, 3)
    app.set_flow(flow["id"], max_running=2)
    assert "waits: 3 of 2 runs of this" in app.explain(flow["id"])["reason"]
    app.set_limit("local", 3)
    other = single(100)
    reason = app.explain(other["id"])["reason"]
    assert reason.endswith("waits: 3 of 3 runs at the endpoint 'local' are running.")
    app.set_limit("local", None)
    step(app)
    assert "is running now" in app.explain(other["id"])["reason"]


def test_limits_are_listed_with_what_runs_and_waits(app, held, single):
    assert app.limits() == []
    app.set_limit("elsewhere", 5)
    set_ = app.set_limit("local", 2)
    for number in range(3):
        single(number)
    step(app)
    assert set_ == {"endpoint": "local", "max_running": 2, "running": 0, "waiting": 0}
    assert app.limits() == [
        {"endpoint": "elsewhere", "max_running": 5, "running": 0, "waiting": 0},
        {"endpoint": "local", "max_running": 2, "running": 2, "waiting": 1},
    ]
    app.set_limit("local", 1)
    assert app.limits()[1]["max_running"] == 1


def test_status_takes_them_for_waiting_not_for_lost(app, held, sweep):
    sweep(4, max_running=1)
    step(app)
    status = app.status()
    assert (status["runs"]["RUNNING"], status["runs"]["PENDING"]) == (1, 3)
    assert status["note"] is None
    app.engine._ready().close()
    assert app.status()["note"] == "4 runs wait; run 'aero work'"


def test_a_limit_is_in_the_record_but_does_not_make_another_flow(app):
    function = app.register_function(tick)
    flow = app.register_flow("local", function, max_running=3, priority=2)
    assert (flow["max_running"], flow["priority"]) == (3, 2)
    with pytest.raises(DuplicateError):
        app.register_flow("local", function, max_running=4)
    changed = app.set_flow(flow["id"], max_running=None)
    assert (changed["max_running"], changed["priority"]) == (None, 2)
    assert app.set_flow(flow["id"]) == changed


def test_a_source_has_priority_and_limit_too(app):
    made = app.create_source("cases", "https://a.org/x", max_running=2, priority=-1)
    flow = app.get_flow(made["flow_id"], inputs_only=False)
    assert (flow["max_running"], flow["priority"]) == (2, -1)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "3", 2**31])
def test_no_limit_is_not_a_number_from_one(app, wrong):
    function = app.register_function(tick)
    for attempt in (
        lambda: app.register_flow("local", function, max_running=wrong),
        lambda: app.create_source("a", "https://a.org/x", max_running=wrong),
        lambda: app.set_limit("local", wrong),
    ):
        with pytest.raises(InvalidValueError, match="whole number from 1 to"):
            attempt()
    flow = app.register_flow("local", function)
    with pytest.raises(InvalidValueError, match="whole number from 1 to"):
        app.set_flow(flow["id"], max_running=wrong)
    assert app.limits() == []


def test_what_else_cannot_be_changed(app):
    flow = app.register_flow("local", app.register_function(tick))
    with pytest.raises(InvalidTypeError, match="'policy' cannot be changed"):
        app.set_flow(flow["id"], policy=1)
    with pytest.raises(InvalidValueError, match="priority is 'high'"):
        app.set_flow(flow["id"], priority="high")
    with pytest.raises(InvalidValueError, match="is not an endpoint"):
        app.set_limit(" ", 3)


def test_a_back_off_is_not_slept_over_while_others_wait(app, held, sweep, single):
    full = sweep(3, max_running=1)
    tried = single(100, retries=1)
    step(app)
    other = next(f for f, _, task in held.futures if _flow(task) == tried["id"])
    held.futures = [each for each in held.futures if each[0] is not other]
    other.set_exception(FunctionError("no good"))
    step(app)
    assert statuses(app, tried) == {"PENDING": 1}
    dispatcher = app.engine._ready()
    dispatcher._held.clear()  # as in a process that runs nothing of the full flow
    assert statuses(app, full) == {"RUNNING": 1, "PENDING": 2}
    assert 0 < app.engine._until_due(dispatcher) <= 1.25


def _flow(task):
    return task["aero"]["flow_id"]
