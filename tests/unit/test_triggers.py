"""Which flows are due, the keys of triggers, and the next tick."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from aero.error import InvalidTypeError, InvalidValueError
from aero.triggers import (
    TIMER_MAX,
    InputState,
    Schedule,
    event_key,
    fires_at_registration,
    inputs_key,
    is_due,
    manual_key,
    missing_inputs,
    next_due,
    timer_key,
    validate_schedule,
)
from aero.types import PolicyEnum

ANCHOR = datetime(2025, 3, 1, 12, 3, 4, 567891, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def state(
    name: str = "a",
    latest: int | None = None,
    consumed: int | None = None,
    pinned: int | None = None,
) -> InputState:
    return InputState(name=name, pinned=pinned, latest=latest, consumed=consumed)


NEW = state("new", latest=2, consumed=1)
UNUSED = state("unused", latest=1)
OLD = state("old", latest=2, consumed=2)
EMPTY = state("empty")
PINNED = state("pinned", latest=3, consumed=1, pinned=1)
PINNED_AHEAD = state("ahead", latest=2, pinned=3)


@pytest.mark.parametrize(
    ("inputs", "by_any", "by_all"),
    [
        ([], False, False),
        ([NEW], True, True),
        ([UNUSED], True, True),
        ([OLD], False, False),
        ([EMPTY], False, False),
        ([PINNED], False, False),
        ([NEW, OLD], True, False),
        ([NEW, UNUSED], True, True),
        ([NEW, EMPTY], False, False),
        ([NEW, PINNED], True, True),
        ([OLD, PINNED], False, False),
        ([NEW, OLD, PINNED], True, False),
        ([NEW, PINNED_AHEAD], False, False),
    ],
)
def test_any_and_all(inputs: list[InputState], by_any: bool, by_all: bool) -> None:
    assert is_due(PolicyEnum.ANY, inputs) is by_any
    assert is_due(PolicyEnum.ALL, inputs) is by_all


@pytest.mark.parametrize("policy", set(PolicyEnum) - {PolicyEnum.ANY, PolicyEnum.ALL})
def test_no_other_policy_is_judged_by_versions(policy: PolicyEnum) -> None:
    assert is_due(policy, [NEW]) is False


STATES = st.builds(
    state,
    st.text(),
    latest=st.none() | st.integers(1, 4),
    consumed=st.none() | st.integers(1, 4),
    pinned=st.none() | st.integers(1, 4),
)


@given(st.lists(STATES, max_size=4))
def test_all_implies_any_and_any_implies_that_nothing_is_missing(
    inputs: list[InputState],
) -> None:
    by_any = is_due(PolicyEnum.ANY, inputs)
    assert by_any >= is_due(PolicyEnum.ALL, inputs)
    assert not (by_any and missing_inputs(inputs))


@given(st.lists(STATES, max_size=4))
def test_a_flow_that_used_the_newest_of_everything_rests(
    inputs: list[InputState],
) -> None:
    used = [state(i.name, i.latest, i.latest, i.pinned) for i in inputs]
    assert not is_due(PolicyEnum.ANY, used)
    assert not is_due(PolicyEnum.ALL, used)


def test_missing_inputs_names_what_has_no_version() -> None:
    inputs = [NEW, EMPTY, PINNED, PINNED_AHEAD, OLD]
    assert missing_inputs(inputs) == ["empty", "ahead"]


@pytest.mark.parametrize(
    ("policy", "timer", "cron", "expected"),
    [
        (PolicyEnum.INGESTION, 60, None, True),
        (PolicyEnum.INGESTION, None, "@daily", True),
        (PolicyEnum.INGESTION, None, None, True),
        (PolicyEnum.TIMER, 60, None, True),
        (PolicyEnum.TIMER, None, "@daily", False),
        (PolicyEnum.NONE, None, None, False),
        (PolicyEnum.ANY, None, None, False),
        (PolicyEnum.ALL, None, None, False),
        (PolicyEnum.INGESTION_EVENT, None, None, False),
    ],
)
def test_who_fires_at_registration(
    policy: PolicyEnum, timer: float | None, cron: str | None, expected: bool
) -> None:
    assert fires_at_registration(policy, timer, cron) is expected


def test_keys_read_as_what_they_stand_for() -> None:
    east = timezone(timedelta(hours=2))
    assert inputs_key({"b": 2, "a": 3}) == "inputs:a=3,b=2"
    assert timer_key(datetime(2025, 1, 1, 2, tzinfo=east)) == (
        "timer:2025-01-01T00:00:00+00:00"
    )
    assert event_key("", "d1") == "event::d1"
    assert event_key("s3://bucket/key", "d1") == "event:s3://bucket/key:d1"
    assert manual_key("m1") == "manual:m1"


@given(st.text(alphabet="ab:%3A"), st.text(alphabet="ab:%3A"), st.data())
def test_event_keys_of_different_deliveries_differ(
    source: str, delivery: str, data: st.DataObject
) -> None:
    text = st.text(alphabet="ab:%3A")
    other = data.draw(st.tuples(text, text))
    same = (source, delivery) == other
    assert (event_key(source, delivery) == event_key(*other)) is same


def test_keys_are_bounded() -> None:
    keys = {
        inputs_key({"n" * 500: 1}),
        inputs_key({"n" * 500: 2}),
        event_key("k" * 500, "1"),
        event_key("k" * 500, "2"),
        manual_key("x" * 500),
    }
    assert len(keys) == 5
    assert all(len(key.encode()) <= 200 for key in keys)


def test_a_naive_time_is_refused() -> None:
    naive = ANCHOR.replace(tzinfo=None)
    with pytest.raises(InvalidValueError, match="has no time zone: give an aware one"):
        timer_key(naive)
    with pytest.raises(InvalidValueError, match="has no time zone"):
        next_due(Schedule(timer=60, anchor=naive), ANCHOR, None)
    with pytest.raises(InvalidValueError, match="has no time zone"):
        next_due(Schedule(timer=60, anchor=ANCHOR), ANCHOR, naive)


def test_a_flow_without_a_schedule_is_never_due_by_time() -> None:
    assert next_due(Schedule(anchor=ANCHOR), ANCHOR, None) is None


def test_the_grid_begins_at_its_anchor() -> None:
    schedule = Schedule(timer=60, anchor=ANCHOR)
    before = ANCHOR - timedelta(days=3)
    assert next_due(schedule, before, None) == ANCHOR
    assert next_due(schedule, before, ANCHOR) == ANCHOR + timedelta(seconds=60)
    assert next_due(schedule, ANCHOR, None) == ANCHOR + timedelta(seconds=60)


def test_missed_ticks_coalesce_into_one() -> None:
    schedule = Schedule(timer=3600, anchor=ANCHOR)
    now = ANCHOR + timedelta(days=2, minutes=30)
    assert next_due(schedule, now, ANCHOR) == ANCHOR + timedelta(days=2, hours=1)
    daily = Schedule(cron="@daily", anchor=ANCHOR)
    assert next_due(daily, datetime(2025, 7, 9, 1, tzinfo=UTC), ANCHOR) == (
        datetime(2025, 7, 10, tzinfo=UTC)
    )


def test_a_due_time_ahead_of_the_clock_is_not_repeated() -> None:
    schedule = Schedule(cron="0 * * * *", anchor=ANCHOR)
    due = datetime(2025, 3, 1, 14, tzinfo=UTC)
    assert next_due(schedule, ANCHOR, due) == datetime(2025, 3, 1, 15, tzinfo=UTC)


TIMERS = st.one_of(
    st.integers(1, TIMER_MAX),
    st.integers(1, 100_000),
    st.floats(0.001, 1e6),
    st.sampled_from([0.1, 1 / 3, 0.001, 86400]),
)
MOMENTS = st.datetimes(
    datetime(2020, 1, 1),  # noqa: DTZ001
    datetime(2060, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@given(TIMERS, MOMENTS, MOMENTS, st.none() | MOMENTS)
def test_a_timer_is_apschedulers_grid_and_strictly_later(
    timer: float, anchor: datetime, now: datetime, due: datetime | None
) -> None:
    schedule = Schedule(timer=timer, anchor=anchor)
    bound = max(now, due or now)
    tick = next_due(schedule, now, due)
    assert tick is not None
    assert tick > bound
    assert tick.tzinfo is UTC
    # Anything later than the trigger's answer would be a tick lost.
    trigger = IntervalTrigger(seconds=timer, start_date=anchor, timezone=UTC)
    answer = trigger.get_next_fire_time(None, bound + TICK)
    assert tick == answer or answer <= bound
    assert tick - bound <= max(trigger.interval, anchor - bound) + 2 * TICK


@given(TIMERS.filter(lambda timer: timer <= 10**7), MOMENTS, st.integers(0, 10**6))
def test_ticks_follow_each_other_at_the_interval(
    timer: float, anchor: datetime, seconds: int
) -> None:
    schedule = Schedule(timer=timer, anchor=anchor)
    tick = next_due(schedule, anchor + timedelta(seconds=seconds), None)
    interval = timedelta(seconds=timer)
    for _ in range(20):
        assert tick is not None
        following = next_due(schedule, tick, tick)
        assert following is not None
        # Two floats of a microsecond's grain are subtracted.
        assert abs(following - tick - interval) <= 2 * TICK
        tick = following


def test_a_tick_that_floats_would_name_twice_is_named_once() -> None:
    anchor = datetime(2300, 5, 3, 4, 5, 6, 186958, tzinfo=UTC)
    tick = datetime(2302, 2, 16, 1, 39, 24, 217489, tzinfo=UTC)
    timer = 9.947072780687025
    trigger = IntervalTrigger(seconds=timer, start_date=anchor, timezone=UTC)
    assert trigger.get_next_fire_time(None, tick + TICK) == tick
    following = next_due(Schedule(timer=timer, anchor=anchor), tick, tick)
    assert following is not None
    assert abs(following - tick - trigger.interval) < timedelta(milliseconds=1)


@pytest.mark.parametrize("timer", [0.001, 0.5, 1, 86400, TIMER_MAX])
def test_timers_that_can_be_kept(timer: float) -> None:
    validate_schedule(timer=timer, cron=None, timezone="UTC")
    assert next_due(Schedule(timer=timer, anchor=ANCHOR), ANCHOR, None) is not None


@pytest.mark.parametrize(
    "timer", [0, -1, -0.5, 0.0000001, float("nan"), float("inf"), 1e300, 10**400]
)
def test_timers_that_cannot_be_kept(timer: float) -> None:
    with pytest.raises(InvalidValueError, match=r"from 0\.001 to 3155760000 seconds"):
        validate_schedule(timer=timer, cron=None, timezone="UTC")


@pytest.mark.parametrize("timer", ["60", True, [1]])
def test_a_timer_that_is_no_number_is_a_type_error(timer: object) -> None:
    with pytest.raises(InvalidTypeError, match="give a number of seconds"):
        validate_schedule(timer=timer, cron=None)  # type: ignore[arg-type]


def test_timer_and_cron_exclude_each_other() -> None:
    with pytest.raises(InvalidValueError, match="are given: choose one") as caught:
        validate_schedule(timer=60, cron="@daily", timezone="UTC")
    assert (caught.value.timer, caught.value.cron) == (60, "@daily")


def test_a_bad_cron_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="has '61' for its minute"):
        validate_schedule(timer=None, cron="61 * * * *", timezone="UTC")


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
def test_time_zones_of_the_iana_database(name: str) -> None:
    validate_schedule(timer=None, cron="@daily", timezone=name)
    schedule = Schedule(cron="@daily", timezone=name, anchor=ANCHOR)
    assert next_due(schedule, ANCHOR, None) is not None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("Europe/Berln", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Berlin", "Europe/Berlin"),
        ("America/New York", "America/New_York"),
        ("", "UTC"),
        ("x" * 300, "UTC"),
    ],
)
def test_an_unknown_time_zone_is_answered_with_the_nearest(
    name: str, nearest: str
) -> None:
    with pytest.raises(InvalidValueError, match="There is no time zone") as caught:
        validate_schedule(timer=None, cron="@daily", timezone=name)
    assert caught.value.timezone == name
    assert nearest in caught.value.nearest
    assert nearest in str(caught.value)


@pytest.mark.parametrize(
    "name", ["America", "../etc/passwd", "/etc/localtime", "localtime", "Factory"]
)
def test_names_that_lead_to_other_files_are_no_time_zones(name: str) -> None:
    with pytest.raises(InvalidValueError, match="There is no time zone"):
        validate_schedule(timer=None, cron="@daily", timezone=name)


def test_a_time_zone_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(InvalidTypeError, match="'Europe/Berlin'"):
        validate_schedule(timer=None, cron=None, timezone=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["Mars/Olympus", "America", "../x"])
def test_a_stored_time_zone_that_is_gone_is_an_error_of_ours(name: str) -> None:
    schedule = Schedule(cron="@daily", timezone=name, anchor=ANCHOR)
    with pytest.raises(InvalidValueError, match="There is no time zone"):
        next_due(schedule, ANCHOR, None)


def test_a_cron_ends_with_the_calendar() -> None:
    schedule = Schedule(cron="@yearly", anchor=ANCHOR)
    last = datetime(9999, 6, 1, tzinfo=UTC)
    assert next_due(schedule, last, None) is None


def test_importing_and_validating_load_no_scheduler() -> None:
    code = (
        "import sys, aero.triggers as t\n"
        "t.validate_schedule(timer=None, cron='@daily', timezone='UTC')\n"
        "print('apscheduler' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
