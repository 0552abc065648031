"""Claims runs, submits their steps, follows the futures and recovers lost runs.

One thread at a time drives a dispatcher: the background loop, or the caller of
`run_until_idle`. Executors answer from threads of their own, into the inbox.
"""

import logging
import queue
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from aero import jobs
from aero.clock import utc_now
from aero.db.models import Flow
from aero.db.queries import definitions as definition_queries
from aero.db.queries import events as event_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import lock_rows
from aero.db.queries.definitions import FlowDefinition
from aero.db.session import Database
from aero.error import FencedError
from aero.runs import lifecycle, payload, presence
from aero.runs.commit import Committed, Execution, commit
from aero.runs.failures import failure_of, failure_of_result
from aero.runs.lifecycle import Failure
from aero.storage import open_storage
from aero.types import Json, RunStatus

log = logging.getLogger(__name__)

POLL = 0.1


@dataclass(frozen=True, kw_only=True)
class DispatchSettings:
    """How a dispatcher works; times in seconds."""

    storage: str
    scratch: Path
    agent: str
    fetch: Json
    credentials: Path
    slots: int
    timeout: float = 86400.0
    lease: float = 60.0
    heartbeat: float = 15.0


@dataclass(kw_only=True)
class _Held:
    run: Any
    definition: FlowDefinition
    inputs: list[Any]
    task: Json
    future: Future[Any] | None = None


Listener = Callable[[str, Json], None]


