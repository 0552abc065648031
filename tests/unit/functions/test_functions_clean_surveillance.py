from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.types import AeroOutput
from functions.clean_surveillance import clean_surveillance

DAYS = st.dates(date(1848, 1, 1), date(1849, 12, 31))


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.dictionaries(DAYS, st.integers(0, 10**9), min_size=1, max_size=20),
    data=st.data(),
)
def test_every_day_appears_once_in_order_with_its_count(counts, data, write, rows_of):
    order = data.draw(st.permutations(list(counts)))
    path = write("date,deaths\n" + "".join(f"{day},{counts[day]}\n" for day in order))

    rows = rows_of(clean_surveillance(path))

    length = (max(counts) - min(counts)).days + 1
    days = [min(counts) + timedelta(days=n) for n in range(length)]
    assert rows == [
        {"date": str(day), "count": str(counts.get(day, 0))} for day in days
    ]


def test_the_output_is_called_deaths_and_cleaning_it_again_changes_nothing(write):
    once = clean_surveillance(write("date,deaths\n1849-01-02,4\n1849-01-01,3\n"))
    before = once.path.read_bytes()

    again = clean_surveillance(str(once.path), count_column="count")

    assert once == again == AeroOutput("deaths", "clean_deaths.csv")
    assert before == again.path.read_bytes()
    assert before == b"date,count\n1849-01-01,3\n1849-01-02,4\n"


@pytest.mark.parametrize(("missing", "cell"), [("zero", "0"), ("nan", "")])
@pytest.mark.parametrize("middle", ["", "1849-01-02,\n", "1849-01-02,NA\n"])
def test_missing_days_become_what_was_asked_for(missing, cell, middle, write, rows_of):
    path = write(f"date,deaths\n1849-01-01,3\n{middle}1849-01-03,5\n")

    rows = rows_of(clean_surveillance(path, missing=missing))

    assert [row["count"] for row in rows] == ["3", cell, "5"]


def test_one_cause_is_taken_out_of_a_table_of_several(write, rows_of):
    path = write("date,cause,deaths\n1849-01-01,cholera,3\n1849-01-01,diarrhoea,7\n")

    rows = rows_of(clean_surveillance(path, cause="diarrhoea"))

    assert rows == [{"date": "1849-01-01", "count": "7"}]


def test_other_columns_formats_marks_and_floats_are_understood(rows_of):
    Path("other.csv").write_text(
        "\ufeffday , n\n".replace(" ", "") + "02/01/1849, 4.0\n01/01/1849,3.\n",
        encoding="utf-8",
    )

    output = clean_surveillance(
        "other.csv", date_column="day", count_column="n", date_format="%d/%m/%Y"
    )

    assert [row["count"] for row in rows_of(output)] == ["3", "4"]


def test_a_table_without_rows_stays_one(write):
    output = clean_surveillance(write("date,deaths\n"))

    assert output.path.read_text(encoding="utf-8") == "date,count\n"


@pytest.mark.parametrize("count", ["-1", "1.5", "many", "1e3", "inf", "²", "1_0"])
def test_what_is_no_count_is_refused_with_its_line(count, write):
    path = write(f"date,deaths\n1849-01-01,3\n1849-01-02,{count}\n")

    with pytest.raises(ValueError, match=rf"^Line 3: the count '{count}' is not"):
        clean_surveillance(path)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("date,deaths\n1 May,3\n", {}, "Line 2: the date '1 May' is not written"),
        ("date,deaths\n1849-02-29,3\n", {}, "Line 2: the date '1849-02-29'"),
        ("date,deaths\n1849-01-01,3\n1849-01-01,3\n", {}, "1849-01-01 occurs twice"),
        ("day,deaths\n", {}, "no column 'date': name one of .'day', 'deaths'."),
        ("date,count\n", {}, "no column 'deaths'"),
        ("date,deaths\n", {"cause": "cholera"}, "no column 'cause'"),
        ("", {}, "no column 'date'"),
        ("date,deaths\n", {"missing": "mean"}, "missing='mean' has no meaning"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(text, options, message, write):
    with pytest.raises(ValueError, match=message):
        clean_surveillance(write(text), **options)
