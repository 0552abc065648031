"""Cron against naive matchers that share nothing with what they judge.

A drawn cron is a text and, drawn along with it, the sets of numbers it stands for. So
the matchers below need no parser: they look at every day, or at every minute.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aero.triggers import Schedule, next_due

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
TICK = timedelta(microseconds=1)
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun"]
MONTHS += ["jul", "aug", "sep", "oct", "nov", "dec"]
WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True)
class Drawn:
    """A cron's text and what it means: POSIX weekdays, 0 is Sunday."""

    text: str
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    def names_date(self, day: date) -> bool:
        _, _, day_text, _, weekday_text = self.text.split()
        by_day = day.day in self.days
        by_weekday = day.isoweekday() % 7 in self.weekdays
        if day_text == "*" or weekday_text == "*":
            right_day = by_day and by_weekday
        else:
            right_day = by_day or by_weekday
        return right_day and day.month in self.months

    def names_minute(self, wall: datetime) -> bool:
        return (
            wall.minute in self.minutes
            and wall.hour in self.hours
            and self.names_date(wall.date())
        )


Part = tuple[str, frozenset[int]]


def spelled(number: int, names: Sequence[str], low: int) -> st.SearchStrategy[str]:
    ways = [str(number), f"{number:02}"]
    if names:
        ways.append(names[(number - low) % len(names)])
    return st.sampled_from(ways)


@st.composite
def parts(
    draw: st.DrawFn, low: int, high: int, size: int, names: Sequence[str]
) -> Part:
    """One element of a list: a number, a range, a stepped one, or (size) a star."""
    kinds = ["number", "range", "stepped range"]
    kind = draw(st.sampled_from([*kinds, "stepped star"] if size else kinds))
    step = draw(st.integers(1, size or 5)) if kind.startswith("stepped") else 1
    suffix = f"/{step}" if kind.startswith("stepped") else ""
    if kind == "stepped star":
        return f"*{suffix}", frozenset(range(low, low + size, step))
    first = draw(st.integers(low, high))
    if kind == "number":
        return draw(spelled(first, names, low)), frozenset({first})
    last = draw(st.integers(first, high))
    # "7" may begin a range, "sun" would begin it with 0.
    begin = str(first) if names == WEEKDAYS else draw(spelled(first, names, low))
    # "sun" after 0 ends with that very Sunday, "7" with the next.
    whole_week = names == WEEKDAYS and (first, last) == (0, 7)
    end = "7" if whole_week else draw(spelled(last, names, low))
    return f"{begin}-{end}{suffix}", frozenset(range(first, last + 1, step))


@st.composite
def lists(
    draw: st.DrawFn,
    low: int,
    high: int,
    *,
    size: int | None = None,
    names: Sequence[str] = (),
    star: float = 0.3,
) -> Part:
    size = high - low + 1 if size is None else size
    if draw(st.integers(0, 99)) < star * 100:
        return "*", frozenset(range(low, low + size))
    drawn = draw(st.lists(parts(low, high, size, names), min_size=1, max_size=3))
    values = frozenset().union(*(values for _, values in drawn))
    return ",".join(text for text, _ in drawn), values


MINUTES = lists(0, 59)
HOURS = lists(0, 23)
LONGEST = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


@st.composite
def crons(
    draw: st.DrawFn,
    minutes: st.SearchStrategy[Part] = MINUTES,
    hours: st.SearchStrategy[Part] = HOURS,
    star: float = 0.3,
) -> Drawn:
    fields = [
        draw(minutes),
        draw(hours),
        draw(lists(1, 31, star=star)),
        draw(lists(1, 12, names=MONTHS, star=star)),
        draw(lists(0, 7, size=7, names=WEEKDAYS, star=star)),
    ]
    longest = max(LONGEST.get(month, 31) for month in fields[3][1])
    if fields[4][0] == "*" and min(fields[2][1]) > longest:
        fields[2] = ("1", frozenset({1}))
    sets = [values for _, values in fields]
    sets[4] = frozenset(day % 7 for day in sets[4])
    return Drawn(" ".join(text for text, _ in fields), *sets)


def ticks(
    cron: str, timezone: str, start: datetime, end: datetime
) -> Iterator[datetime]:
    """Every tick after `start`, up to `end`, and the first one beyond it."""
    schedule = Schedule(cron=cron, timezone=timezone, anchor=ANCHOR)
    moment: datetime | None = start
    while moment is not None and moment <= end:
        following = next_due(schedule, moment, None)
        assert following is None or following > moment
        moment = following
        if moment is not None:
            yield moment


def drawn(text: str, **sets: set[int]) -> Drawn:
    full = {
        "minutes": range(60),
        "hours": range(24),
        "days": range(1, 32),
        "months": range(1, 13),
        "weekdays": range(7),
    }
    return Drawn(text, **{k: frozenset(v) for k, v in {**full, **sets}.items()})