class Dispatcher:
    """Executes the runs of the endpoints it was given executors for."""

    def __init__(
        self,
        db: Database,
        executors: Mapping[str, Executor],
        settings: DispatchSettings,
        here: presence.Presence,
        *,
        listener: Listener | None = None,
    ) -> None:
        self._db = db
        self._executors = executors
        self._settings = settings
        self._here = here
        self._listener = listener
        self._held: dict[str, _Held] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._definitions: dict[str, FlowDefinition] = {}
        self._polled: set[tuple[str, int]] = set()
        self._next_beat = 0.0
        self._changes = 0
        self._look = True
        self._sure = False
        self._others = False
        self._entered = False

    @property
    def endpoints(self) -> list[str]:
        """The endpoints whose runs are executed here."""
        return list(self._executors)

    @property
    def others_committed(self) -> bool:
        """Whether the last `wait` ended because another process committed."""
        return self._others

    @property
    def busy(self) -> bool:
        """Whether runs are held."""
        return bool(self._held)

    def wake(self) -> None:
        """Say that there may be something to claim."""
        self._sure = True
        self._inbox.put(None)

    def step(self) -> bool:
        """Commit what is finished, beat if it is time, claim what there is room for.

        Returns:
            Whether a run ended.
        """
        if not self._entered:
            self._enter()
        done = self._finish_all()
        if time.monotonic() >= self._next_beat:
            self._beat()
        self._claim()
        return bool(done)

    def wait(self, timeout: float) -> None:
        """Return after `timeout` seconds, or when there is something to look at.

        That is a future that is done, a `wake`, or another process's commit.
        """
        self._others = False
        deadline = time.monotonic() + timeout
        while True:
            left = min(deadline, self._next_beat) - time.monotonic()
            try:
                item = self._inbox.get(timeout=max(0.0, min(left, POLL)))
            except queue.Empty:
                self._others = self._see_others()
                if left <= POLL or self._others:
                    self._look = True
                    return
                continue
            self._received(item)
            return

    def kill(self, run_id: str) -> None:
        """Stop the local work of a run that was cancelled."""
        held = self._held.get(run_id)
        if held is not None and held.future is not None:
            held.future.cancel()

    def close(self) -> None:
        """Hand back what is held, uncounted, and say goodbye."""
        if not self._entered:
            return
        for held in list(self._held.values()):
            if held.future is not None:
                held.future.cancel()
            self._db.write(partial(self._hand_back, held=held))
        self._held.clear()
        self._db.write(lambda tx: presence.depart(tx, [self._here.id]))
        self._here.leave()
        self._entered = False

    def _enter(self) -> None:
        self._here.enter()
        self._entered = True
        self._settings.scratch.mkdir(parents=True, exist_ok=True)
        self._beat()
        self._sweep_scratch()

    # -- claiming -----------------------------------------------------------------

    def _claim(self) -> None:
        room = self._settings.slots - len(self._held)
        if room <= 0 or not self._anything_waits():
            return
        began = time.monotonic()
        claimed = self._db.write(lambda tx: self._take(tx, room))
        seconds = time.monotonic() - began
        self._look = len(claimed) == room
        for held in claimed:
            self._held[held.run.id] = held
            held.task["versions_seconds"] = seconds
            self._submit(held)

    def _anything_waits(self) -> bool:
        # A look costs a tenth of a transaction that takes nothing.
        look, sure = self._look, self._sure
        self._look = self._sure = False
        if sure or not look:
            return sure
        with self._db.read() as tx:
            return run_queries.any_pending(tx)

    def _take(self, tx: Connection, room: int) -> list[_Held]:
        now = self._db.now(tx)
        rows = run_queries.claim(
            tx,
            now=now,
            lease_expires=now + timedelta(seconds=self._settings.lease),
            claim_id=str(uuid.uuid4()),
            claimed_by=self._here.id,
            endpoints=self.endpoints,
            limit=room,
        )
        if not rows:
            return []
        self._load_definitions(tx, {row.flow_id for row in rows})
        inputs: dict[str, list[Any]] = {}
        for row in run_queries.inputs(tx, [row.id for row in rows]):
            inputs.setdefault(row.run_id, []).append(row)
        return [self._hold(tx, row, inputs.get(row.id, [])) for row in rows]

    def _load_definitions(self, tx: Connection, flow_ids: set[str]) -> None:
        unknown = flow_ids - self._definitions.keys()
        if unknown:
            if len(self._definitions) > 10_000:
                self._definitions.clear()
            self._definitions.update(definition_queries.load(tx, unknown))

    def _hold(self, tx: Connection, run: Any, inputs: list[Any]) -> _Held:
        definition = self._definitions[run.flow_id]
        settings = self._settings
        body = payload.aero_payload(
            definition,
            run_id=run.id,
            attempt=run.attempt,
            task=run.task,
            inputs=payload.input_entries(
                definition, inputs, settings.storage, _origins(tx, definition, inputs)
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
        return _Held(run=run, definition=definition, inputs=inputs, task=task)

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

    def _submit(self, held: _Held) -> None:
        run_id = held.run.id
        self._tell("started", held, {})
        executor = self._executors[held.definition.endpoint]
        try:
            future = executor.submit(jobs.run_task, held.task)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run records it
            del self._held[run_id]
            self._fail(held, failure_of(error))
            return
        held.future = future
        future.add_done_callback(lambda done: self._inbox.put((run_id, done)))

    # -- finishing ----------------------------------------------------------------

    def _finish_all(self) -> int:
        count = 0
        while True:
            try:
                item = self._inbox.get_nowait()
            except queue.Empty:
                return count
            self._received(item)
            count += item is not None

    def _received(self, item: tuple[str, Future[Any]] | None) -> None:
        self._look = True
        if item is not None:
            self._finish(*item)

    def _finish(self, run_id: str, future: Future[Any]) -> None:
        held = self._held.get(run_id)
        if held is None or held.future is not future:
            return
        del self._held[run_id]
        try:
            result = future.result()
        except CancelledError:
            return
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run records it
            self._fail(held, failure_of(error))
            return
        failure = failure_of_result(result)
        if failure is None:
            self._commit(held, result)
        else:
            self._fail(held, failure, result)

    def _commit(self, held: _Held, result: Json) -> None:
        result["steps"] = _with_versions_step(held, result.get("steps", []))
        execution = Execution(
            run=held.run,
            flow=held.definition,
            kwargs=held.definition.task_kwargs(held.run.task),
            source_sha256=held.definition.source_sha256,
            inputs=held.inputs,
            made=held.definition.made,
            result=result,
            agent=self._settings.agent,
        )
        try:
            committed = self._db.write(
                lambda tx: commit(tx, self._db.now(tx), execution)
            )
        except FencedError as error:
            log.warning("%s", error, extra={"run_id": held.run.id})
            return
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # What the worker answered is not what a worker answers.
            self._fail(held, failure_of(error))
            return
        except SQLAlchemyError as error:
            self._fail(held, failure_of(error))
            return
        self._tell("ended", held, _summary(committed))

    def _fail(self, held: _Held, failure: Failure, result: Json | None = None) -> None:
        def work(tx: Connection) -> RunStatus | None:
            lock_rows(tx, Flow, [held.run.flow_id])
            status = lifecycle.fail(
                tx, self._db.now(tx), held.run, failure, retries=held.definition.retries
            )
            if status is not None and result is not None:
                run_queries.record_steps(
                    tx, held.run.id, held.run.attempt, result.get("steps", [])
                )
            return status

        status = self._db.write(work)
        log.info("Run %s: %s", held.run.id, failure.message)
        if status is not None:
            facts = {"status": status.value, "error": failure.message}
            self._tell("ended", held, facts)

    def _hand_back(self, tx: Connection, held: _Held) -> None:
        """Make a run PENDING again as if it had not been claimed."""
        run = held.run
        lock_rows(tx, Flow, [run.flow_id])
        if run_queries.has_pending(tx, run.flow_id, run.task, run.source_key):
            stopped = Failure(
                type="Stopped", message="The process was stopped.", fault="lost"
            )
            lifecycle.fail(tx, self._db.now(tx), run, stopped, retries=0)
            return
        run_queries.leave_running(
            tx,
            run.id,
            run.claim,
            status=RunStatus.PENDING.value,
            attempt=run.attempt + 1,
            claim=None,
            claimed_by=None,
            started_at=None,
        )

    # -- leases -------------------------------------------------------------------

    def _beat(self) -> None:
        """Extend leases, kill what is no longer ours, recover what others lost."""
        self._next_beat = time.monotonic() + self._settings.heartbeat
        claims = {held.run.id: held.run.claim for held in self._held.values()}

        def work(tx: Connection) -> set[str]:
            now = self._db.now(tx)
            presence.beat(tx, self._here, now)
            if not claims:
                return set()
            lease = now + timedelta(seconds=self._settings.lease)
            return run_queries.extend_leases(tx, claims, lease)

        kept = self._db.write(work)
        for run_id in claims.keys() - kept:
            self._drop(run_id)
        self._recover()

    def _drop(self, run_id: str) -> None:
        held = self._held.pop(run_id)
        if held.future is not None:
            held.future.cancel()

    def _recover(self) -> None:
        with self._db.read() as tx:
            known = {*run_queries.claimants(tx), *presence.known(tx)}
            gone = self._here.lost(known)
            lost = run_queries.expired(tx, self._db.now(tx), gone)
        lost = [run for run in lost if run.id not in self._held]
        for run in lost:
            self._db.write(partial(self._lose, run=run))
        if gone:
            self._db.write(lambda tx: presence.depart(tx, gone))
            for name in gone:
                self._here.forget(name)

    def _lose(self, tx: Connection, run: Any) -> None:
        lock_rows(tx, Flow, [run.flow_id])
        failure = Failure(
            type="WorkerLostError",
            message="The process that worked on the run is gone.",
            fault="lost",
        )
        lifecycle.fail(tx, self._db.now(tx), run, failure, retries=0)

    def _see_others(self) -> bool:
        seen = self._db.changes()
        changed = seen != self._changes
        self._changes = seen
        if changed and self._held:
            self._drop_fenced()
        return changed

    def _drop_fenced(self) -> None:
        """Stop the work of runs that another process cancelled or took."""
        claims = {held.run.id: held.run.claim for held in self._held.values()}
        with self._db.read() as tx:
            kept = run_queries.still_held(tx, claims)
        for run_id in claims.keys() - kept:
            self._drop(run_id)

    def _sweep_scratch(self) -> None:
        """Remove what runs left in scratch and store whose process was killed."""
        scratch = self._settings.scratch
        moment = utc_now()
        with self._db.read() as tx:
            living = run_queries.running_ids(tx)
        if not living:
            # Files have this machine's time, whatever the workspace's clock says.
            open_storage(self._settings.storage).clean_temp(moment)
        for entry in scratch.iterdir():
            if entry.name.partition(".")[0] not in living:
                _remove(entry)

    def _tell(self, event: str, held: _Held, facts: Json) -> None:
        if self._listener is not None:
            about = {"run_id": held.run.id, "flow_id": held.run.flow_id}
            self._listener(event, about | facts)


def _origins(
    tx: Connection, definition: FlowDefinition, inputs: list[Any]
) -> dict[str, Any]:
    asked = [row.id for row in inputs if payload.wants_url(definition, row)]
    return event_queries.origins(tx, asked) if asked else {}


def _summary(committed: Committed) -> Json:
    return {
        "status": committed.status.value,
        "new_versions": [list(pair) for pair in committed.new_versions],
    }


def _with_versions_step(held: _Held, steps: list[Json]) -> list[Json]:
    if not held.inputs:
        return steps
    moment = held.task["claimed_at"]
    return [
        {
            "name": "get_versions",
            "status": "SUCCEEDED",
            "started_at": moment,
            "finished_at": moment,
            "seconds": held.task["versions_seconds"],
        },
        *steps,
    ]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
