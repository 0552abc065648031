"""Turns a published surveillance table into a tidy daily series."""

from aero.types import AeroOutput


def clean_surveillance(
    deaths: str,
    *,
    date_column: str = "date",
    count_column: str = "deaths",
    missing: str = "zero",
    date_format: str = "%Y-%m-%d",
    cause: str | None = None,
    cause_column: str = "cause",
) -> AeroOutput:
    """Clean a surveillance CSV into one row per day: `date,count`.

    Dates are parsed and sorted, and days that the table leaves out between its
    first and its last are filled in, so that what follows can rely on a complete
    daily series. A table without rows stays one.

    Args:
        deaths: Path of a CSV (UTF-8, with a header) of at least a date and a count
            column; other columns are ignored.
        date_column: The column of dates.
        count_column: The column of counts: whole numbers, 0 or more. A blank cell or
            `NA` makes its day a missing one.
        missing: What a missing day's count becomes: `zero` where no report means
            that nobody died, `nan` (a blank cell) where it means that nobody knows.
        date_format: How dates are written, in the words of `strptime`.
        cause: Use only the rows whose `cause_column` says this; all rows if None.
        cause_column: The column that `cause` is looked up in.

    Returns:
        The output `deaths`: a CSV with the columns `date` (ISO 8601) and `count`.

    Raises:
        ValueError: A column is absent, a date or count cannot be read, a count is
            negative, a day occurs twice, or `missing` is neither word.
    """
    import csv
    import re
    import time
    from datetime import date, timedelta
    from pathlib import Path

    fill = {"zero": "0", "nan": ""}
    if missing not in fill:
        raise ValueError(f"missing={missing!r} has no meaning: say 'zero' or 'nan'.")

    def cells(reader: csv.DictReader) -> list[tuple[int, str, str]]:
        found = reader.fieldnames or []
        for name in [date_column, count_column, *([cause_column] if cause else [])]:
            if name not in found:
                raise ValueError(
                    f"The table has no column {name!r}: name one of {[*found]}."
                )
        return [
            (reader.line_num, row[date_column].strip(), row[count_column].strip())
            for row in reader
            if cause is None or row[cause_column].strip() == cause
        ]

    with Path(deaths).open(encoding="utf-8-sig", newline="") as file:
        rows = cells(csv.DictReader(file, restval=""))

    counts: dict[date, str] = {}
    for line, written, count in rows:
        try:
            day = date(*time.strptime(written, date_format)[:3])
        except ValueError as error:
            raise ValueError(
                f"Line {line}: the date {written!r} is not written as {date_format!r}; "
                "give its date_format."
            ) from error
        if day in counts:
            raise ValueError(
                f"Line {line}: {day} occurs twice; choose a cause, or leave one row "
                "per day."
            )
        # "13.0" is what programs make of a count when its column has gaps.
        number = re.fullmatch(r"(?:NA)?|([0-9]+)(?:\.0*)?", count)
        if number is None:
            raise ValueError(
                f"Line {line}: the count {count!r} is not a whole number of 0 or more; "
                "correct it in the source."
            )
        counts[day] = number[1] or fill[missing]

    output = Path("clean_deaths.csv")
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["date", "count"])
        first, last = min(counts, default=date.max), max(counts, default=date.min)
        for offset in range((last - first).days + 1):
            day = first + timedelta(days=offset)
            writer.writerow([day.isoformat(), counts.get(day, fill[missing])])
    return AeroOutput("deaths", output)
