"""What the demo's flows are doing, as far as this process was told."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from aero.types import Json, RunStatus


@dataclass(kw_only=True)
class Row:
    """One flow: `runs` and `unchanged` count its ended runs, `version` is the newest.

    `status` is that of its last or current run, empty before the first.
    """

    name: str
    policy: str
    version: int
    status: str = ""
    runs: int = 0
    unchanged: int = 0


class Board:
    """The state of some flows, fed with events and read by others; thread-safe."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}
        self._lock = threading.Lock()
        self._failure: str | None = None

    def follow(self, flows: Sequence[Json]) -> None:
        """Show these flows, each under the name of the Data it writes."""
        with self._lock:
            for flow in flows:
                written = flow["contributed_to"][0]
                self._rows[flow["id"]] = Row(
                    name=written["name"],
                    policy=flow["policy_name"],
                    version=written["available_versions"],
                )

    def heard(self, event: str, facts: Json) -> None:
        """Take in what `Aero` tells a listener."""
        with self._lock:
            row = self._rows.get(facts["flow_id"])
            if row is None:
                return
            if event == "started":
                row.status = RunStatus.RUNNING.value
                return
            row.status = facts["status"]
            row.runs += 1
            row.unchanged += row.status == RunStatus.UNCHANGED
            for _, version in facts.get("new_versions", ()):
                row.version = version
            self._failure = _failure(row, facts) or self._failure

    def rows(self) -> list[Row]:
        """Return the flows as they are now."""
        with self._lock:
            return [Row(**vars(row)) for row in self._rows.values()]

    @property
    def failure(self) -> str | None:
        """What ended a run as FAILED, if anything did."""
        with self._lock:
            return self._failure


def _failure(row: Row, facts: Json) -> str | None:
    if row.status != RunStatus.FAILED or facts["error"].startswith("superseded"):
        return None
    return f"{row.name}: {facts['error']}"
