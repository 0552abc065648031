"""The laws of runs and policies, restated as simply as they can be, to compare with.

Nothing of aero's own decisions is imported: a model that shared them would share
their mistakes. Times are seconds since the epoch of the test.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

LOST = [1.0, 10.0, 60.0] + [300.0] * 100
JITTER = 0.25

Slot = tuple[str, int]


@dataclass(eq=False)
class ModelRun:
    """A run; `before` is the span its `not_before` must lie in."""

    slot: Slot
    inputs: dict[str, int]
    before: tuple[float, float]
    id: str | None = None
    failures: int = 0
    lost: int = 0
    claim: object | None = None
    lease: float = 0.0
    owner: int | None = None
    told: dict[str, str | None] = field(default_factory=dict)


@dataclass(eq=False)
class ModelFlow:
    """A flow; `inputs` is name -> (Data, pin), `outputs` name -> Data."""

    id: str
    policy: str
    inputs: dict[str, tuple[str, int | None]]
    outputs: dict[str, str]
    tasks: int = 1
    retries: int = 0
    timer: float | None = None
    anchor: float = 0.0
    due: float | None = None
    enabled: bool = True
    deleted: bool = False
    spent: set[tuple[int, object]] = field(default_factory=set)
    # What the last committed poll of a task found.
    polled: dict[int, str] = field(default_factory=dict)
    records: int = 0


class Model:
    """What the database must say."""

    def __init__(self, lease: float) -> None:
        self.now = 0.0
        self.lease = lease
        self.flows: dict[str, ModelFlow] = {}
        self.versions: dict[str, list[tuple[int, str]]] = {}
        self.used: dict[tuple[str, int, str], int] = {}
        self.pending: dict[Slot, ModelRun] = {}
        self.running: dict[Slot, ModelRun] = {}
        self.ended: list[tuple[ModelRun, str]] = []

    # -- triggers -------------------------------------------------------------------

    def register(self, flow: ModelFlow) -> None:
        self.flows[flow.id] = flow
        for data in flow.outputs.values():
            self.versions.setdefault(data, [])
        flow.anchor = self.now
        if flow.timer is not None:
            flow.due = self.now + flow.timer
        if flow.policy in {"ANY", "ALL"}:
            self.judge([flow.id])
        elif flow.policy in {"INGESTION", "TIMER"}:
            self._trigger(flow, ("timer", self.now))

    def tick(self) -> None:
        for flow in self.flows.values():
            if flow.deleted or not flow.enabled or flow.due is None:
                continue
            if flow.due <= self.now:
                self._trigger(flow, ("timer", flow.due))
                after = max(self.now, flow.due)
                while flow.due <= after:
                    flow.due += flow.timer

    def run_now(self, flow: ModelFlow, key: object) -> None:
        self._trigger(flow, ("manual", key), now=True)

    def judge(self, flow_ids: Iterable[str]) -> None:
        for flow in map(self.flows.__getitem__, sorted(flow_ids)):
            if flow.deleted or not flow.enabled or flow.policy not in {"ANY", "ALL"}:
                continue
            newest = self._newest(flow)
            if any(version is None for version in newest.values()):
                continue
            for task in range(flow.tasks):
                newer = [
                    newest[name] > self.consumed(flow, task, name)
                    for name, (_, pin) in flow.inputs.items()
                    if pin is None
                ]
                fires = any(newer) if flow.policy == "ANY" else all(newer)
                if newer and fires:
                    key = ("inputs", tuple(sorted(newest.items())))
                    self._trigger_task(flow, task, key)

    def consumed(self, flow: ModelFlow, task: int, name: str) -> int:
        used = self.used.get((flow.id, task, name), 0)
        running = self.running.get((flow.id, task))
        return max(used, running.inputs[name] if running else 0)

    def _newest(self, flow: ModelFlow) -> dict[str, int | None]:
        return {
            name: pin or len(self.versions[data]) or None
            for name, (data, pin) in flow.inputs.items()
        }

    def _trigger(self, flow: ModelFlow, key: object, *, now: bool = False) -> None:
        for task in range(flow.tasks):
            self._trigger_task(flow, task, key, now=now)

    def _trigger_task(
        self, flow: ModelFlow, task: int, key: object, *, now: bool = False
    ) -> None:
        if (task, key) in flow.spent:
            return
        flow.spent.add((task, key))
        slot, inputs = (flow.id, task), self._newest(flow)
        if None in inputs.values():
            self.ended.append((ModelRun(slot, {}, (self.now,) * 2), "SKIPPED"))
        elif slot in self.pending:
            self.pending[slot].inputs = inputs
            if now:
                self.pending[slot].before = (self.now,) * 2
        else:
            self.pending[slot] = ModelRun(slot, inputs, (self.now,) * 2)

    # -- executions -----------------------------------------------------------------

    def claim(self, owner: int) -> list[ModelRun]:
        found = []
        for slot, run in list(self.pending.items()):
            flow = self.flows[slot[0]]
            ready = flow.enabled and not flow.deleted and slot not in self.running
            if ready and run.before[1] <= self.now:
                del self.pending[slot]
                run.claim, run.owner = object(), owner
                run.lease = self.now + self.lease
                self.running[slot] = run
                found.append(run)
        return found

    def holds(self, run: ModelRun, claim: object) -> bool:
        return self.running.get(run.slot) is run and run.claim is claim

    def commit(self, run: ModelRun, made: dict[str, str] | None) -> None:
        """End a run whose outputs have these contents; None: no source changed."""
        del self.running[run.slot]
        flow, task = self.flows[run.slot[0]], run.slot[1]
        if made is None:
            self.ended.append((run, "UNCHANGED"))
            return
        flow.records += 1
        for name, version in run.inputs.items():
            key = (flow.id, task, name)
            self.used[key] = max(self.used.get(key, 0), version)
        new = set()
        for name, content in made.items():
            data = flow.outputs[name]
            mine = [c for t, c in self.versions[data] if t == task]
            if mine[-1:] != [content]:
                self.versions[data].append((task, content))
                new.add(data)
        self.ended.append((run, "SUCCEEDED" if new or not made else "UNCHANGED"))
        self.judge(
            f.id
            for f in self.flows.values()
            if any(data in new and pin is None for data, pin in f.inputs.values())
        )

    def fail(self, run: ModelRun, fault: str) -> None:
        del self.running[run.slot]
        flow = self.flows[run.slot[0]]
        run.failures += fault == "function"
        run.lost += fault == "lost"
        span = self._back_off(run, flow, fault)
        if span is None or run.slot in self.pending:
            self.ended.append((run, "FAILED"))
            self.judge([flow.id])
        else:
            run.before = (self.now + span[0], self.now + span[1])
            self.pending[run.slot] = run

    @staticmethod
    def _back_off(
        run: ModelRun, flow: ModelFlow, fault: str
    ) -> tuple[float, float] | None:
        if fault == "function" and run.failures <= flow.retries:
            mean = 2.0 ** (run.failures - 1)
            return mean * (1 - JITTER), mean * (1 + JITTER)
        if fault == "lost" and sum(LOST[: run.lost]) <= 3600:
            return LOST[run.lost - 1], LOST[run.lost - 1]
        return None

    def hand_back(self, owner: int) -> None:
        for run in [r for r in self.running.values() if r.owner == owner]:
            if run.slot in self.pending:
                self.fail(run, "lost")
            else:
                del self.running[run.slot]
                self.pending[run.slot] = run

    def beat(self, owner: int) -> None:
        for run in self.running.values():
            if run.owner == owner:
                run.lease = self.now + self.lease
        self.recover(owner)

    def recover(self, owner: int, gone: int | None = None) -> None:
        for run in list(self.running.values()):
            if run.owner != owner and (run.lease <= self.now or run.owner == gone):
                self.fail(run, "lost")

    # -- what people do -------------------------------------------------------------

    def resume(self, flow: ModelFlow) -> None:
        flow.enabled = True
        self.judge([flow.id])

    def cancel(self, run: ModelRun) -> None:
        living = self.pending if self.pending.get(run.slot) is run else self.running
        del living[run.slot]
        self.ended.append((run, "CANCELLED"))
        self.judge([run.slot[0]])

    def delete(self, flow: ModelFlow) -> None:
        flow.deleted = True
        for living in (self.pending, self.running):
            for slot in [s for s in living if s[0] == flow.id]:
                self.ended.append((living.pop(slot), "CANCELLED"))

    def retry(self, run: ModelRun, status: str) -> bool:
        """Return whether that is possible."""
        flow = self.flows[run.slot[0]]
        inputs = self._newest(flow)
        if flow.deleted or None in inputs.values():
            return False
        waiting = self.pending.get(run.slot)
        if waiting is None:
            self.ended.remove((run, status))
            run.failures = run.lost = 0
            waiting = self.pending[run.slot] = run
        waiting.inputs, waiting.before = inputs, (self.now,) * 2
        return True

    def statuses(self) -> Counter[tuple[str, int, str]]:
        found = Counter((*run.slot, status) for run, status in self.ended)
        found.update((*slot, "PENDING") for slot in self.pending)
        found.update((*slot, "RUNNING") for slot in self.running)
        return found
