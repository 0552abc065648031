"""Keeps what this process holds, and recovers what a lost one held."""

import math
import shutil
from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from aero.db.changes import Topic, tell
from aero.db.models import Flow
from aero.db.queries import claims as claim_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.runs import lifecycle, presence
from aero.runs.lifecycle import Failure
from aero.storage import open_storage
from aero.types import RunStatus

Claims = Mapping[str, str]
"""Run id -> the claim it is held by."""


def beat(
    db: Database, here: presence.Presence, claims: Claims, seconds: float
) -> set[str]:
    """Say that this process lives and extend its leases; return what is still held."""

    def work(tx: Connection) -> set[str]:
        now = db.now(tx)
        presence.beat(tx, here, now)
        if not claims:
            return set()
        return claim_queries.extend_leases(tx, claims, now + timedelta(seconds=seconds))

    return db.write(work)


def still_held(db: Database, claims: Claims) -> set[str]:
    """Return those runs that no other process cancelled or took."""
    return db.look(lambda tx: claim_queries.still_held(tx, claims))


def recover(db: Database, here: presence.Presence, held: Collection[str]) -> float:
    """End the attempts of processes that are gone or whose leases ran out.

    Returns:
        The seconds until the next lease runs out, unless it is extended.
    """
    gone = here.lost(db.look(partial(_near, db)))
    # A claim of this process that it knows nothing of is one that nobody holds.
    lost, left = db.look(partial(_lost, db, nobody=[*gone, here.id]))
    for run in lost:
        if run.id not in held:
            db.write(partial(_lose, db, run=run))
    if gone:
        db.write(lambda tx: presence.depart(tx, gone))
        for name in gone:
            here.forget(name)
    return left


def _near(db: Database, tx: Connection) -> set[str]:
    """Return the processes of this machine."""
    names = set(presence.neighbours(tx))
    if db.is_sqlite:
        # All are of this machine, those long forgotten as well.
        names.update(claim_queries.claimants(tx))
    return names


def _lost(
    db: Database, tx: Connection, nobody: Collection[str]
) -> tuple[list[Any], float]:
    """Return the runs that nobody works on, and the seconds to the next expiry."""
    now = db.now(tx)
    first = claim_queries.first_expiry(tx, now)
    left = math.inf if first is None else (first - now).total_seconds()
    return claim_queries.expired(tx, now, nobody), left


def _lose(db: Database, tx: Connection, run: Any) -> None:
    lock_rows(tx, Flow, [run.flow_id])
    failure = Failure(
        type="WorkerLostError",
        message="The process that worked on the run is gone.",
        fault="lost",
    )
    lifecycle.fail(tx, db.now(tx), run, failure, retries=0)


def hand_back(db: Database, run: Any) -> None:
    """Make a run PENDING again as if it had not been claimed."""
    db.write(partial(_hand_back, db, run=run))


def _hand_back(db: Database, tx: Connection, run: Any) -> None:
    lock_rows(tx, Flow, [run.flow_id])
    if run_queries.has_pending(tx, run.flow_id, run.task, run.source_key):
        stopped = Failure(
            type="Stopped", message="The process was stopped.", fault="lost"
        )
        lifecycle.fail(tx, db.now(tx), run, stopped, retries=0)
        return
    tell(tx, Topic.RUNS)
    claim_queries.leave_running(
        tx,
        run.id,
        run.claim,
        status=RunStatus.PENDING.value,
        attempt=run.attempt + 1,
        claim=None,
        claimed_by=None,
        started_at=None,
    )


def sweep(db: Database, scratch: Path, storage: str) -> None:
    """Remove what runs left in scratch and store whose process was killed.

    All is listed before it is asked which runs live: what another process's run makes
    that starts meanwhile is not in the list.
    """
    entries = list(scratch.iterdir())
    living = _running(db)
    for entry in entries:
        if entry.name.partition(".")[0] not in living:
            _remove(entry)
    tidy(db, storage)


def tidy(db: Database, storage: str) -> None:
    """Remove what was half stored, unless something runs."""
    open_storage(storage).clean_temp(spared=lambda: bool(_running(db)))


def _running(db: Database) -> set[str]:
    return db.look(claim_queries.running_ids)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
