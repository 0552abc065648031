"""What must hold of every database, whatever happened to the processes around it.

The laws are those of `aero doctor`; here is what only a test can ask.
"""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from aero.db.models import Flow, Run
from aero.db.session import Database
from aero.doctor import Diagnosis
from aero.storage import local_location, open_storage


def check_invariants(
    db: Database, *, store: Path | None = None, idle: bool = False
) -> list[str]:
    """Return what is wrong, a sentence each; nothing is well.

    Args:
        db: The database, whose schema is at head.
        store: The local store's folder, if what is stored is to be verified.
        idle: Whether all runs must have ended.
    """
    storage = None if store is None else open_storage(local_location(store))
    # Whether a run is stuck depends on who is alive, which a test plays with.
    found = [
        each["message"]
        for each in Diagnosis(db, storage)
        if each["check"] not in {"stuck", "leftovers"}
    ]
    with db.read() as tx:
        return [*found, *(_waiting(tx) if idle else ())]


def _waiting(tx: Connection) -> Iterator[str]:
    rows = tx.execute(
        select(Run.id, Run.status, Run.not_before, Flow.enabled)
        .join(Flow, Flow.id == Run.flow_id)
        .where(Run.status.in_(["PENDING", "RUNNING"]))
    )
    for row in rows:
        if row.status == "RUNNING" or row.enabled:
            yield f"run {row.id} is stuck: {row.status}, not before {row.not_before}"
