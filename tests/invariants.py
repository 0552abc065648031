"""What must hold of every database, whatever happened to the processes around it."""

import hashlib
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from aero.db.models import (
    DataVersion,
    Flow,
    FlowOutput,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    Run,
    RunTrigger,
    VersionEdge,
)
from aero.db.session import Database
from aero.error import StorageError
from aero.storage import local_location, open_storage
from aero.types import RunStatus

LEGAL = {status.value for status in RunStatus}
LIVING = {"PENDING", "RUNNING"}
COMMITTED = {"SUCCEEDED", "UNCHANGED"}


def check_invariants(
    db: Database, *, store: Path | None = None, idle: bool = False
) -> list[str]:
    """Return what is wrong, a sentence each; nothing is well.

    Args:
        db: The database, whose schema is at head.
        store: The local store's folder, if every version's bytes are to be verified.
        idle: Whether all runs must have ended.
    """
    with db.read() as tx:
        found = [
            *_versions(tx),
            *_records(tx),
            *_edges(tx),
            *_runs(tx, idle=idle),
            *_triggers(tx),
        ]
        if store is not None:
            found += _bytes(tx, store)
    return found


def _rows(tx: Connection, *models: Any) -> list[Any]:
    return list(tx.execute(select(*models)).all())


def _versions(tx: Connection) -> Iterator[str]:
    numbers = defaultdict(list)
    last: dict[Any, Any] = {}
    for row in sorted(_rows(tx, *DataVersion.__table__.c), key=lambda r: r.version):
        numbers[row.data_id].append(row.version)
        slot = row.data_id, row.task, row.source_key
        if row.sha256 is not None and last.get(slot) == row.sha256:
            yield f"Data {row.data_id} has the same content twice running: {row}"
        last[slot] = row.sha256
    for data_id, found in numbers.items():
        if found != list(range(1, len(found) + 1)):
            yield f"the versions of Data {data_id} are not contiguous: {found}"


def _records(tx: Connection) -> Iterator[str]:  # noqa: C901 -- a list of laws
    runs = {row.id: row for row in _rows(tx, Run.id, Run.flow_id, Run.status)}
    records = _rows(tx, Provenance.id, Provenance.run_id, Provenance.flow_id)
    new = defaultdict(list)
    for row in _rows(tx, *ProvenanceContribution.__table__.c):
        if row.is_new:
            new[row.version_id].append(row.provenance_id)
    makers = {record for found in new.values() for record in found}
    polls = {row.flow_id for row in records}
    for version in _rows(tx, DataVersion.id, DataVersion.data_id, DataVersion.version):
        if len(new[version.id]) != 1:
            yield f"version {version} has {len(new[version.id])} records with is_new"
    per_run = Counter(row.run_id for row in records)
    for record in records:
        run = runs.get(record.run_id)
        if run is not None and run.status not in COMMITTED:
            yield f"run {run} has a record but did not commit"
        if run is not None and run.status == "UNCHANGED" and record.id in makers:
            yield f"run {run} is UNCHANGED but made a version"
    made = {row.flow_id for row in _rows(tx, FlowOutput.flow_id)}
    for run in runs.values():
        if per_run[run.id] > 1 or (run.status == "SUCCEEDED" and not per_run[run.id]):
            yield f"run {run} has {per_run[run.id]} records"
        if run.status == "UNCHANGED" and run.flow_id not in made & polls:
            yield f"run {run} is UNCHANGED though its flow never made anything"


def _edges(tx: Connection) -> Iterator[str]:
    keys = {row.id: row.key for row in _rows(tx, DataVersion.id, DataVersion.key)}
    used = defaultdict(set)
    for row in _rows(tx, *ProvenanceDerivation.__table__.c):
        used[row.provenance_id].add(keys[row.version_id])
    expected = {
        (keys[row.version_id], parent)
        for row in _rows(tx, *ProvenanceContribution.__table__.c)
        if row.is_new
        for parent in used[row.provenance_id]
    }
    found = {(row.child, row.parent) for row in _rows(tx, *VersionEdge.__table__.c)}
    for edge in sorted(expected ^ found):
        yield f"edge {edge} is only in {'records' if edge in expected else 'edges'}"


def _runs(tx: Connection, *, idle: bool) -> Iterator[str]:
    slots: Counter[Any] = Counter()
    living = {
        row.id: row.enabled
        for row in _rows(tx, Flow.id, Flow.deleted_at, Flow.enabled)
        if row.deleted_at is None
    }
    for row in _rows(tx, *Run.__table__.c):
        if row.status not in LEGAL:
            yield f"run {row.id} is {row.status}"
        slots[row.flow_id, row.task, row.source_key, row.status] += 1
        held = row.status == "RUNNING"
        if held != (row.lease_expires is not None) or (held and row.claim is None):
            yield f"run {row.id} is {row.status} with lease {row.lease_expires}"
        ended = row.status not in LIVING
        if ended != (row.finished_at is not None):
            yield f"run {row.id} is {row.status}, finished at {row.finished_at}"
        if not ended and row.flow_id not in living:
            yield f"run {row.id} is {row.status} though its flow was deleted"
        if idle and (held or (not ended and living.get(row.flow_id))):
            yield f"run {row.id} is stuck: {row.status}, not before {row.not_before}"
    for slot, count in slots.items():
        if slot[-1] in LIVING and count > 1:
            yield f"slot {slot} has {count} runs"


def _triggers(tx: Connection) -> Iterator[str]:
    runs = {row.id for row in _rows(tx, Run.id)}
    named = {row.run_id for row in _rows(tx, RunTrigger.run_id)}
    for run_id in named - runs:
        yield f"a trigger names run {run_id}, which is not there"
    for run_id in runs - named:
        yield f"run {run_id} is due to no trigger"


def _bytes(tx: Connection, store: Path) -> Iterator[str]:
    found = open_storage(local_location(store))
    for row in _rows(tx, DataVersion.id, DataVersion.sha256, DataVersion.uri):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy"
            try:
                found.get(row.uri, copy)
            except StorageError as error:
                yield f"the bytes of version {row.id} cannot be had: {error}"
                continue
            if hashlib.sha256(copy.read_bytes()).hexdigest() != row.sha256:
                yield f"the bytes of version {row.id} do not match their SHA-256"
