"""THE transaction: versions, provenance, run state and triggered runs, all or nothing.

A commit is fenced by (run id, claim, RUNNING) and decides under the locks of its
output Data whether an output is a new version or the same content again.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aero.db.changes import Topic, tell
from aero.db.models import Data, Flow
from aero.db.queries import claims as claim_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import lock_rows
from aero.error import FencedError
from aero.runs import lifecycle, notices
from aero.sources.headers import bare_etag
from aero.types import Json, RunStatus


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What a commit knows of the execution it records.

    `run` is the row as claimed, `inputs` the versions it was given, `result` what the
    worker returned; `made` maps output names to Data ids.
    """

    run: Any
    flow: Any
    kwargs: Json
    source_sha256: str | None
    inputs: Sequence[Any]
    made: Mapping[str, str]
    result: Json
    agent: str

    @property
    def unchanged(self) -> bool:
        """Whether it polled sources and found them as they were."""
        return bool(self.result.get("unchanged"))

    @property
    def status(self) -> RunStatus:
        """How the run ends, unless all that it made was there before."""
        return RunStatus.UNCHANGED if self.unchanged else RunStatus.SUCCEEDED


@dataclass(frozen=True, kw_only=True)
class Committed:
    """How a commit ended, and which versions are new."""

    status: RunStatus
    new_versions: Sequence[tuple[str, int]] = ()

    @property
    def told(self) -> Json:
        """What a listener is told of it."""
        return {
            "status": self.status.value,
            "new_versions": [list(pair) for pair in self.new_versions],
        }


@dataclass(kw_only=True)
class _Product:
    name: str
    version_id: str
    key: int
    number: int
    data_id: str
    is_new: bool


@dataclass(kw_only=True)
class _Outcome:
    products: list[_Product] = field(default_factory=list)

    @property
    def new(self) -> list[_Product]:
        return [product for product in self.products if product.is_new]


def commit(tx: Connection, now: datetime, execution: Execution) -> Committed:
    """Commit what an execution brought back.

    Raises:
        FencedError: the run belongs to another claim now; nothing was written.
    """
    made = {} if execution.unchanged else execution.made
    dependents = lock(tx, execution.run.flow_id, made.values())
    already = _fence(tx, now, execution)
    if already is not None:
        return Committed(status=already)
    return conclude(tx, now, execution, dependents)


def lock(tx: Connection, flow_id: str, data_ids: Collection[str]) -> list[str]:
    """Lock what a commit of these Data decides on; return the flows that watch them."""
    lock_rows(tx, Data, data_ids)
    dependents = flow_queries.dependents(tx, data_ids) if data_ids else []
    lock_rows(tx, Flow, [flow_id, *dependents])
    return dependents


def conclude(
    tx: Connection, now: datetime, execution: Execution, dependents: Collection[str]
) -> Committed:
    """Write what came of a run that has left RUNNING in this transaction.

    Args:
        tx: Holds the locks of `lock`.
        now: The database's time.
        execution: What came of it.
        dependents: The flows that watch what it makes.
    """
    run, result, status = execution.run, execution.result, execution.status
    if run.trigger_key.startswith("manual:"):
        # Others are seldom waited for, and who does looks from time to time.
        tell(tx, Topic.ENDED)
    run_queries.record_steps(tx, run.id, run.attempt, result.get("steps", []))
    sweep = isinstance(execution.flow.kwargs, list)
    told = flow_queries.executed(tx, run.flow_id, now)
    notices.ended_well(tx, now, run, told, sweep=sweep)
    version_queries.save_source_states(tx, _source_states(execution, now))
    if execution.unchanged:
        return Committed(status=status)
    outcome = _make_versions(tx, now, execution)
    _record(tx, now, execution, outcome)
    if outcome.products and not outcome.new:
        status = RunStatus.UNCHANGED
        run_queries.update_joined(tx, run.id, status=status.value)
    if outcome.new:
        lifecycle.judge(tx, now, dependents)
    return Committed(
        status=status,
        new_versions=[(p.data_id, p.number) for p in outcome.new],
    )


def _fence(tx: Connection, now: datetime, execution: Execution) -> RunStatus | None:
    """Leave RUNNING; return how the run had ended if this claim ended it before."""
    run = execution.run
    if claim_queries.leave_running(
        tx,
        run.id,
        run.claim,
        status=execution.status.value,
        finished_at=now,
        log_tail=execution.result.get("log_tail"),
        error_type=None,
        error_message=None,
        traceback=None,
    ):
        return None
    found = run_queries.get(tx, run.id)
    committed = {RunStatus.SUCCEEDED.value, RunStatus.UNCHANGED.value}
    if found is not None and found.claim == run.claim and found.status in committed:
        return RunStatus(found.status)
    raise FencedError(
        f"Run {run.id} is no longer this process's: its result was not committed.",
        run_id=run.id,
    )


