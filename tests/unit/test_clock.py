# ruff: noqa: DTZ001 -- naive times are what is tested
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.clock import isoformat, utc_now
from aero.error import InvalidValueError
from aero.testing import FrozenClock


def test_now_is_aware_and_utc():
    before = datetime.now(UTC)
    now = utc_now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now <= datetime.now(UTC)


def test_none_stays_none():
    assert isoformat(None) is None


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_isoformat_keeps_the_moment_and_shows_its_offset(naive, minutes):
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    shown = isoformat(moment)
    assert shown.endswith("+00:00")
    assert datetime.fromisoformat(shown) == moment


def test_a_frozen_clock_moves_only_when_told():
    clock = FrozenClock()
    start = clock()
    assert clock() == start
    assert clock.advance(1.5) == start + timedelta(seconds=1.5)
    assert clock.advance(timedelta(days=-1)) == clock()
    assert clock.set(start) == clock() == start
    assert start.isoformat() in repr(clock)


def test_a_frozen_clock_is_never_naive():
    with pytest.raises(InvalidValueError):
        FrozenClock(datetime(2026, 1, 1))
    with pytest.raises(InvalidValueError):
        FrozenClock().set(datetime(2026, 1, 1))
