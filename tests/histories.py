"""Plays histories of what may happen to a workspace, against the model of the laws.

A history is a list of (what, a, b): small numbers that choose among what there is, so
that every history can be played, shrunk and repeated. Which runs finish when, and how,
is part of the history; so are two processes, one of which may be stalled or killed.
"""

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from aero.app import Aero
from aero.db.models import (
    DataVersion,
    Flow,
    FlowOutput,
    Provenance,
    ProvenanceDerivation,
    Run,
    RunInput,
)
from aero.error import ConflictError, FunctionDiedError, NotFoundError, WorkerLostError
from aero.scheduling import tick
from aero.testing import EPOCH, FrozenClock, make_app
from aero.types import AeroOutput
from tests.invariants import check_invariants
from tests.run_model import Model, ModelFlow, ModelRun

# Heartbeats are an event of the history: no real time passes that long.
LEASE = 100_000.0
HEARTBEAT = 90_000.0

Event = tuple[str, int, int]

FORWARDS = (1.0, 7.0, 61.0, 601.0, 3700.0, LEASE + 1)
BACKWARDS = (3.0, 70.0, 5000.0)
CONTENTS = ("a", "A", "b", "c")
POLICIES = ("ANY", "ALL")


def clean(out: str) -> AeroOutput:
    return AeroOutput("out", out)


def analyse(**inputs: str) -> AeroOutput:
    return AeroOutput("out", next(iter(inputs.values())))


def derived(flow_id: str, task: int, contents: Sequence[str]) -> str:
    """What an analysis makes of its inputs: often the same of different ones."""
    return f"{flow_id}/{task}/{min(each[-1].lower() for each in contents)}"


class Violation(AssertionError):  # noqa: N818 -- that is what it is
    """The workspace is not as the laws say."""


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Source:
    content: str = "a"
    touched: int = 0
    validators: bool = True
    trouble: str | None = None

    @property
    def etag(self) -> str | None:
        return f"{self.content}-{self.touched}" if self.validators else None


@dataclass(eq=False)
class Submission:
    """A run that was handed to a worker; `claim` is the model's."""

    task: dict[str, Any]
    future: Future[Any]
    owner: int
    run: ModelRun
    claim: object


