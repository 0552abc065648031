"""What must hold of a run that met a fault, whatever the fault was.

1. The run's error says what happened, and what to do, in one sentence.
2. Nothing is left behind: no scratch, no half-written file.
3. The invariants hold.
4. Once the fault is gone, the next run is clean.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aero import error
from aero.app import Aero
from tests.invariants import check_invariants

Flow = dict[str, Any]
Run = dict[str, Any]

PATIENCE = 60


def suffer(
    app: Aero, flow: Flow, *, kind: str, says: str, status: str, sound: bool = True
) -> Run:
    """Run a flow whose fault is there; assert laws 1 to 3 and return the run.

    Args:
        app: The workspace, which is not running in the background.
        flow: The flow.
        kind: The type of the run's error; what others raise need be no sentence.
        says: A pattern of its message.
        status: PENDING, if the run is to be tried again, or FAILED.
        sound: Whether the stored bytes are those of the versions meanwhile.
    """
    run_id = app.run_flow(flow["id"], wait=False)["id"]
    app.engine.run_ready()
    run = app.get_run(run_id)
    assert (run["status"], run["error_type"]) == (status, kind), run["error_message"]
    assert re.search(says, run["error_message"]), run["error_message"]
    if hasattr(error, kind):
        assert is_one_sentence(run["error_message"]), run["error_message"]
    assert left_behind(app) == []
    store = app.settings.store if sound else None
    assert check_invariants(app.db, store=store) == []
    return run


def recover(app: Aero, flow: Flow, status: str = "SUCCEEDED") -> Run:
    """Run a flow whose fault is gone; assert laws 2 to 4 and return the run."""
    run = app.run_flow(flow["id"], timeout=PATIENCE)
    assert (run["status"], run["error_message"]) == (status, None), run
    app.run_until_idle(PATIENCE)
    assert left_behind(app) == []
    assert check_invariants(app.db, store=app.settings.store, idle=True) == []
    return run


def endure(
    app: Aero, flow: Flow, mend: Callable[[], object], *, kind: str, says: str
) -> Run:
    """Assert all four laws of a fault that may pass; return the run that met it."""
    run = suffer(app, flow, kind=kind, says=says, status="PENDING")
    mend()
    assert recover(app, flow)["id"] == run["id"]
    return run


def is_one_sentence(text: str) -> bool:
    """Whether a message is one sentence that says what happened and what to do."""
    inside = re.search(r"[.!?]\s+[A-Z]|\n", text)
    return text.endswith(".") and not inside and (": " in text or "; " in text)


def left_behind(app: Aero) -> list[Path]:
    """Return what runs left in scratch, their temporary folder too, and the store."""
    conf = app.settings
    return [*conf.scratch.glob("*"), *(conf.store / "tmp").glob("*")]
