"""PURE: what a POSIX cron expression names, and when a wall clock shows it.

Five fields, `minute hour day-of-month month day-of-week`, each `*` or a list of
numbers, names (jan..dec, sun..sat), ranges and steps; or one macro such as `@daily`.
Day 0 and day 7 are Sunday. As POSIX has it, a time matches when its day of the month
OR its day of the week matches, if both fields say something else than `*`. Steps are
no part of POSIX, so its rule is taken by the letter: only a bare `*` leaves a field
unrestricted, and `*/2` restricts it like any other list (other crons differ here).

A local time that occurs twice (clocks go back) counts once, at its first occurrence:
so even `* * * * *` pauses while an hour is repeated. A local time that is skipped
(clocks go forward) is moved to where the gap ends.
"""

import re
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aero.error import InvalidTypeError, InvalidValueError

MACROS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_EXAMPLE = "'30 6 * * 1-5' (06:30 from Monday to Friday)"
_MONTH_NAMES = (
    *("jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ELEMENT = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[0-9]{1,9}|[a-z]{3})(?:-(?P<last>[0-9]{1,9}|[a-z]{3}))?)"
    r"(?:/(?P<step>[0-9]{1,9}))?"
)
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cron:
    """The local times a cron expression names, as sets of numbers.

    `days` (1..31) and `weekdays` (0..6, 0 is Sunday) are None where the field is `*`.
    `days` holds only those that one of `months` (1..12) has.
    """

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int] | None
    months: frozenset[int]
    weekdays: frozenset[int] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    """One field: `low` to `high`, of which the first `size` differ, and their names."""

    title: str
    low: int
    high: int
    size: int
    names: tuple[str, ...] = ()
    example: str

    @property
    def form(self) -> str:
        """What may be written in the field."""
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"write *, or {self.low}-{self.high}{named}, such as {self.example}"


_FIELDS = (
    _Field(title="minute", low=0, high=59, size=60, example="0, 0,30 or */15"),
    _Field(title="hour", low=0, high=23, size=24, example="6, 8-18 or */4"),
    _Field(title="day-of-month", low=1, high=31, size=31, example="1, 1,15 or 1-7"),
    _Field(
        title="month",
        low=1,
        high=12,
        size=12,
        names=_MONTH_NAMES,
        example="6 or jan-mar",
    ),
    _Field(
        title="day-of-week", low=0, high=7, size=7, names=_DAY_NAMES, example="0 or 1-5"
    ),
)


def parse_cron(expression: str) -> Cron:
    """Return the times that `expression` names.

    Raises:
        InvalidTypeError: `expression` is not a string.
        InvalidValueError: it is not five valid fields or a known macro, or names only
            dates that no year has. Carries `cron`, and `field` and `value` where one
            field is at fault.
    """
    if not isinstance(expression, str):
        raise InvalidTypeError(
            f"A cron expression is a {type(expression).__name__}: write a string of "
            f"five fields, such as {_EXAMPLE}."
        )
    texts = _split(expression)
    minutes, hours, days, months, weekdays = (
        _parse_field(text, field, expression)
        for text, field in zip(texts, _FIELDS, strict=True)
    )
    longest = max(_MONTH_LENGTHS[month - 1] for month in months)
    existing = frozenset(day for day in days if day <= longest)
    if not existing and texts[4] == "*":
        raise InvalidValueError(
            f"cron {expression!r} would never run, since no month it names has a day "
            f"{min(days)}: use a day of at most {longest}, or other months.",
            cron=expression,
            field="day-of-month",
            value=texts[2],
        )
    return Cron(
        minutes=minutes,
        hours=hours,
        days=None if texts[2] == "*" else existing,
        months=months,
        weekdays=None if texts[4] == "*" else frozenset(day % 7 for day in weekdays),
    )


def instant(local: datetime) -> datetime:
    """Return when a wall clock first shows `local`, or when the gap that hides it ends.

    Args:
        local: Wall time, its `tzinfo` the `zoneinfo.ZoneInfo` of the clock.

    Returns:
        A time in UTC. It never decreases when `local` grows.
    """
    moment = local.replace(fold=0).astimezone(UTC)
    zone, wall = local.tzinfo, local.replace(tzinfo=None)

    def shown(at: datetime) -> datetime:
        return at.astimezone(zone).replace(tzinfo=None)

    if shown(moment) == wall:
        return moment
    # Read with the offset after the gap, a skipped time lies before the gap's end.
    before = local.replace(fold=1).astimezone(UTC)
    seconds = range((moment - before) // _SECOND)
    return before + _SECOND * bisect_left(
        seconds, True, key=lambda second: shown(before + _SECOND * second) > wall
    )


def _split(expression: str) -> list[str]:
    text = expression.strip().lower()
    if text.startswith("@") and text not in MACROS:
        raise InvalidValueError(
            f"cron {expression!r} is not a known macro: write {', '.join(MACROS)}, or "
            f"five fields such as {_EXAMPLE}.",
            cron=expression,
        )
    texts = MACROS.get(text, text).split()
    if len(texts) != len(_FIELDS):
        raise InvalidValueError(
            f"cron {expression!r} has {len(texts)} fields instead of five: write "
            f"minute hour day-of-month month day-of-week, such as {_EXAMPLE}.",
            cron=expression,
        )
    return texts


def _parse_field(text: str, field: _Field, expression: str) -> frozenset[int]:
    values: set[int] = set()
    for element in text.split(","):
        try:
            values.update(_parse_element(element, field))
        except ValueError as error:
            raise InvalidValueError(
                f"cron {expression!r} has {text!r} for its {field.title}, {error}: "
                f"{field.form}.",
                cron=expression,
                field=field.title,
                value=text,
            ) from None
    return frozenset(values)


def _parse_element(element: str, field: _Field) -> range:
    match = _ELEMENT.fullmatch(element)
    if match is None:
        raise ValueError(f"where {element!r} is no number, name, range or step")
    first, last = _bounds(match, field)
    if match["step"] is None:
        return range(first, last + 1)
    step = int(match["step"])
    if match["all"] is None and match["last"] is None:
        raise ValueError(f"where the step {element!r} needs a range or * before it")
    # A step over the size, such as */90 minutes, cannot mean what it says.
    if not 1 <= step <= field.size:
        raise ValueError(f"where the step {step} is not from 1 to {field.size}")
    return range(first, last + 1, step)


def _bounds(match: re.Match[str], field: _Field) -> tuple[int, int]:
    if match["all"] is not None:
        return field.low, field.low + field.size - 1
    first = _number(match["first"], field)
    if match["last"] is None:
        return first, first
    last = _number(match["last"], field)
    # fri-sun ends with the Sunday after Friday.
    if match["last"] == "sun" and first > 0:
        last = 7
    if first > last:
        raise ValueError(f"where {match[0]!r} runs backwards")
    return first, last


def _number(text: str, field: _Field) -> int:
    if text in field.names:
        return field.low + field.names.index(text)
    if not text.isdigit():
        raise ValueError(f"where {text!r} is no name it knows")
    if not field.low <= int(text) <= field.high:
        raise ValueError(f"where {text} is not from {field.low} to {field.high}")
    return int(text)
