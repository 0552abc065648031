"""What workers send of runs that chain their steps themselves: inputs asked, results.

Such a result is committed as any other, in the one transaction of `aero.runs.commit`.
The `commit` step of the attempt keeps the SHA-256 of what was sent, so that it is known
again however often it comes.
"""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aero import query, records, triggers
from aero.clock import isoformat
from aero.db.queries import claims as claim_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.definitions import FlowDefinition
from aero.db.session import Database
from aero.error import InvalidValueError, MissingObjectError
from aero.formatting import accepted
from aero.hashing import sha256_stream
from aero.result import result, unwrapped
from aero.result_target import (
    Target,
    done,
    inputs_of,
    refuse_attempt,
    refuse_foreign,
    refuse_opening,
    refuse_outputs,
    target_of,
)
from aero.runs import failures, lifecycle, payload
from aero.runs.claiming import origins
from aero.runs.commit import Execution, commit, conclude, lock
from aero.runs.failures import failure_of_result
from aero.runs.lifecycle import Trigger
from aero.storage import Storage
from aero.storage.base import sha256_of
from aero.types import Json, RunStatus, Step


def pin_inputs(tx: Connection, given: Mapping[str, Any], storage: str) -> Json:
    """Return a payload completed with what its steps need to know.

    Args:
        tx: Reads.
        given: The payload, or keyword arguments with one.
        storage: The location of the store that steps put into and get from.

    Raises:
        NotFoundError: There is no such flow or run.
        InvalidValueError: An input is not the flow's, or not as the run was given it.
        ConflictError: An input has no version yet.
    """
    said = result(given)
    target = target_of(tx, said)
    flow, run = target.flow, target.run
    refuse_foreign(flow, said)
    used = inputs_of(tx, target, said)
    body = accepted(dict(unwrapped(given)))
    inputs = payload.input_entries(flow, used, storage, origins(tx, flow, used))
    outputs = payload.output_entries(
        flow, storage=storage, states={}, event=None if run is None else run.event
    )
    for name, entry in inputs.items():
        body["input_data"][name] = {**(body["input_data"].get(name) or {}), **entry}
    for name, entry in outputs.items():
        told = body["output_data"].get(name) or {}
        kept = {key: value for key, value in told.items() if value is not None}
        body["output_data"][name] = {**entry, **kept}
    return body


