"""Rerun an analysis whenever its input has a new version, and only then."""

import tempfile
from pathlib import Path

from aero import Aero, AeroOutput, aero_format
from aero.config import ClientConf


@aero_format
def total(cases):
    """Add up the cases of all days."""
    import csv
    from pathlib import Path

    with Path(cases).open() as file:
        count = sum(int(row["cases"]) for row in csv.DictReader(file))
    print("counted", count)
    Path("total.txt").write_text(f"{count}\n")
    return AeroOutput("total", "total.txt")


with (
    tempfile.TemporaryDirectory() as name,
    Aero(ClientConf(home=Path(name, "home"))) as app,
):
    source = Path(name, "cases.csv")
    source.write_text("day,cases\n1,4\n2,6\n")
    ingestion = app.register_flow(
        "local",
        None,
        output_data={"cases": {"url": source.as_uri()}},
        policy="INGESTION",
        timer_delay=3600,
    )
    analysis = app.register_flow(
        "local",
        app.register_function(total),
        {"cases": {"id": ingestion["contributed_to"][0]["id"]}},
        {"total": {}},
        policy="ANY",
    )
    app.run_until_idle()

    with source.open("a") as file:
        file.write("3,9\n")
    app.run_flow(ingestion["id"])
    app.run_flow(ingestion["id"])  # nothing new, so nothing reruns
    app.run_until_idle()

    runs = list(app.list_runs(analysis["id"]))
    for run in runs:
        log = app.get_run(run["id"])["log_tail"]
        print(run["trigger_key"], run["status"], log.strip())
    copy = Path(name, "total.txt")
    app.fetch_version("total", copy)

    assert [run["trigger_key"] for run in runs] == ["inputs:cases=2", "inputs:cases=1"]
    assert {run["status"] for run in runs} == {"SUCCEEDED"}
    assert copy.read_text() == "19\n"
