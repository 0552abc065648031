"""Takes runs from the queue and says what their steps are given.

A claim is one statement where no limit applies; what a run needs to know is read with
it, in a number of queries that does not depend on how many runs were taken.
"""

import itertools
import time
import uuid
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from aero.db.queries import claims as claim_queries
from aero.db.queries import definitions as definition_queries
from aero.db.queries import events as event_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.definitions import FlowDefinition
from aero.db.session import Database
from aero.runs import limits, payload
from aero.types import Json

_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class DispatchSettings:
    """How a dispatcher works; times in seconds."""

    storage: str
    scratch: Path
    agent: str
    fetch: Json
    credentials: Path
    workers: int
    timeout: float = 86400.0
    lease: float = 60.0
    heartbeat: float = 15.0


@dataclass(kw_only=True)
class Held:
    """A run that this process works on, with all that its steps were given."""

    run: Any
    definition: FlowDefinition
    inputs: list[Any]
    task: Json
    future: Future[Any] | None = None
    since: float = 0.0


class Claimer:
    """Claims runs for one worker.

    What never changes of a flow is read once and remembered.

    Args:
        db: The database.
        settings: How this process works.
        worker: The name that claims carry.
        endpoints: Whose runs may be taken.
    """

    def __init__(
        self,
        db: Database,
        settings: DispatchSettings,
        *,
        worker: str,
        endpoints: Collection[str],
    ) -> None:
        self._db = db
        self._settings = settings
        self._worker = worker
        self._endpoints = endpoints
        self._definitions: dict[str, FlowDefinition] = {}
        self._polled: set[tuple[str, int]] = set()

    def take(self, room: int) -> list[Held]:
        """Claim up to `room` runs, best first."""
        began = time.monotonic()
        claim_id, tries = str(uuid.uuid4()), itertools.count()

        def work(tx: Connection) -> list[Held]:
            return self._take(tx, room, claim_id, again=next(tries) > 0)

        claimed = self._db.write(work)
        seconds = time.monotonic() - began
        for held in claimed:
            held.task["versions_seconds"] = seconds
        return claimed

    def _take(
        self, tx: Connection, room: int, claim_id: str, *, again: bool = False
    ) -> list[Held]:
        # Where only the answer to its commit was lost, the first try has claimed.
        rows = claim_queries.taken(tx, claim_id) if again else []
        rows = rows or self._claim(tx, room, claim_id)
        if not rows:
            return []
        self._load_definitions(tx, {row.flow_id for row in rows})
        inputs: dict[str, list[Any]] = {}
        given = [row.id for row in rows if self._definitions[row.flow_id].fetch]
        for row in run_queries.inputs(tx, given) if given else []:
            inputs.setdefault(row.run_id, []).append(row)
        return [self._hold(tx, row, inputs.get(row.id, [])) for row in rows]

    def _claim(self, tx: Connection, room: int, claim_id: str) -> list[Any]:
        now = self._db.now(tx)
        asked: dict[str, Any] = {
            "now": now,
            "lease_expires": now + timedelta(seconds=self._settings.lease),
            "claim_id": claim_id,
            "claimed_by": self._worker,
            "endpoints": self._endpoints,
            "limit": room,
        }
        return claim_queries.claim(tx, **asked) or limits.claim(tx, **asked)

    def _load_definitions(self, tx: Connection, flow_ids: set[str]) -> None:
        unknown = flow_ids - self._definitions.keys()
        if unknown:
            if len(self._definitions) > _REMEMBERED:
                self._definitions.clear()
            self._definitions.update(definition_queries.load(tx, unknown))

    def _hold(self, tx: Connection, run: Any, inputs: list[Any]) -> Held:
        definition = self._definitions[run.flow_id]
        settings = self._settings
        body = payload.aero_payload(
            definition,
            run_id=run.id,
            attempt=run.attempt,
            task=run.task,
            inputs=payload.input_entries(
                definition, inputs, settings.storage, origins(tx, definition, inputs)
            ),
            outputs=payload.output_entries(
                definition,
                storage=settings.storage,
                states=self._validators(tx, run, definition),
                event=run.event,
            ),
        )
        task = payload.build_task(
            definition,
            run,
            body,
            workdir=settings.scratch / f"{run.id}.{run.attempt}.{run.claim[:8]}",
            fetch=self._fetch(),
        )
        task["timeout"] = definition.timeout or settings.timeout
        return Held(run=run, definition=definition, inputs=inputs, task=task)

    def _fetch(self) -> Json:
        # The credentials may be written while this process runs, or never.
        credentials = self._settings.credentials
        known = str(credentials) if credentials.exists() else None
        return {**self._settings.fetch, "credentials": known}

    def _validators(
        self, tx: Connection, run: Any, definition: FlowDefinition
    ) -> dict[str, Any]:
        """Return the last poll's validators, if this flow's function saw its bytes."""
        sources = [data.id for data in definition.outputs.values() if data.url]
        forced = run.event is not None and run.event.get("dedup") is False
        if not sources or forced:
            return {}
        key = (run.flow_id, run.task)
        if key not in self._polled:
            if not provenance_queries.has_any(tx, *key):
                return {}
            self._polled.add(key)
        return version_queries.source_states(tx, sources, run.task, run.source_key)


def origins(
    tx: Connection, definition: FlowDefinition, inputs: list[Any]
) -> dict[str, Any]:
    """Return where those inputs' objects are that a run wants the URL of."""
    asked = [row.id for row in inputs if payload.wants_url(definition, row)]
    return event_queries.origins(tx, asked) if asked else {}
