import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero.types import AeroOutput
from functions.summarise_csv import summarise_csv

TABLE = """\
date,cause,deaths,rate,note
1849-01-02,cholera,9,0.5,
1849-01-01,cholera,10,-1e-1,NA
1849-01-03,diarrhoea,,2,
"""


@pytest.fixture
def summary(write, rows_of):
    def run(text, **options):
        rows = rows_of(summarise_csv(write(text), **options))
        return {row.pop("column"): row for row in rows}

    return run


def test_each_kind_of_column_is_summed_up(summary):
    found = summary(TABLE)

    kinds = {name: row["type"] for name, row in found.items()}
    assert kinds == {
        "date": "date",
        "cause": "text",
        "deaths": "integer",
        "rate": "number",
        "note": "empty",
    }
    assert found["deaths"] == {
        "type": "integer",
        "count": "2",
        "missing": "1",
        "distinct": "2",
        "min": "9",
        "mean": "9.5",
        "max": "10",
        "values": "",
    }
    assert (found["rate"]["min"], found["rate"]["mean"]) == ("-1e-1", "0.8")
    assert (found["date"]["min"], found["date"]["max"]) == ("1849-01-01", "1849-01-03")
    assert found["date"]["mean"] == ""
    assert found["cause"]["values"] == "cholera (2); diarrhoea (1)"
    assert (found["note"]["count"], found["note"]["missing"]) == ("0", "3")


def test_only_the_most_frequent_values_are_listed(summary):
    found = summary("x\nb\na\nc\nb\n", most=2)

    assert found["x"]["values"] == "b (2); a (1); ..."
    assert found["x"]["distinct"] == "3"


def test_short_rows_blank_lines_and_other_dialects_are_understood(summary):
    found = summary("a;b\n1;2\n3\n\n", delimiter=";")

    assert (found["a"]["count"], found["a"]["missing"]) == ("2", "0")
    assert (found["b"]["count"], found["b"]["missing"]) == ("1", "1")


def test_a_table_without_rows_has_empty_columns(write, rows_of):
    output = summarise_csv(write("a,b\n"))

    assert output == AeroOutput("summary", "summary.csv")
    assert [row["type"] for row in rows_of(output)] == ["empty", "empty"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=st.lists(st.integers(-(10**9), 10**9), min_size=1))
def test_integers_have_the_least_mean_and_greatest_of_their_list(numbers, summary):
    row = summary("n\n" + "".join(f"{number}\n" for number in numbers))["n"]

    assert (int(row["min"]), int(row["max"])) == (min(numbers), max(numbers))
    mean = math.fsum(numbers) / len(numbers)
    assert float(row["mean"]) == pytest.approx(mean, rel=1e-8, abs=1e-8)
    assert (int(row["count"]), int(row["distinct"])) == (
        len(numbers),
        len(set(numbers)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not name each column once"),
        ("a,a\n1,2\n", "does not name each column once"),
        ("a,b\n1,2\n1,2,3\n", "Line 3 has 3 cells and the header 2"),
    ],
)
def test_tables_whose_cells_have_no_column_are_refused(text, message, write):
    with pytest.raises(ValueError, match=message):
        summarise_csv(write(text))
