"""The data that the demo publishes: daily deaths in England in 1849."""

import csv

from aero.shipped import shipped

CAUSES = ("cholera", "diarrhoea")


def published_rows() -> dict[str, list[str]]:
    """Return each file's lines `date,deaths`, in order of date, by the file's name."""
    table = shipped("functions") / "data" / "cholera_deaths_1849.csv"
    series: dict[str, list[str]] = {file_of(cause): [] for cause in CAUSES}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            series[file_of(row["cause"])].append(f"{row['date']},{row['deaths']}\n")
    return series


def file_of(cause: str) -> str:
    """Return the name under which a cause's series is published."""
    return f"{cause}.csv"
