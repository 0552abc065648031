"""Submits the steps of claimed runs, follows the futures and ends the runs.

One thread at a time drives a dispatcher: the background loop, or the caller of
`run_until_idle`. Executors answer from threads of their own, into the inbox.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from aero import jobs
from aero.db.changes import Topic
from aero.db.models import Flow
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.error import FencedError
from aero.runs import failures, leases, presence
from aero.runs.claiming import Claimer, DispatchSettings, Held
from aero.runs.commit import Execution, commit
from aero.runs.failures import failure_of, failure_of_result
from aero.runs.lifecycle import Failure
from aero.types import Json, RunStatus

log = logging.getLogger(__name__)

SHORT = 0.5

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
        self._held: dict[str, Held] = {}
        self._inbox: queue.SimpleQueue[tuple[str, Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._claimer = Claimer(db, settings, worker=here.id, endpoints=list(executors))
        self._next_beat = 0.0
        self._pace = math.inf
        self._look = True
        self._sure = False
        self._news: frozenset[Topic] = frozenset()
        self._hearing = threading.Lock()
        self._entered = False
        self._claiming = True
        self._killed = False

    @property
    def busy(self) -> bool:
        """Whether runs are held."""
        return bool(self._held)

    def wake(self) -> None:
        """Say that there may be something to claim."""
        self._sure = True
        self._inbox.put(None)

    def hear(self, topics: Collection[Topic]) -> None:
        """Take note of what other processes committed; from any thread."""
        with self._hearing:
            unread, self._news = self._news, self._news.union(topics)
        if not unread:
            self._inbox.put(None)

    def step(self) -> bool:
        """Commit what is finished, beat if it is time, claim what there is room for.

        Returns:
            Whether a run ended.
        """
        self.enter()
        done = self._finish_all()
        if time.monotonic() >= self._next_beat:
            self._beat()
        self._claim()
        return bool(done)

    def wait(self, timeout: float) -> None:
        """Return after `timeout` seconds, or when there is something to look at.

        That is a future that is done, a `wake`, or another process's commit.
        """
        deadline = time.monotonic() + timeout
        every = self._db.changes.every
        while True:
            left = min(deadline, self._next_beat) - time.monotonic()
            try:
                item = self._inbox.get(timeout=max(0.0, min(left, every)))
            except queue.Empty:
                self._db.changes.poll()
                if left <= every:
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

    def claim_no_more(self) -> None:
        """Claim nothing from now on, until it is entered again; from any thread."""
        self._claiming = False

    def let_go(self) -> None:
        """Hand back, uncounted, what was claimed ahead and has not begun to run."""
        for held in list(self._held.values()):
            future = held.future
            if future is None or not (future.running() or future.done()):
                self._drop([held.run.id])
                leases.hand_back(self._db, held.run)

    def finish(self, timeout: float) -> None:
        """Commit what ends within `timeout` seconds, and keep the leases."""
        self.wait(timeout)
        self._finish_all()
        if time.monotonic() >= self._next_beat:
            self._beat()

    def close(self) -> None:
        """Hand back what is held, uncounted, and say goodbye."""
        if not self._entered:
            return
        runs = [held.run for held in self._held.values()]
        self._drop(list(self._held))
        try:
            for run in runs:
                leases.hand_back(self._db, run)
            self._db.write(lambda tx: presence.depart(tx, [self._here.id]))
        finally:
            self._here.leave()
            self._entered = False

    def enter(self) -> None:
        """Say that this process executes runs, and clear up after those that died."""
        if self._entered:
            return
        self._here.enter()
        self._entered = self._claiming = True
        self._settings.scratch.mkdir(parents=True, exist_ok=True)
        self._beat()
        leases.sweep(self._db, self._settings.scratch, self._settings.storage)

    # -- claiming -----------------------------------------------------------------

    def _claim(self) -> None:
        room = self._slots() - len(self._held)
        # What is held beyond the workers keeps them busy; a claim for each run would
        # cost them more than it gains.
        full = room <= 0 or len(self._held) > self._settings.workers
        if full or not self._claiming:
            return
        if not self._anything_waits():
            return
        claimed = self._claimer.take(room)
        self._look = len(claimed) == room
        # Cancelled and retried elsewhere, a run comes back before it was let go.
        self._drop(self._held.keys() & {held.run.id for held in claimed})
        for held in claimed:
            self._held[held.run.id] = held
            self._submit(held)

    def _slots(self) -> int:
        """Return how many runs to hold: ahead of the workers only while runs are short.

        A long run that was claimed ahead would wait here while another process is free.
        """
        workers = self._settings.workers
        return 2 * workers if self._pace < SHORT else workers

    def _anything_waits(self) -> bool:
        # A look costs a tenth of a transaction that takes nothing.
        look, sure = self._look, self._sure
        self._look = self._sure = False
        if sure or not look:
            return sure
        return self._db.look(run_queries.any_pending)

    def _submit(self, held: Held) -> None:
        run_id = held.run.id
        self._tell("started", held, {})
        executor = self._executors[held.definition.endpoint]
        try:
            future = executor.submit(jobs.run_task, held.task)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run records it
            del self._held[run_id]
            self._fail(held, failure_of(error))
            return
        held.future, held.since = future, time.monotonic()
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
        if item is None:
            self._catch_up()
        else:
            self._finish(*item)

    def _finish(self, run_id: str, future: Future[Any]) -> None:
        held = self._held.get(run_id)
        if held is None or held.future is not future:
            return
        del self._held[run_id]
        took = time.monotonic() - held.since
        self._pace = took if math.isinf(self._pace) else (self._pace + took) / 2
        try:
            self._end(held, future)
        except SQLAlchemyError:
            # What the database does not take now is ended once it does.
            self._held[run_id] = held
            self._inbox.put((run_id, future))
            raise
        if self._killed and not self._held:
            self._killed = False
            leases.tidy(self._db, self._settings.storage)

    def _end(self, held: Held, future: Future[Any]) -> None:
        try:
            result = future.result()
            failure = failure_of_result(result)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the run records it
            # A cancelled run has ended by then, and its claim writes nothing more.
            self._killed = True
            self._fail(held, failure_of(error))
            return
        if failure is None:
            self._commit(held, result)
        else:
            self._fail(held, failure, result)

    def _commit(self, held: Held, result: Json) -> None:
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
        self._tell("ended", held, committed.told | {"steps": result["steps"]})

    def _fail(self, held: Held, failure: Failure, result: Json | None = None) -> None:
        def work(tx: Connection) -> RunStatus | None:
            lock_rows(tx, Flow, [held.run.flow_id])
            return failures.end(
                tx,
                self._db.now(tx),
                held.run,
                failure,
                retries=held.definition.retries,
                inputs=held.inputs,
                steps=steps,
            )

        steps = (result or {}).get("steps", [])
        status = self._db.write(work)
        if status is not None:
            facts = {"status": status.value, "error": failure.message}
            self._tell("ended", held, facts | {"steps": steps})

    # -- leases -------------------------------------------------------------------

    def _beat(self) -> None:
        """Extend leases, kill what is no longer ours, recover what others lost."""
        self._next_beat = time.monotonic() + self._settings.heartbeat
        claims = self._claims()
        kept = leases.beat(self._db, self._here, claims, self._settings.lease)
        self._drop(claims.keys() - kept)
        # In a long outage all leases run out: first, all who live extend theirs.
        if self._db.outages.over_for() > self._settings.heartbeat:
            left = leases.recover(self._db, self._here, self._held)
            # A run that was lost waits no longer than its lease.
            self._next_beat = min(self._next_beat, time.monotonic() + left)

    def _claims(self) -> dict[str, str]:
        return {held.run.id: held.run.claim for held in self._held.values()}

    def _drop(self, run_ids: Iterable[str]) -> None:
        for run_id in run_ids:
            held = self._held.pop(run_id)
            if held.future is not None:
                held.future.cancel()

    def _catch_up(self) -> None:
        """Let go of what others cancelled."""
        with self._hearing:
            news, self._news = self._news, frozenset()
        if Topic.CANCELLED in news and self._held:
            claims = self._claims()
            self._drop(claims.keys() - leases.still_held(self._db, claims))

    def _tell(self, event: str, held: Held, facts: Json) -> None:
        about = {"run_id": held.run.id, "flow_id": held.run.flow_id}
        log.info("Run %s %s", held.run.id, _outcome(facts), extra=about)
        if self._listener is not None:
            try:
                self._listener(event, about | facts)
            except Exception:
                # Between a claim and its work, its error would strand the run.
                log.exception("The listener failed.", extra={"run_id": held.run.id})


def _outcome(facts: Json) -> str:
    status, error = facts.get("status", "started"), facts.get("error")
    return f"{status}: {error}" if error else str(status)


def _with_versions_step(held: Held, steps: list[Json]) -> list[Json]:
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
