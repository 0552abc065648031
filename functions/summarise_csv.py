"""Says what is in the columns of any CSV file."""

from aero.types import AeroOutput


def summarise_csv(
    table: str, *, delimiter: str = ",", encoding: str = "utf-8-sig", most: int = 8
) -> AeroOutput:
    """Summarise a CSV: one row per column.

    A column is an `integer`, a `number` (finite, with a decimal point or exponent), a
    `date` (YYYY-MM-DD) or a `text` if all its present cells are, and `empty` if none
    is present. Cells that are blank, `NA`, `NaN` or `null` are missing.

    Args:
        table: Path of a CSV with a header.
        delimiter: What stands between cells.
        encoding: The file's encoding; the default is UTF-8 with or without a mark.
        most: How many values of a text column are listed, the most frequent first.

    Returns:
        The output `summary`: a CSV with the columns `column`, `type`, `count` (of
        present cells), `missing`, `distinct`, `min`, `mean`, `max` and `values`.
        Least and greatest are written as they are in the table; text has neither, but
        `values`: `cholera (365); diarrhoea (365)`.

    Raises:
        ValueError: There is no header, a column's name occurs twice, or a row has
            more cells than the header.
    """
    import csv
    import math
    import re
    from collections import Counter
    from pathlib import Path

    kinds = {
        "integer": re.compile(r"[+-]?[0-9]+"),
        "number": re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"),
        "date": re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"),
        "text": re.compile(r".*", re.DOTALL),
    }

    def summary(cells: Counter[str]) -> dict[str, object]:
        missing = sum(cells.pop(word, 0) for word in ("", "NA", "NaN", "nan", "null"))
        facts: dict[str, object] = {
            "type": "empty",
            "count": cells.total(),
            "missing": missing,
            "distinct": len(cells),
        }
        if not cells:
            return facts
        facts["type"] = kind = next(
            name
            for name, pattern in kinds.items()
            if all(pattern.fullmatch(cell) for cell in cells)
        )
        if kind == "text":
            ranked = sorted(cells.items(), key=lambda item: (-item[1], item[0]))
            listed = [f"{cell} ({times})" for cell, times in ranked[:most]]
            facts["values"] = "; ".join(listed + ["..."] * (len(ranked) > most))
            return facts
        key = str if kind == "date" else float
        facts |= {"min": min(cells, key=key), "max": max(cells, key=key)}
        if kind != "date":
            total = math.fsum(float(cell) * times for cell, times in cells.items())
            facts["mean"] = f"{total / cells.total():.10g}"
        return facts

    with Path(table).open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader, [])
        if not header or len(set(header)) < len(header):
            raise ValueError(
                f"The header {header} does not name each column once: give the table "
                "one that does."
            )
        columns: list[Counter[str]] = [Counter() for _ in header]
        for row in filter(None, reader):
            if len(row) > len(header):
                raise ValueError(
                    f"Line {reader.line_num} has {len(row)} cells and the header "
                    f"{len(header)}: quote the cells that hold a {delimiter!r}."
                )
            blanks = [""] * (len(header) - len(row))
            for counter, cell in zip(columns, row + blanks, strict=True):
                counter[cell.strip()] += 1

    output = Path("summary.csv")
    fields = ["column", "type", "count", "missing", "distinct"]
    fields += ["min", "mean", "max", "values"]
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, restval="", lineterminator="\n")
        writer.writeheader()
        for name, cells in zip(header, columns, strict=True):
            writer.writerow({"column": name, **summary(cells)})
    return AeroOutput("summary", output)
