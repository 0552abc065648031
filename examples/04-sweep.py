"""Run one function over a list of parameters, each with a record of its own."""

import json
import tempfile
from pathlib import Path

from aero import Aero, AeroOutput
from aero.config import ClientConf


def epidemic(r0, days=60):
    """Write how many of 1000 people were infected, by day, in a small SIR model."""
    from pathlib import Path

    susceptible, infected, rows = 999.0, 1.0, ["day,infected"]
    for day in range(days):
        new = r0 / 5 * susceptible * infected / 1000
        susceptible, infected = susceptible - new, infected + new - infected / 5
        rows.append(f"{day},{infected:.3f}")
    Path("curve.csv").write_text("\n".join(rows))
    return AeroOutput("curve", "curve.csv")


with (
    tempfile.TemporaryDirectory() as name,
    Aero(ClientConf(home=Path(name, "home"))) as app,
):
    config = Path(name, "sweep.json")
    config.write_text(json.dumps([{"r0": 1.2}, {"r0": 2.0}, {"r0": 3.5, "days": 30}]))
    flow = app.register_flow(
        "local",
        app.register_function(epidemic),
        output_data={"curve": {}},
        config=config,
    )
    result = app.run_flow(flow["id"])

    found = {}
    for record in app.list_metadata("prov"):
        version = record["contributed_to"][0]
        copy = Path(name, f"{record['task']}.csv")
        app.fetch_version("curve", copy, version["version"])
        rows = copy.read_text().splitlines()[1:]
        peak = max(float(row.split(",")[1]) for row in rows)
        print(f"curve@{version['version']} of {record['kwargs']}: peak {peak:.0f}")
        found[record["kwargs"]["r0"]] = (len(rows), round(peak))

    assert [run["status"] for run in result["runs"]] == ["SUCCEEDED"] * 3
    assert {r0: days for r0, (days, _) in found.items()} == {1.2: 60, 2.0: 60, 3.5: 30}
    assert found[1.2][1] < found[2.0][1] < found[3.5][1]