def _make_versions(tx: Connection, now: datetime, execution: Execution) -> _Outcome:
    run = execution.run
    outputs = execution.result["aero"]["output_data"]
    dedup = not (run.event and run.event.get("dedup") is False)
    outcome = _Outcome()
    for name, data_id in sorted(execution.made.items()):
        entry = outputs[name]
        latest = version_queries.latest_of(tx, data_id, run.task, run.source_key)
        if dedup and latest is not None and _same(latest, entry):
            product = _Product(
                name=name,
                version_id=latest.id,
                key=latest.key,
                number=latest.version,
                data_id=data_id,
                is_new=False,
            )
        else:
            product = _add_version(
                tx, now, run, name=name, data_id=data_id, entry=entry
            )
        outcome.products.append(product)
    parents = [i.key for i in execution.inputs]
    for again in (False, True):
        made = [p.key for p in outcome.products if p.is_new is not again]
        version_queries.add_edges(tx, made, parents, reproduced=again)
    return outcome


def _same(latest: Any, entry: Json) -> bool:
    if entry.get("not_modified"):
        return True
    if entry.get("sha256") is not None:
        return bool(latest.sha256 == entry["sha256"])
    same = bare_etag(latest.etag) == bare_etag(entry.get("etag"))
    return latest.sha256 is None and same


def _add_version(
    tx: Connection, now: datetime, run: Any, *, name: str, data_id: str, entry: Json
) -> _Product:
    number = version_queries.newest_number(tx, data_id) + 1
    version_id = str(uuid.uuid4())
    row = {
        "id": version_id,
        "data_id": data_id,
        "version": number,
        "task": run.task,
        "source_key": run.source_key,
        "sha256": entry.get("sha256"),
        "etag": entry.get("etag"),
        "size": entry.get("size"),
        "media_type": entry.get("media_type") or "application/octet-stream",
        "encoding": entry.get("encoding"),
        "file_name": entry.get("file_bn") or name,
        "uri": entry.get("uri"),
        "created_at": now,
    }
    key = version_queries.add(tx, row)
    return _Product(
        name=name,
        version_id=version_id,
        key=key,
        number=number,
        data_id=data_id,
        is_new=True,
    )


def _record(
    tx: Connection, now: datetime, execution: Execution, outcome: _Outcome
) -> None:
    run, flow = execution.run, execution.flow
    record_id = str(uuid.uuid4())
    provenance_queries.add(
        tx,
        {
            "id": record_id,
            "run_id": run.id,
            "flow_id": run.flow_id,
            "task": run.task,
            "function_id": flow.function_id,
            "source_sha256": execution.source_sha256,
            "kwargs": execution.kwargs,
            "trigger_key": run.trigger_key,
            "endpoint": flow.endpoint,
            "environment": execution.result.get("environment", {}),
            "steps": execution.result.get("steps", []),
            "agent": execution.agent,
            "started_at": run.started_at,
            "finished_at": now,
        },
        derivations=[
            {
                "provenance_id": record_id,
                "name": used.name,
                "version_id": used.id,
                "flow_id": run.flow_id,
                "task": run.task,
                "version": used.version,
            }
            for used in execution.inputs
        ],
        contributions=[
            {
                "provenance_id": record_id,
                "name": product.name,
                "version_id": product.version_id,
                "is_new": product.is_new,
            }
            for product in outcome.products
        ],
        sources=[
            {
                "provenance_id": record_id,
                "name": name,
                "url": raw["url"],
                "final_url": raw.get("final_url") or raw["url"],
                "etag": raw.get("etag"),
                "last_modified": raw.get("last_modified"),
                "sha256": raw["sha256"],
                "size": raw["size"],
                "uri": raw.get("uri"),
                "retrieved_at": datetime.fromisoformat(raw["retrieved_at"]),
            }
            for name, raw in _downloads(execution).items()
            if not raw.get("not_modified")
        ],
    )


def _downloads(execution: Execution) -> dict[str, Json]:
    """Return output name -> the facts of its download, of those that had one."""
    entries = execution.result["aero"]["output_data"]
    return {
        name: entry.get("raw") or entry
        for name, entry in entries.items()
        if entry.get("url") and (entry.get("raw") or entry.get("retrieved_at"))
    }


def _source_states(execution: Execution, now: datetime) -> list[Json]:
    entries = execution.result["aero"]["output_data"]
    asked = {name: entry for name, entry in entries.items() if entry.get("no_copy")}
    return [
        {
            "data_id": execution.made[name],
            "task": execution.run.task,
            "source_key": execution.run.source_key,
            "url": raw["url"],
            "etag": raw.get("etag"),
            "last_modified": raw.get("last_modified"),
            "raw_sha256": _raw_sha256(raw),
            "last_checked": now,
        }
        for name, raw in {**_downloads(execution), **asked}.items()
    ]


def _raw_sha256(raw: Json) -> str | None:
    found = raw.get("raw_sha256") if raw.get("not_modified") else raw.get("sha256")
    return None if found is None else str(found)
