"""Run by the calendar, on a clock that the example moves by hand."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from aero import Aero, AeroOutput
from aero.config import ClientConf
from aero.testing import FrozenClock


def note(text):
    """Write a line."""
    from pathlib import Path

    Path("note.txt").write_text(text)
    return AeroOutput("note", "note.txt")


clock = FrozenClock(datetime(2026, 3, 27, 12, tzinfo=UTC))  # a Friday noon
with (
    tempfile.TemporaryDirectory() as name,
    Aero(ClientConf(home=Path(name)), clock=clock) as app,
):
    flow = app.register_flow(
        "local",
        app.register_function(note),
        output_data={"note": {}},
        kwargs={"text": "good morning"},
        policy="TIMER",
        cron="0 6 * * 1-5",
        timezone="Europe/Berlin",
    )
    print("registered on Friday; next due", flow["next_due"])
    app.run_until_idle()
    before = list(app.list_runs(flow["id"]))

    clock.set(
        datetime(2026, 3, 30, 4, tzinfo=UTC)
    )  # Monday, 6 h in Berlin's summer time
    app.run_until_idle()
    monday = list(app.list_runs(flow["id"]))

    clock.set(datetime(2026, 4, 2, 4, 30, tzinfo=UTC))  # off until Thursday
    app.run_until_idle()
    thursday = list(app.list_runs(flow["id"]))
    for run in thursday:
        print(run["trigger_key"], run["status"])
    after = app.get_flow(flow["id"], inputs_only=False)
    print("next due", after["next_due"])

    assert flow["next_due"].startswith("2026-03-30T04:00:00")
    assert (len(before), len(monday)) == (0, 1)
    assert len(thursday) == 2, "what was missed is one run, not three"
    assert after["next_due"].startswith("2026-04-03T04:00:00")
