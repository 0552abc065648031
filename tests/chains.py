"""An engine that chains the steps of flows itself, as scripts and schedulers do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aero import Aero, aero_format
from aero.storage import open_storage
from tests.scenarios import Held, another


def payload_of(flow: dict[str, Any], run: Any = None) -> dict[str, Any]:
    """Return the payload that a flow's record has ready, for a run if there is one."""
    payload = dict(flow["function_args"]["kwargs"]["aero"])
    if run is not None:
        payload |= {"run_id": run["id"], "attempt": run["attempt"]}
    return payload


def worked(
    app: Any, flow: dict[str, Any], function: Callable[..., Any], run: Any = None
) -> dict[str, Any]:
    """Return the payload as the steps complete it, nothing of it committed."""
    kwargs = {**flow["function_args"]["kwargs"]}
    kwargs["aero"] = app.pin_inputs(payload_of(flow, run))
    completed: dict[str, Any] = aero_format(function)(**kwargs)["aero"]
    return completed


def stored(app: Aero, folder: Path, content: bytes) -> dict[str, Any]:
    """Store bytes as a step does; return what it says of them."""
    path = folder / "to-be-stored"
    path.write_bytes(content)
    found = open_storage(app.storage_location).put(path)
    return {"uri": found.uri, "sha256": found.sha256, "size": found.size}


@contextmanager
def holding(app: Aero, **options: Any) -> Iterator[Aero]:
    """Open a process that claims what waits, and never ends it."""
    with another(app, executor=Held(), clock=app.db.clock, **options) as holder:
        holder.engine._ready().step()
        yield holder


def running(app: Aero, flow: dict[str, Any]) -> dict[str, Any]:
    """Return the RUNNING run of a flow."""
    (run,) = app.list_runs(flow["id"], "RUNNING")
    return run