class Commit:
    """Commits a result, once, however often its transaction is repeated.

    Args:
        db: The workspace's database.
        given: What was sent.
        agent: Who sent it.

    Attributes:
        ended: What a listener is told of the run, once this has ended it.

    Raises:
        InvalidValueError: What was sent is no result.
    """

    def __init__(self, db: Database, given: Any, agent: str) -> None:
        self.ended: Json | None = None
        self._db = db
        self._said = result(given)
        self._agent = agent
        self._sizes: dict[str, int] = {}
        self._run_id, self._claim = str(uuid.uuid4()), str(uuid.uuid4())

    def look(self, tx: Connection) -> str | None:
        """Return the run that this result has ended before, None for none.

        Raises:
            ClientError: It would be refused as things stand.
        """
        target = target_of(tx, self._said)
        before = done(tx, target, self._said)
        if before is None:
            self._check(tx, target)
        return before

    def verify(self, storage: Storage) -> None:
        """Read all that the result says is stored, and keep gc away from it.

        Raises:
            InvalidValueError: It is not stored, or is something else.
            StorageError: The storage does not answer.
        """
        for name, entry in self._said.outputs.items():
            for part in (entry, entry.get("raw") or {}):
                uri = part.get("uri")
                if uri is None:
                    continue
                size = self._sizes[uri] = _verified(storage, name, uri)
                if part["size"] not in {None, size}:
                    raise InvalidValueError(
                        f"The output {name!r} has {size} bytes at {uri}, not "
                        f"{part['size']}: leave both as the step did.",
                        output=name,
                    )

    def __call__(self, tx: Connection) -> str:
        """Commit it; return the run that it ended, now or before."""
        said = self._said
        target = target_of(tx, said)
        flow = target.flow
        dependents = lock(tx, flow.id, flow.made.values())
        now = self._db.now(tx)
        # What was read before the locks may have changed until they were had.
        target = target_of(tx, said)
        before = done(tx, target, said)
        if before is not None:
            return before
        inputs = self._check(tx, target)
        run = self._taken(tx, now, target)
        about = {"run_id": run.id, "flow_id": flow.id, "steps": said.steps}
        if said.error is None:
            execution = self._execution(target, run, inputs, now)
            self.ended = about | _committed(tx, now, execution, dependents)
        else:
            self.ended = about | self._failed(tx, now, flow, run, inputs)
        return str(run.id)

    def _failed(
        self, tx: Connection, now: datetime, flow: FlowDefinition, run: Any, inputs: Any
    ) -> Json:
        reported = {"error": self._said.error, "log_tail": self._said.log_tail}
        failure = failure_of_result(reported)
        assert failure is not None  # noqa: S101 -- it was made of an error
        steps = [*self._said.steps, self._step(now)]
        status = failures.end(
            tx, now, run, failure, retries=flow.retries, inputs=inputs, steps=steps
        )
        return {"status": str(status), "error": failure.message}

    def _execution(
        self, target: Target, run: Any, inputs: Any, now: datetime
    ) -> Execution:
        said, flow = self._said, target.flow
        return Execution(
            run=run,
            flow=flow,
            kwargs=flow.task_kwargs(target.task),
            source_sha256=flow.source_sha256,
            inputs=inputs,
            made=flow.made,
            result={
                "unchanged": target.unchanged(said),
                "aero": {"output_data": self._outputs(target)},
                "steps": [*said.steps, self._step(now)],
                "environment": said.environment,
                "log_tail": said.log_tail,
            },
            agent=self._agent,
        )

    def record(self, tx: Connection, run_id: str) -> Json:
        """Return the record of provenance, or of the run if it left none."""
        row = None
        if self._said.error is None:
            row = provenance_queries.of_run(tx, run_id)
        if row is None:
            return query.run_detail(tx, run_id)
        return records.provenance(tx, [row])[0]

    def _check(self, tx: Connection, target: Target) -> list[Any]:
        """Refuse what cannot be committed; return the inputs that were used."""
        said = self._said
        refuse_foreign(target.flow, said)
        if target.run is None:
            refuse_opening(tx, target, said)
        else:
            refuse_attempt(target.run, said)
        if said.error is None:
            refuse_outputs(tx, target, said)
        return inputs_of(tx, target, said)

    def _taken(self, tx: Connection, now: datetime, target: Target) -> Any:
        """Return the run that ends now: the one it names, or one of its own."""
        if target.run is None:
            return self._open(tx, now, target)
        return claim_queries.take_over(
            tx, target.run.id, target.run.attempt, self._claim
        )

    def _open(self, tx: Connection, now: datetime, target: Target) -> Any:
        """Insert a run that ends in this transaction, beside what waits or runs."""
        rule = flow_queries.rules(tx, [target.flow.id])[target.flow.id]
        key = triggers.manual_key(self._said.sha256)
        run_queries.count_triggers(
            tx,
            [
                {
                    "flow_id": target.flow.id,
                    "task": target.task,
                    "key": key,
                    "kind": "manual",
                    "run_id": self._run_id,
                    "created_at": now,
                }
            ],
        )
        unchanged = target.unchanged(self._said)
        status = RunStatus.UNCHANGED if unchanged else RunStatus.SUCCEEDED
        due = Trigger(flow_id=target.flow.id, task=target.task, key=key, kind="manual")
        row = lifecycle.new_run(due, self._run_id, rule, now) | {
            "status": status.value,
            "claim": self._claim,
            "log_tail": self._said.log_tail,
            "started_at": now,
            "finished_at": now,
        }
        run_queries.insert_runs(tx, [row])
        return run_queries.get(tx, self._run_id)

    def _step(self, now: datetime) -> Json:
        moment = isoformat(now)
        return {
            "name": Step.COMMIT.value,
            "status": "SUCCEEDED" if self._said.error is None else "FAILED",
            "started_at": moment,
            "finished_at": moment,
            "sha256": self._said.sha256,
        }

    def _outputs(self, target: Target) -> dict[str, Json]:
        """Return the outputs as a commit reads them, with what was verified."""
        found = {}
        for name, entry in self._said.outputs.items():
            url = target.source_url(name)
            made = self._sized(entry) | {"url": url}
            if entry.get("raw"):
                made["raw"] = self._sized(entry["raw"]) | {"url": url}
            found[name] = made
        return found

    def _sized(self, entry: Json) -> Json:
        size = self._sizes.get(entry.get("uri") or "")
        return {**entry, "size": size}


def _committed(
    tx: Connection, now: datetime, execution: Execution, dependents: Collection[str]
) -> Json:
    """Commit; a run of its own was inserted as it ends, and is not fenced."""
    if execution.run.finished_at is None:
        committed = commit(tx, now, execution)
    else:
        committed = conclude(tx, now, execution, dependents)
    return committed.told


def _verified(storage: Storage, name: str, uri: str) -> int:
    """Return the size of what is stored, which is what its address says."""
    try:
        with storage.open(uri) as stream:
            sha256 = sha256_stream(stream)
        size = storage.size(uri)
        storage.restore(uri)
    except MissingObjectError as error:
        raise InvalidValueError(
            f"The output {name!r} is not stored: nothing is at {uri}.", output=name
        ) from error
    if sha256 != sha256_of(uri):
        raise InvalidValueError(
            f"The output {name!r} is damaged: the bytes at {uri} are others.",
            output=name,
        )
    return size