@settings(max_examples=60, deadline=None)
@given(crons(), st.dates(date(1999, 1, 1), date(2099, 1, 1)))
@example(drawn("* * 13 * 5", days={13}, weekdays={5}), date(2024, 1, 1))
@example(drawn("* * 13 * 0", days={13}, weekdays={0}), date(2024, 1, 1))
@example(drawn("* * 1 * 7", days={1}, weekdays={0}), date(2024, 1, 1))
@example(drawn("* * 29 2 *", days={29}, months={2}), date(2023, 1, 1))
@example(drawn("* * 30 2 1", days={30}, months={2}, weekdays={1}), date(2024, 1, 1))
def test_day_by_day_for_three_years(cron: Drawn, first: date) -> None:
    start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    days = [start + n * DAY for n in range(3 * 366)]
    expected = [day.date() for day in days if cron.names_date(day.date())]
    schedule = Schedule(cron=cron.text, anchor=ANCHOR)
    opening = timedelta(hours=min(cron.hours), minutes=min(cron.minutes))
    found = []
    due = next_due(schedule, start - TICK, None)
    while due is not None and due < days[-1] + DAY:
        midnight = datetime(due.year, due.month, due.day, tzinfo=UTC)
        assert due == midnight + opening
        found.append(due.date())
        due = next_due(schedule, midnight + DAY - TICK, None)
    assert found == expected


@settings(max_examples=40, deadline=None)
@given(crons(), st.timedeltas(timedelta(), 3000 * DAY))
def test_minute_by_minute_within_a_day(cron: Drawn, later: timedelta) -> None:
    first = next_due(Schedule(cron=cron.text, anchor=ANCHOR), ANCHOR + later, None)
    assert first is not None
    midnight = datetime(first.year, first.month, first.day, tzinfo=UTC)
    minutes = [midnight + n * MINUTE for n in range(24 * 60)]
    expected = [minute for minute in minutes if cron.names_minute(minute)]
    *found, beyond = ticks(cron.text, "UTC", midnight - TICK, minutes[-1])
    assert found == expected
    assert beyond > minutes[-1]


def test_apscheduler_alone_would_be_wrong() -> None:
    """The translation is needed: its 0 is Monday, and it ANDs the two days."""
    untranslated = CronTrigger.from_crontab("0 0 13 * 5", timezone=UTC)
    theirs = untranslated.get_next_fire_time(None, ANCHOR)
    ours = next_due(Schedule(cron="0 0 13 * 5", anchor=ANCHOR), ANCHOR, None)
    assert ours == datetime(2020, 1, 3, tzinfo=UTC)
    assert theirs == datetime(2020, 6, 13, tzinfo=UTC)


CHANGES = {
    "Berlin forward": ("Europe/Berlin", datetime(2025, 3, 30, 1, tzinfo=UTC)),
    "Berlin back": ("Europe/Berlin", datetime(2025, 10, 26, 1, tzinfo=UTC)),
    "New York forward": ("America/New_York", datetime(2025, 3, 9, 7, tzinfo=UTC)),
    "New York back": ("America/New_York", datetime(2025, 11, 2, 6, tzinfo=UTC)),
    "Lord Howe back": ("Australia/Lord_Howe", datetime(2025, 4, 5, 15, tzinfo=UTC)),
    "Lord Howe forward": (
        "Australia/Lord_Howe",
        datetime(2025, 10, 4, 15, 30, tzinfo=UTC),
    ),
    "Santiago at midnight": ("America/Santiago", datetime(2025, 9, 7, 4, tzinfo=UTC)),
    "Apia skips a day": ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    "Kathmandu by 15 min": (
        "Asia/Kathmandu",
        datetime(1985, 12, 31, 18, 30, tzinfo=UTC),
    ),
    "Kathmandu, no change": ("Asia/Kathmandu", datetime(2025, 6, 1, tzinfo=UTC)),
}
BEFORE, AFTER = timedelta(hours=4), timedelta(hours=27)
Clock = list[tuple[datetime, datetime, list[datetime]]]


