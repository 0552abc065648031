"""What a cron expression may say, and what is answered when it says it badly."""

import re

import pytest

from aero.cron import MACROS, Cron, parse_cron
from aero.error import InvalidTypeError, InvalidValueError

ALL_MINUTES = frozenset(range(60))
ALL_HOURS = frozenset(range(24))
ALL_MONTHS = frozenset(range(1, 13))


def every(**changes: frozenset[int] | None) -> Cron:
    fields = {
        "minutes": ALL_MINUTES,
        "hours": ALL_HOURS,
        "days": None,
        "months": ALL_MONTHS,
        "weekdays": None,
    }
    return Cron(**{**fields, **changes})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("* * * * *", every()),
        ("  5\t*  * * * ", every(minutes=frozenset({5}))),
        ("05 * * * *", every(minutes=frozenset({5}))),
        ("0,30,30 * * * *", every(minutes=frozenset({0, 30}))),
        ("*/20 * * * *", every(minutes=frozenset({0, 20, 40}))),
        ("*/60 */24 * * *", every(minutes=frozenset({0}), hours=frozenset({0}))),
        ("10-20/5,1 * * * *", every(minutes=frozenset({1, 10, 15, 20}))),
        ("* 22-23 * * *", every(hours=frozenset({22, 23}))),
        ("* * 1-3 * *", every(days=frozenset({1, 2, 3}))),
        ("* * */10 * *", every(days=frozenset({1, 11, 21, 31}))),
        ("* * * jan,MAR-may *", every(months=frozenset({1, 3, 4, 5}))),
        ("* * * */5 *", every(months=frozenset({1, 6, 11}))),
        ("* * * * 0", every(weekdays=frozenset({0}))),
        ("* * * * 7", every(weekdays=frozenset({0}))),
        ("* * * * sun", every(weekdays=frozenset({0}))),
        ("* * * * Mon-Fri", every(weekdays=frozenset({1, 2, 3, 4, 5}))),
        ("* * * * 5-7", every(weekdays=frozenset({5, 6, 0}))),
        ("* * * * fri-sun", every(weekdays=frozenset({5, 6, 0}))),
        ("* * * * sun-sun", every(weekdays=frozenset({0}))),
        ("* * * * 0-7", every(weekdays=frozenset(range(7)))),
        ("* * * * */2", every(weekdays=frozenset({0, 2, 4, 6}))),
        ("* * * * 1-7/2", every(weekdays=frozenset({1, 3, 5, 0}))),
        (
            "* * 30,31 2 5",
            every(days=frozenset(), months=frozenset({2}), weekdays=frozenset({5})),
        ),
        ("* * 29-31 2 *", every(days=frozenset({29}), months=frozenset({2}))),
    ],
)
def test_reads_what_posix_and_its_common_extensions_write(
    expression: str, expected: Cron
) -> None:
    assert parse_cron(expression) == expected


@pytest.mark.parametrize("macro", sorted(MACROS))
def test_a_macro_is_its_five_fields(macro: str) -> None:
    assert parse_cron(macro.upper()) == parse_cron(MACROS[macro])


@pytest.mark.parametrize(
    ("expression", "field", "value", "reason"),
    [
        ("60 * * * *", "minute", "60", "60 is not from 0 to 59"),
        ("* 24 * * *", "hour", "24", "24 is not from 0 to 23"),
        ("* * 0 * *", "day-of-month", "0", "0 is not from 1 to 31"),
        ("* * 32 * *", "day-of-month", "32", "32 is not from 1 to 31"),
        ("* * * 0 *", "month", "0", "0 is not from 1 to 12"),
        ("* * * 13 *", "month", "13", "13 is not from 1 to 12"),
        ("* * * * 8", "day-of-week", "8", "8 is not from 0 to 7"),
        ("* * * * mon-8", "day-of-week", "mon-8", "8 is not from 0 to 7"),
        ("* * * * jan", "day-of-week", "jan", "'jan' is no name it knows"),
        ("* * * foo *", "month", "foo", "'foo' is no name it knows"),
        ("* mon * * *", "hour", "mon", "'mon' is no name it knows"),
        ("30-10 * * * *", "minute", "30-10", "'30-10' runs backwards"),
        ("* * * * 6-0", "day-of-week", "6-0", "'6-0' runs backwards"),
        ("* * * dec-jan *", "month", "dec-jan", "'dec-jan' runs backwards"),
        ("*/0 * * * *", "minute", "*/0", "step 0 is not from 1 to 60"),
        ("1-5/0 * * * *", "minute", "1-5/0", "step 0 is not from 1 to 60"),
        ("*/90 * * * *", "minute", "*/90", "step 90 is not from 1 to 60"),
        ("* * * * */8", "day-of-week", "*/8", "step 8 is not from 1 to 7"),
        ("5/10 * * * *", "minute", "5/10", "'5/10' needs a range or * before"),
        ("1,,2 * * * *", "minute", "1,,2", "'' is no number"),
        ("-1 * * * *", "minute", "-1", "'-1' is no number"),
        ("1.5 * * * *", "minute", "1.5", "'1.5' is no number"),
        ("*-5 * * * *", "minute", "*-5", "'*-5' is no number"),
        ("٣ * * * *", "minute", "٣", "'٣' is no number"),
        ("9999999999999 * * * *", "minute", "9999999999999", "is no number"),
        ("* * ? * *", "day-of-month", "?", "'?' is no number"),
        ("* * L * *", "day-of-month", "l", "'l' is no number"),
        ("* * * * 5#2", "day-of-week", "5#2", "'5#2' is no number"),
        ("0 0 31 2 *", "day-of-month", "31", "has a day 31: use a day of at most 29"),
        ("0 0 31 4,6,9 *", "day-of-month", "31", "use a day of at most 30"),
    ],
)
def test_a_bad_field_is_named_with_its_value_and_an_example(
    expression: str, field: str, value: str, reason: str
) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(reason)) as caught:
        parse_cron(expression)
    assert (caught.value.field, caught.value.value) == (field, value)
    assert caught.value.cron == expression
    assert repr(expression) in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "has 0 fields instead of five"),
        ("   ", "has 0 fields instead of five"),
        ("* * * *", "has 4 fields instead of five"),
        ("0 * * * * *", "has 6 fields instead of five"),
        ("@reboot", "is not a known macro: write @hourly, "),
        ("@daily *", "is not a known macro"),
    ],
)
def test_what_is_not_five_fields_is_refused(expression: str, reason: str) -> None:
    with pytest.raises(InvalidValueError, match=reason) as caught:
        parse_cron(expression)
    assert "such as '30 6 * * 1-5'" in str(caught.value)


def test_a_cron_that_is_no_string_is_a_type_error() -> None:
    with pytest.raises(InvalidTypeError, match="is a int: write a string"):
        parse_cron(5)  # type: ignore[arg-type]