class Workers(Executor):
    """Takes tasks, and leaves them to the history to finish."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, Any], Future[Any]]] = []

    def submit(self, fn: Callable[..., Any], task: dict[str, Any], /) -> Future[Any]:  # type: ignore[override]
        future: Future[Any] = Future()
        # Like work that notices a cancellation late, or never.
        future.set_running_or_notify_cancel()
        self.taken.append((copy.deepcopy(task), future))
        return future


class World:
    """A workspace, what surrounds it, and the model of it."""

    def __init__(self, folder: Path, template: Path | str) -> None:
        self.folder = folder
        self.url = template if isinstance(template, str) else ""
        self.clock = FrozenClock()
        self.model = Model(LEASE)
        self.sources: dict[str, Source] = {}
        self.contents: dict[str, str] = {}
        self.submissions: list[Submission] = []
        self.stalled: dict[int, Aero] = {}
        self.number = 0
        self.owner = 0
        self.pollers: set[str] = set()
        folder.mkdir(parents=True)
        if isinstance(template, Path):
            shutil.copyfile(template, folder / "aero.db")
        self.open()
        self.functions = {
            function.__name__: self.app.register_function(function)
            for function in (clean, analyse)
        }

    # -- processes ------------------------------------------------------------------

    def open(self, gone: int | None = None) -> None:
        self.owner += 1
        self.workers = Workers()
        self.app = make_app(
            self.folder,
            clock=self.clock,
            executor=self.workers,
            workers=32,
            lease=LEASE,
            heartbeat=HEARTBEAT,
            database_url=self.url,
        )
        _ = self.app.db
        self.dispatcher = self.app.engine._ready()
        self.dispatcher.enter()
        self._beat_no_more()
        self.model.recover(self.owner, gone)
        self.claim()

    def close(self) -> None:
        for app in (self.app, *self.stalled.values()):
            app.engine.close()
            app._db.dispose()

    def claim(self, a: int = 0, b: int = 0) -> None:
        self.dispatcher.wake()
        self.dispatcher.step()
        claimed = {run.slot: run for run in self.model.claim(self.owner)}
        # Ids are random; a history must be the same whenever it is played.
        flows = list(self.model.flows)
        taken = {
            (task["aero"]["flow_id"], task["aero"]["task"]): (task, future)
            for task, future in self.workers.taken
        }
        for slot in sorted(taken, key=lambda s: (flows.index(s[0]), s[1])):
            task, future = taken[slot]
            run = claimed.pop(slot, None)
            if run is None:
                raise Violation(f"{slot} was started, and should not have been")
            got = {n: e["version"] for n, e in task["aero"]["input_data"].items()}
            if got != run.inputs:
                raise Violation(f"{slot} was given {got} instead of {run.inputs}")
            self.submissions.append(
                Submission(task, future, self.owner, run, run.claim)
            )
        if len(taken) < len(self.workers.taken):
            raise Violation(f"a slot was started twice: {self.workers.taken}")
        self.workers.taken.clear()
        if claimed:
            raise Violation(f"{list(claimed)} should have been started")

    def restart(self, a: int = 0, b: int = 0) -> None:
        self.app.close()
        self._forget(self.owner)
        self.model.hand_back(self.owner)
        self.open()

    def crash(self, a: int = 0, b: int = 0) -> None:
        """The process is gone: the kernel released its lock, nobody its runs."""
        here = self.dispatcher._here
        lock = here._lock
        lock.release()
        Path(lock.lock_file).touch()
        here._lock = None
        self.app._db.dispose()
        self._forget(self.owner)
        self.open(gone=self.owner)

    def die(self, a: int, b: int) -> None:
        """The process is gone when a run's last transaction is about to commit."""
        held = {s.run.slot: s for s in self.submissions if s.owner == self.owner}
        if not held:
            return
        sub = list(held.values())[a % len(held)]
        if not self.model.holds(sub.run, sub.claim):
            return
        polled = dict(self.model.flows[sub.run.slot[0]].polled)
        _, _, answer = self._work(sub, 0)
        self.model.flows[sub.run.slot[0]].polled = polled
        sub.future.set_result(answer)
        db = self.app.db
        write = db.write

        def killed(work: Callable[[Connection], Any]) -> Any:
            def and_dies(tx: Connection) -> None:
                work(tx)
                raise Killed

            return write(and_dies)

        db.write = killed
        try:
            self.dispatcher._finish_all()
        except Killed:
            self.crash()

    def stall(self, a: int = 0, b: int = 0) -> None:
        """The process stands still, and may go on whenever it likes."""
        if len(self.stalled) < 2:
            self.stalled[self.owner] = self.app
            self.open()

    def beat(self, a: int = 0, b: int = 0) -> None:
        self.dispatcher._beat()
        self._beat_no_more()
        self.model.beat(self.owner)

    def _beat_no_more(self) -> None:
        # The next lease runs out by the frozen clock, and by no other.
        self.dispatcher._next_beat = math.inf

    def _forget(self, owner: int) -> None:
        self.submissions = [s for s in self.submissions if s.owner != owner]

    # -- surroundings ---------------------------------------------------------------

    def publish(self, a: int, b: int) -> None:
        self._source(a, lambda s: setattr(s, "content", CONTENTS[b % len(CONTENTS)]))

    def touch(self, a: int, b: int) -> None:
        self._source(a, lambda s: setattr(s, "touched", s.touched + 1))

    def mute(self, a: int, b: int) -> None:
        self._source(a, lambda s: setattr(s, "validators", b % 2 == 0))

    def trouble(self, a: int, b: int) -> None:
        faults = (None, "unavailable", "source")
        self._source(a, lambda s: setattr(s, "trouble", faults[b % 3]))

    def _source(self, a: int, change: Callable[[Source], None]) -> None:
        if self.sources:
            change(list(self.sources.values())[a % len(self.sources)])

    def forwards(self, a: int, b: int) -> None:
        self._move(FORWARDS[b % len(FORWARDS)])

    def backwards(self, a: int, b: int) -> None:
        self._move(-BACKWARDS[b % len(BACKWARDS)])

    def _move(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.model.now += seconds

    # -- what people do -------------------------------------------------------------

    def source(self, a: int, b: int) -> None:
        """Register an ingestion: with or without a function, maybe a sweep."""
        if len(self.sources) >= 3:
            return
        self.number += 1
        url = f"http://127.0.0.1:9/{self.number}"
        self.sources[url] = Source()
        tasks = 2 if a % 3 == 2 else 1
        self._register(
            None if a % 3 == 0 else "clean",
            {},
            {"out": {"url": url}},
            policy="INGESTION",
            tasks=tasks,
            timer=(60.0, 3600.0)[b % 2],
            retries=b % 3,
        )

    def analysis(self, a: int, b: int) -> None:
        """Register an ANY or ALL flow on one or two Data, maybe pinned or a sweep."""
        known = list(self.model.versions)
        if not known or len(self.model.flows) >= 9:
            return
        chosen = [known[a % len(known)], known[(a // 3 + b) % len(known)]]
        inputs: dict[str, dict[str, Any]] = {
            name: {"id": data}
            for name, data in zip("xy", dict.fromkeys(chosen), strict=False)
        }
        if b % 5 == 4 and self.model.versions[chosen[0]]:
            inputs["x"]["version"] = 1
        outputs = ({"out": {}}, {"out": {}, "same": {}}, {})[b % 7 % 3]
        self._register(
            "analyse",
            inputs,
            outputs,
            policy=POLICIES[b % 2],
            tasks=2 if a % 4 == 3 else 1,
            retries=a % 3,
        )

    def timed(self, a: int, b: int) -> None:
        """Register a TIMER flow on one Data, which may have no version yet."""
        known = list(self.model.versions)
        if known and len(self.model.flows) < 9:
            inputs = {"x": {"id": known[a % len(known)]}}
            self._register("analyse", inputs, {"out": {}}, policy="TIMER", timer=600.0)

    def _register(
        self,
        function: str | None,
        inputs: dict[str, dict[str, Any]],
        outputs: dict[str, dict[str, Any]],
        *,
        policy: str,
        tasks: int = 1,
        timer: float | None = None,
        retries: int = 0,
    ) -> None:
        self.number += 1
        options: dict[str, Any] = {"kwargs": {"number": self.number}}
        if tasks > 1:
            config = self.folder / "sweep.json"
            config.write_text(
                json.dumps([{"n": self.number + t} for t in range(tasks)])
            )
            options = {"config": config}
        if timer is not None:
            options["timer_delay"] = timer
        flow_id = self.app.register_flow(
            "local",
            function and self.functions[function],
            inputs,
            outputs,
            policy=policy,
            retries=retries,
            **options,
        )["id"]
        with self.app.db.read() as tx:
            rows = tx.execute(
                select(FlowOutput.name, FlowOutput.data_id).where(
                    FlowOutput.flow_id == flow_id
                )
            ).all()
        if policy == "INGESTION":
            self.pollers.add(flow_id)
        self.model.register(
            ModelFlow(
                flow_id,
                policy,
                {name: (e["id"], e.get("version")) for name, e in inputs.items()},
                dict(rows),
                tasks,
                retries,
                timer,
            )
        )

    def tick(self, a: int = 0, b: int = 0) -> None:
        tick(self.app.db)
        self.model.tick()

    def _flow(self, a: int) -> ModelFlow | None:
        living = [flow for flow in self.model.flows.values() if not flow.deleted]
        return living[a % len(living)] if living else None

    def run(self, a: int, b: int) -> None:
        if flow := self._flow(a):
            self.number += 1
            key = f"key-{self.number - b % 2}"
            self.app.run_flow(flow.id, wait=False, idempotency_key=key)
            self.model.run_now(flow, key)

    def pause(self, a: int, b: int) -> None:
        if flow := self._flow(a):
            self.app.pause_flow(flow.id)
            flow.enabled = False

    def resume(self, a: int, b: int) -> None:
        if flow := self._flow(a):
            self.app.resume_flow(flow.id)
            self.model.resume(flow)

    def delete(self, a: int, b: int) -> None:
        flow = self._flow(a)
        if flow and b % 4 == 0 and len(self.model.flows) > 3:
            self.app.delete_flow(flow.id)
            self.model.delete(flow)

    def cancel(self, a: int, b: int) -> None:
        living = [*self.model.pending.values(), *self.model.running.values()]
        if living:
            run = living[a % len(living)]
            self.app.cancel_run(run.id)
            self.model.cancel(run)

    def retry(self, a: int, b: int) -> None:
        ended = [
            (run, status)
            for run, status in self.model.ended
            if status in {"FAILED", "CANCELLED", "SKIPPED"}
        ]
        if not ended:
            return
        run, status = ended[a % len(ended)]
        try:
            self.app.retry_run(run.id)
        except (ConflictError, NotFoundError):
            if self.model.retry(run, status):
                raise
        else:
            if not self.model.retry(run, status):
                raise Violation(f"{run} was retried")

    # -- executions -----------------------------------------------------------------

    def finish(self, a: int, b: int) -> None:
        """Let a worker of any process, stalled ones too, end as `b` says."""
        if not self.submissions:
            return
        sub = self.submissions.pop(a % len(self.submissions))
        app = self.app if sub.owner == self.owner else self.stalled[sub.owner]
        fault, made, answer = self._work(sub, b % 10)
        if isinstance(answer, Exception):
            sub.future.set_exception(answer)
        else:
            sub.future.set_result(answer)
        app.engine._ready()._finish_all()
        if not self.model.holds(sub.run, sub.claim):
            return
        if fault is None:
            self.model.commit(sub.run, made)
        else:
            self.model.fail(sub.run, fault)

    def _work(  # noqa: C901 -- a worker's whole day
        self, sub: Submission, how: int
    ) -> tuple[str | None, Any, Any]:
        """Return whose fault it is, the contents made, and what the worker says."""
        if how == 7:
            return "lost", None, WorkerLostError()
        if how == 8:
            return "function", None, FunctionDiedError()
        flow, task = self.model.flows[sub.run.slot[0]], sub.run.slot[1]
        entries = sub.task["aero"]["output_data"]
        result = {
            "aero": sub.task["aero"],
            "unchanged": False,
            "steps": [],
            "environment": {},
            "error": None,
            "log_tail": "",
        }
        contents = []
        if flow.id in self.pollers:
            entry = entries["out"]
            source = self.sources[entry["url"]]
            if source.trouble:
                result["error"] = _error(source.trouble)
                fault = "lost" if source.trouble == "unavailable" else "source"
                return fault, None, result
            if self._same(source, entry):
                if entry["etag"] != source.etag:
                    moment = self.clock().isoformat()
                    entry.update(etag=source.etag, retrieved_at=moment)
                result["unchanged"] = entry["not_modified"] = True
                # Told by what the law says, not by what the payload said.
                if flow.polled.get(task) == source.content:
                    return None, None, result
                if self.model.holds(sub.run, sub.claim):
                    raise Violation(f"{sub.run.slot} was not given {source.content!r}")
                return None, None, result
            if self.model.holds(sub.run, sub.claim) and how != 6:
                flow.polled[task] = source.content
            contents = [source.content]
            self._download(entry, source)
        if how == 6 and sub.task["source"]:
            result["error"] = _error("function")
            return "function", None, result
        if flow.id in self.pollers and self.model.holds(sub.run, sub.claim):
            flow.polled[task] = contents[0]
        if not sub.task["source"]:
            return None, {"out": contents[0]}, result
        for row in sub.task["aero"]["input_data"].values():
            contents.append(self.contents[row["sha256"]])
        made = {
            name: derived(flow.id, task, contents if name == "out" else ["same"])
            for name in entries
        }
        for name, content in made.items():
            raw = {"raw": dict(entries[name])} if entries[name].get("uri") else {}
            entries[name].update(self._stored(content), **raw)
        return None, made, result

    def _same(self, source: Source, entry: dict[str, Any]) -> bool:
        if source.etag is not None and entry.get("etag") == source.etag:
            return True
        return entry.get("raw_sha256") == sha256(source.content)

    def _download(self, entry: dict[str, Any], source: Source) -> None:
        entry.update(
            self._stored(source.content),
            etag=source.etag,
            last_modified=None,
            final_url=entry["url"],
            retrieved_at=self.clock().isoformat(),
        )

    def _stored(self, content: str) -> dict[str, Any]:
        digest = sha256(content)
        self.contents[digest] = content
        return {
            "sha256": digest,
            "size": len(content),
            "uri": f"sha256:{digest}",
            "file_bn": "file.txt",
            "media_type": "text/plain",
        }

    # -- comparing ------------------------------------------------------------------

    def compare(self) -> None:
        """Raise a Violation where the database is not as the model."""
        with self.app.db.read() as tx:
            runs = tx.execute(select(*Run.__table__.c)).all()
            given: dict[str, dict[str, int]] = {}
            for run_id, name, version in tx.execute(
                select(RunInput.run_id, RunInput.name, DataVersion.version).join(
                    DataVersion, DataVersion.id == RunInput.version_id
                )
            ):
                given.setdefault(run_id, {})[name] = version
            versions = tx.execute(
                select(*DataVersion.__table__.c).order_by(DataVersion.version)
            ).all()
            used = tx.execute(select(*ProvenanceDerivation.__table__.c)).all()
            records = tx.execute(select(Provenance.flow_id)).scalars().all()
            dues = tx.execute(select(Flow.id, Flow.next_due)).all()
        self._compare_runs(runs, given)
        _equal(
            "versions",
            {
                data: [
                    (r.version, r.task, self.contents[r.sha256])
                    for r in versions
                    if r.data_id == data
                ]
                for data in self.model.versions
            },
            {
                data: [(i, *each) for i, each in enumerate(found, 1)]
                for data, found in self.model.versions.items()
            },
        )
        consumed: dict[Any, int] = {}
        for row in used:
            key = row.flow_id, row.task, row.name
            consumed[key] = max(consumed.get(key, 0), row.version)
        _equal("consumed", consumed, self.model.used)
        flows = self.model.flows
        _equal(
            "records",
            {flow_id: list(records).count(flow_id) for flow_id in flows},
            {flow.id: flow.records for flow in flows.values()},
        )
        _equal(
            "next due",
            {flow_id: _seconds(due) for flow_id, due in dues},
            {flow.id: flow.due for flow in flows.values()},
        )

    def _compare_runs(
        self, rows: Sequence[Any], given: dict[str, dict[str, int]]
    ) -> None:
        model = self.model
        found: dict[tuple[str, int, str], int] = {}
        for row in rows:
            key = row.flow_id, row.task, row.status
            found[key] = found.get(key, 0) + 1
        _equal("statuses", found, dict(model.statuses()))
        known = {run.id for run, _ in model.ended}
        for row in rows:
            slot = row.flow_id, row.task
            living = {"PENDING": model.pending, "RUNNING": model.running}
            if row.status not in living:
                if row.id not in known:
                    self._adopt(row.id, slot, row.status)
                continue
            run = living[row.status][slot]
            run.id = run.id or row.id
            _equal("run", row.id, run.id)
            _equal(f"inputs of {slot}", given.get(row.id, {}), run.inputs)
            _equal(
                "failures",
                (row.function_failures, row.lost_tries),
                (run.failures, run.lost),
            )
            before = _seconds(row.not_before)
            if not run.before[0] - 1e-3 <= before <= run.before[1] + 1e-3:
                raise Violation(f"{slot} waits until {before}, not {run.before}")
            run.before = before, before
            if row.status == "RUNNING":
                _equal("lease", _seconds(row.lease_expires), run.lease)

    def _adopt(self, run_id: str, slot: tuple[str, int], status: str) -> None:
        for run, ended in self.model.ended:
            if run.id is None and (run.slot, ended) == (slot, status):
                run.id = run_id
                return
        raise Violation(f"run {run_id} of {slot} ended {status} as another")

    def invariants(self, *, idle: bool = False) -> None:
        """Raise a Violation for what may never be."""
        if found := check_invariants(self.app.db, idle=idle):
            raise Violation("; ".join(found))

    # -- the end --------------------------------------------------------------------

    def settle(self) -> None:
        """Heal everything, let all go on, and ask that nothing was lost."""
        for source in self.sources.values():
            source.trouble = None
        for index, flow in enumerate(list(self.model.flows.values())):
            if not flow.deleted:
                self.app.resume_flow(flow.id)
                self.model.resume(flow)
                if flow.id in self.pollers:
                    key = f"last-{index}"
                    self.app.run_flow(flow.id, wait=False, idempotency_key=key)
                    self.model.run_now(flow, key)
        for _ in range(60):
            if not self.model.pending and not self.model.running:
                break
            self.beat()
            self.claim()
            while self.submissions:
                self.finish(0, 0)
            self._move(LEASE + 1)
        self.compare()
        self.invariants(idle=True)
        self._nothing_lost()

    def _nothing_lost(self) -> None:
        with self.app.db.read() as tx:
            runs = tx.execute(
                select(Run.id, Run.flow_id, Run.task, Run.status).order_by(
                    Run.created_at
                )
            ).all()
            rows = tx.execute(
                select(RunInput.run_id, RunInput.name, DataVersion.version).join(
                    DataVersion, DataVersion.id == RunInput.version_id
                )
            ).all()
        for flow in self.model.flows.values():
            if flow.deleted:
                continue
            for task in range(flow.tasks):
                if flow.id in self.pollers:
                    self._newest_bytes(flow, task)
                if flow.policy not in {"ANY", "ALL"}:
                    continue
                given_up = {
                    frozenset((r.name, r.version) for r in rows if r.run_id == run.id)
                    for run in runs
                    if (run.flow_id, run.task) == (flow.id, task)
                    and run.status in {"FAILED", "CANCELLED"}
                }
                self._newest_used(flow, task, given_up)

    def _newest_bytes(self, flow: ModelFlow, task: int) -> None:
        (data,) = flow.outputs.values()
        url = next(iter(self.app.get_data(data)["url"] for _ in (0,)))
        content = self.sources[url].content
        wanted = {content, derived(flow.id, task, [content])}
        mine = [made for t, made in self.model.versions[data] if t == task]
        if not mine or mine[-1] not in wanted:
            raise Violation(f"the update to {content!r} was lost: {mine}")

    def _newest_used(
        self, flow: ModelFlow, task: int, given_up: set[frozenset[Any]]
    ) -> None:
        newest = {
            name: pin or len(self.model.versions[data])
            for name, (data, pin) in flow.inputs.items()
        }
        moving = [name for name, (_, pin) in flow.inputs.items() if pin is None]
        if not all(newest.values()) or not moving:
            return
        if frozenset(newest.items()) in given_up:
            return
        behind = [
            newest[name] > self.model.used.get((flow.id, task, name), 0)
            for name in moving
        ]
        if any(behind) if flow.policy == "ANY" else all(behind):
            raise Violation(f"{flow.id} never used {newest}")


def make_template(home: Path) -> Path:
    """Make the empty workspace that histories begin with; return its database."""
    with make_app(home) as app:
        _ = app.db
    return home / "aero.db"


EVENTS = (
    *("claim",) * 5,
    *("finish",) * 7,
    *("publish",) * 3,
    *("source", "analysis", "analysis", "timed"),
    *("tick", "tick", "forwards", "forwards", "backwards"),
    *("run", "run", "pause", "resume", "cancel", "retry", "delete"),
    *("touch", "mute", "trouble"),
    *("restart", "crash", "die", "stall", "beat"),
)


def play(history: Sequence[Event], folder: Path, template: Path | str) -> World:
    """Play a history from an empty workspace on, comparing after every event.

    Args:
        history: What happens.
        folder: The workspace's home.
        template: The SQLite database to copy, or the URL of an empty one to use.

    Raises:
        Violation: A law did not hold.
    """
    world = World(folder, template)
    try:
        for what, a, b in history:
            getattr(world, what)(a, b)
            world.compare()
        world.invariants()
        world.settle()
    finally:
        world.close()
    return world


def _error(fault: str) -> dict[str, Any]:
    return {"type": "Error", "message": fault, "traceback": "", "fault": fault}


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else (moment - EPOCH).total_seconds()


def _equal(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise Violation(f"{what}: {found} is not {expected}")
