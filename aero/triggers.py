"""PURE: which flows are due, the keys that name a trigger, and the next due time.

`aero.cron` says which times a cron expression names, and what happens to them where
the clocks change.
"""

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from aero.cron import instant, parse_cron
from aero.error import InvalidTypeError, InvalidValueError
from aero.hashing import bounded_key
from aero.types import PolicyEnum

TIMER_MIN: Final = 0.001
"""The shortest timer, in seconds."""
TIMER_MAX: Final = 36525 * 86400
"""The longest timer, in seconds: a century."""
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputState:
    """What judging a flow takes to know of one of its inputs.

    `pinned` is the version the flow asks for, None for the newest; `latest` the
    Data's greatest version and `consumed` the greatest one used; None for none yet.
    """

    name: str
    pinned: int | None
    latest: int | None
    consumed: int | None

    @property
    def usable(self) -> bool:
        """Whether there is a version to run with."""
        return (self.latest or 0) >= (self.pinned or 1)

    @property
    def newer(self) -> bool:
        """Whether there is a version that was not used yet."""
        return (self.latest or 0) > (self.consumed or 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """When a flow fires by time: every `timer` seconds from `anchor`, or by `cron`.

    `cron` is read in `timezone`; `anchor` is aware and the first tick of the grid.
    """

    timer: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    anchor: datetime


def is_due(policy: PolicyEnum, inputs: Sequence[InputState]) -> bool:
    """Return whether new versions make a flow fire.

    ANY: an unpinned input is newer than consumed. ALL: every unpinned one is. Either
    way every input, pinned ones too, has the version to run with. No other policy
    fires this way, nor does a flow without an unpinned input.
    """
    newer = [each.newer for each in inputs if each.pinned is None]
    if not newer or missing_inputs(inputs):
        return False
    if policy == PolicyEnum.ANY:
        return any(newer)
    return policy == PolicyEnum.ALL and all(newer)


def missing_inputs(inputs: Sequence[InputState]) -> list[str]:
    """Return the names of the inputs whose version does not exist yet."""
    return [each.name for each in inputs if not each.usable]


def fires_at_registration(
    policy: PolicyEnum, timer: float | None, cron: str | None
) -> bool:
    """Return whether a flow fires as soon as it is registered, whatever its inputs."""
    if policy == PolicyEnum.TIMER:
        return timer is not None and cron is None
    return policy == PolicyEnum.INGESTION


def inputs_key(versions: Mapping[str, int]) -> str:
    """Return the key of a trigger by new versions, such as `inputs:a=3,b=2`."""
    pairs = ",".join(f"{name}={versions[name]}" for name in sorted(versions))
    return bounded_key(f"inputs:{pairs}")


def timer_key(due: datetime, source_key: str = "") -> str:
    """Return the key of a tick, `timer:` and the time it was due in UTC (ISO 8601).

    A tick that asks each object of a source ends in the object's key.
    """
    tick = f"timer:{_utc(due).isoformat()}"
    return bounded_key(f"{tick}:{source_key}" if source_key else tick)


def event_key(source_key: str, delivery_id: str) -> str:
    """Return the key of a notification about the object `source_key`.

    A colon within `delivery_id` is written %3A, so that two deliveries about
    different objects never share a key.
    """
    delivery = delivery_id.replace("%", "%25").replace(":", "%3A")
    return bounded_key(f"event:{source_key}:{delivery}")


def manual_key(request_id: str) -> str:
    """Return the key of a run-now, by its uuid or idempotency key."""
    return bounded_key(f"manual:{request_id}")


def next_due(
    schedule: Schedule, now: datetime, due: datetime | None
) -> datetime | None:
    """Return the first tick after both `now` and `due`; missed ones coalesce in it.

    Returns:
        A time in UTC, or None when the schedule has neither timer nor cron.

    Raises:
        InvalidValueError: The cron or time zone is invalid, or a time is naive.
    """
    bound = _utc(now) if due is None else max(_utc(now), _utc(due))
    if schedule.timer is not None:
        return _next_on_grid(schedule.timer, _utc(schedule.anchor), bound)
    if schedule.cron is not None:
        return _next_by_cron(schedule.cron, _zone(schedule.timezone), bound)
    return None


def validate_schedule(
    *, timer: float | None, cron: str | None, timezone: str = "UTC"
) -> None:
    """Refuse a schedule that cannot be kept.

    Raises:
        InvalidTypeError: A value is of the wrong type.
        InvalidValueError: Timer and cron are both given, the timer is not between
            `TIMER_MIN` and `TIMER_MAX` seconds, the cron expression is invalid or
            names no date that exists, or there is no such time zone.
    """
    if timer is not None and cron is not None:
        raise InvalidValueError(
            f"Both a timer of {timer} s and the cron {cron!r} are given: choose one.",
            timer=timer,
            cron=cron,
        )
    if timer is not None:
        _check_timer(timer)
    if cron is not None:
        parse_cron(cron)
    _check_zone(timezone)


def _next_on_grid(seconds: float, anchor: datetime, bound: datetime) -> datetime:
    from apscheduler.triggers.interval import IntervalTrigger

    trigger = IntervalTrigger(seconds=seconds, start_date=anchor, timezone=UTC)
    tick: datetime = trigger.get_next_fire_time(None, bound + _TICK)
    # The trigger counts in floats, which from 2242 on may name the bound's own tick.
    if tick <= bound:
        tick = trigger.get_next_fire_time(None, bound + trigger.interval / 2)
    return tick


def _next_by_cron(cron: str, zone: ZoneInfo, bound: datetime) -> datetime | None:
    trigger = _wall_trigger(cron)
    wall = bound.astimezone(zone).replace(tzinfo=UTC, fold=0)
    # Walls of a repeated hour lie before a bound in its second pass: go on past them.
    while (wall := trigger.get_next_fire_time(None, wall + _TICK)) is not None:
        moment = instant(wall.replace(tzinfo=zone))
        if moment > bound:
            return moment
    return None


@lru_cache(maxsize=4096)
def _wall_trigger(cron: str) -> Any:
    """Return the APScheduler trigger of a cron whose wall clock is labelled UTC.

    UTC has neither gaps nor repeats, so the trigger sees every wall time once.
    """
    from apscheduler.triggers.combining import OrTrigger
    from apscheduler.triggers.cron import CronTrigger

    parsed = parse_cron(cron)
    dates = []
    if parsed.days:
        dates.append({"day": _listed(parsed.days)})
    if parsed.weekdays is not None:
        # APScheduler's own numbering begins with 0 for Monday.
        mondays_first = frozenset((day - 1) % 7 for day in parsed.weekdays)
        dates.append({"day_of_week": _listed(mondays_first)})
    triggers = [
        CronTrigger(
            **date,
            month=_listed(parsed.months),
            hour=_listed(parsed.hours),
            minute=_listed(parsed.minutes),
            second="0",
            timezone=UTC,
        )
        for date in dates or [{}]
    ]
    return triggers[0] if len(triggers) == 1 else OrTrigger(triggers)


def _listed(values: frozenset[int]) -> str:
    """Return numbers as APScheduler lists them, in the few ranges that are quick."""
    starts = sorted(value for value in values if value - 1 not in values)
    ends = sorted(value for value in values if value + 1 not in values)
    pairs = zip(starts, ends, strict=True)
    return ",".join(f"{start}-{end}" for start, end in pairs)


def _check_timer(timer: float) -> None:
    if isinstance(timer, bool) or not isinstance(timer, int | float):
        raise InvalidTypeError(
            f"The timer is a {type(timer).__name__}: give a number of seconds, such as "
            "86400 for a day.",
            timer=timer,
        )
    if not TIMER_MIN <= timer <= TIMER_MAX:
        raise InvalidValueError(
            f"The timer is {reprlib.repr(timer)} s: give from {TIMER_MIN} to "
            f"{TIMER_MAX} seconds, such as 86400 for a day.",
            timer=timer,
        )


def _check_zone(name: str) -> None:
    if not isinstance(name, str):
        raise InvalidTypeError(
            f"The time zone is a {type(name).__name__}: give a name such as "
            "'Europe/Berlin'.",
            timezone=name,
        )
    if name != "UTC" and name not in _zone_names():
        raise _unknown_zone(name)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise _unknown_zone(name) from error


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    # These two mean something else on every machine, or nothing.
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _unknown_zone(name: str) -> InvalidValueError:
    from difflib import get_close_matches

    names = {each.lower(): each for each in sorted(_zone_names())}
    close = get_close_matches(name.lower(), names, n=3)
    nearest = [names[each] for each in close] or ["UTC", "Europe/Berlin"]
    return InvalidValueError(
        f"There is no time zone {name!r}: write a name of the IANA database, such as "
        f"{' or '.join(nearest)}.",
        timezone=name,
        nearest=nearest,
    )


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise InvalidValueError(
            f"The time {moment.isoformat()} has no time zone: give an aware one, such "
            "as datetime.now(UTC).",
        )
    return moment.astimezone(UTC)
