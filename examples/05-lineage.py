"""Ask where a result came from, and what else came of the same data."""

import hashlib
import tempfile
from pathlib import Path

from aero import Aero, AeroOutput
from aero.config import ClientConf
from aero.provenance.tree import tree_lines


def clean(cases):
    """Drop the days without a count."""
    from pathlib import Path

    lines = Path(cases).read_text().splitlines(keepends=True)
    Path("clean.csv").write_text("".join(x for x in lines if not x.endswith(",\n")))
    return AeroOutput("cases", "clean.csv")


def total(cases):
    """Add up the cases of all days."""
    from pathlib import Path

    lines = Path(cases).read_text().splitlines()[1:]
    Path("total.txt").write_text(str(sum(int(line.split(",")[1]) for line in lines)))
    return AeroOutput("total", "total.txt")


with (
    tempfile.TemporaryDirectory() as name,
    Aero(ClientConf(home=Path(name, "home"))) as app,
):
    source = Path(name, "cases.csv")
    source.write_text("day,cases\n1,4\n2,\n3,9\n")
    ingestion = app.register_flow(
        "local",
        app.register_function(clean),
        output_data={"cases": {"url": source.as_uri()}},
        policy="INGESTION",
    )
    cases = {"cases": {"id": ingestion["contributed_to"][0]["id"]}}
    code = app.register_function(total)
    app.register_flow("local", code, cases, {"total": {}}, policy="ANY")
    app.run_until_idle()

    ancestry = app.lineage("total@1")
    print(*tree_lines(ancestry), sep="\n")
    impact = app.lineage("cases@1", "down")
    record = next(app.list_metadata("prov"))
    print("made by", record["agent"], "with Python", record["environment"]["python"])
    print(record["function"]["source"])

    downloads = [node["source"] for node in ancestry.nodes.values() if node["source"]]
    raw = hashlib.sha256(source.read_bytes()).hexdigest()
    assert [download["sha256"] for download in downloads] == [raw]
    assert "total" in {node["name"] for node in impact.nodes.values()}
    assert "def total(cases):" in record["function"]["source"]
    assert record["derived_from"][0]["name"] == "cases"
