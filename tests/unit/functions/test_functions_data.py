"""The shipped table is whole."""

import csv
from datetime import date, timedelta

import pytest

from aero.shipped import shipped

YEAR = [str(date(1849, 1, 1) + timedelta(days=n)) for n in range(365)]


@pytest.mark.parametrize(
    ("cause", "total", "greatest"),
    [("cholera", 53_293, 1121), ("diarrhoea", 18_887, 218)],
)
def test_each_cause_has_every_day_of_1849_once(cause, total, greatest):
    path = shipped("functions") / "data" / "cholera_deaths_1849.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["cause"] == cause]
    deaths = [int(row["deaths"]) for row in rows]

    assert [row["date"] for row in rows] == YEAR
    assert (sum(deaths), max(deaths)) == (total, greatest)
    assert min(deaths) >= 0