@cache
def wall_clock(change: str) -> Clock:
    """Minute by minute: the time, what the clock shows first, what it just skipped."""
    name, moment = CHANGES[change]
    zone = ZoneInfo(name)
    start = moment - BEFORE
    times = [start + n * MINUTE for n in range((BEFORE + AFTER) // MINUTE)]
    clock: Clock = []
    for earlier, time in pairwise(times):
        was = earlier.astimezone(zone).replace(tzinfo=None, fold=0)
        shown = time.astimezone(zone)
        now = shown.replace(tzinfo=None, fold=0)
        skipped = [was + n * MINUTE for n in range(1, max(0, (now - was) // MINUTE))]
        if shown.fold == 0:
            clock.append((time, now, skipped))
    return clock


def expected_ticks(cron: Drawn, clock: Clock) -> list[datetime]:
    return [
        time
        for time, wall, skipped in clock
        if cron.names_minute(wall) or any(map(cron.names_minute, skipped))
    ]


@pytest.mark.parametrize("change", CHANGES)
def test_the_matcher_sees_what_the_change_does(change: str) -> None:
    clock = wall_clock(change)
    length = (BEFORE + AFTER) // MINUTE - 1
    repeated = length - len(clock)
    skipped = max(len(skipped) for _, _, skipped in clock)
    assert {
        "Berlin forward": (0, 60),
        "Berlin back": (60, 0),
        "New York forward": (0, 60),
        "New York back": (60, 0),
        "Lord Howe back": (30, 0),
        "Lord Howe forward": (0, 30),
        "Santiago at midnight": (0, 60),
        "Apia skips a day": (0, 1440),
        "Kathmandu by 15 min": (0, 15),
        "Kathmandu, no change": (0, 0),
    }[change] == (repeated, skipped)


NEAR = crons(
    minutes=lists(0, 59, star=0.2),
    hours=st.one_of(lists(0, 4, size=0, star=0), HOURS),
    star=0.8,
)


@pytest.mark.parametrize("change", CHANGES)
@settings(max_examples=25, deadline=None)
@given(cron=NEAR)
@example(cron=drawn("* * * * *"))
@example(cron=drawn("30 2 * * *", minutes={30}, hours={2}))
@example(cron=drawn("0 0 * * *", minutes={0}, hours={0}))
@example(cron=drawn("5,50 0-2 * * *", minutes={5, 50}, hours={0, 1, 2}))
@example(cron=drawn("0 12 30 * *", minutes={0}, hours={12}, days={30}))
def test_minute_by_minute_where_the_clocks_change(change: str, cron: Drawn) -> None:
    clock = wall_clock(change)
    first, last = clock[0][0], clock[-1][0]
    *found, beyond = ticks(cron.text, CHANGES[change][0], first - TICK, last)
    assert found == expected_ticks(cron, clock)
    assert beyond > last


NEAR_CHANGE = st.one_of(
    st.timedeltas(MINUTE, BEFORE + AFTER - MINUTE),
    st.timedeltas(BEFORE - timedelta(hours=1), BEFORE + timedelta(hours=2)),
)


@settings(max_examples=150, deadline=None)
@given(
    change=st.sampled_from(sorted(CHANGES)),
    cron=NEAR,
    now=NEAR_CHANGE,
    due=st.none() | NEAR_CHANGE,
)
def test_from_any_moment_the_next_tick_is_the_first_one_later(
    change: str, cron: Drawn, now: timedelta, due: timedelta | None
) -> None:
    name, moment = CHANGES[change]
    start = moment - BEFORE
    bound = start + max(now, due or now)
    expected = expected_ticks(cron, wall_clock(change))
    later = expected[bisect_right(expected, bound) :]
    tick = next_due(
        Schedule(cron=cron.text, timezone=name, anchor=ANCHOR),
        start + now,
        None if due is None else start + due,
    )
    if later:
        assert tick == later[0]
    else:
        assert tick is None or tick > wall_clock(change)[-1][0]


def at(change: str, cron: str, hours: float = 24) -> list[str]:
    """The UTC times of the ticks within `hours` around a change."""
    name, moment = CHANGES[change]
    half = timedelta(hours=hours / 2)
    *found, _ = ticks(cron, name, moment - half, moment + half)
    return [f"{tick:%d %H:%M}" for tick in found]


@pytest.mark.parametrize(
    ("change", "cron", "expected"),
    [
        ("Berlin forward", "30 2 * * *", ["30 01:00"]),
        ("Berlin forward", "*/20 2 * * *", ["30 01:00"]),
        ("Berlin forward", "0 3 * * *", ["30 01:00"]),
        ("Berlin back", "30 2 * * *", ["26 00:30"]),
        ("Berlin back", "0 3 * * *", ["26 02:00"]),
        ("Lord Howe forward", "15 2 * * *", ["04 15:30"]),
        ("Lord Howe back", "45 1 * * *", ["05 14:45"]),
        ("Santiago at midnight", "@daily", ["07 04:00"]),
        ("Apia skips a day", "0 12 30 12 *", ["30 10:00"]),
        ("Apia skips a day", "0 */12 * * *", ["29 22:00", "30 10:00", "30 22:00"]),
        ("Kathmandu by 15 min", "5 0 * * *", ["31 18:30"]),
    ],
)
def test_a_repeated_time_fires_once_and_a_skipped_one_when_the_gap_ends(
    change: str, cron: str, expected: list[str]
) -> None:
    assert at(change, cron, hours=24.1) == expected


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("* * * * *", datetime(2025, 10, 26, 2, tzinfo=UTC)),
        ("45 2 * * *", datetime(2025, 10, 27, 1, 45, tzinfo=UTC)),
        ("30 3 * * *", datetime(2025, 10, 26, 2, 30, tzinfo=UTC)),
    ],
)
def test_within_the_repeat_nothing_fires_again(cron: str, expected: datetime) -> None:
    name, back = CHANGES["Berlin back"]
    schedule = Schedule(cron=cron, timezone=name, anchor=ANCHOR)
    for minutes in (0, 10, 30, 59):
        assert next_due(schedule, back + minutes * MINUTE, None) == expected


def test_even_every_minute_pauses_while_an_hour_is_repeated() -> None:
    found = at("Berlin back", "* * * * *", hours=4)
    assert found[found.index("26 00:59") + 1] == "26 02:00"
