"""Whom the end of a run is news to: noted in the transaction that ends the run.

A flow that fails is told of once; then there is silence until it ends well, and that is
told too. A sweep has ended well once no task's last run failed. Objects that events are
about stand for themselves: another one that begins to fail is news if a run of the flow
ended well in between, and only the object told of last is said to have recovered.

A flow that tells nobody costs a committed run nothing.
"""

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from aero.clock import isoformat
from aero.db.changes import Topic, tell
from aero.db.queries import flows as flow_queries
from aero.db.queries import notices as queries
from aero.types import Json

if TYPE_CHECKING:
    from aero.runs.lifecycle import Failure

FAILED = "failed"
RECOVERED = "recovered"

_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:aero:notice")
_LINES = 20
_WIDTH = 500
_LONGEST = 4000


def failed(tx: Connection, now: datetime, run: Any, failure: "Failure") -> None:
    """Note that a run ended FAILED and is not tried again, if that is news."""
    told = queries.begin_failing(tx, run.flow_id, now, run.source_key)
    if told is None and run.source_key:
        told = queries.fail_elsewhere(tx, run, now)
    about = {
        "error_type": _plain(failure.type),
        "error_message": _plain(failure.message)[:_LONGEST],
        "log": _last_lines(failure.log_tail),
    }
    _add(tx, now, run, kind=FAILED, targets=told or (), about=about)


def ended_well(
    tx: Connection, now: datetime, run: Any, flow: Any, *, sweep: bool
) -> None:
    """Note that a run was committed, if its flow had told of a failure.

    Args:
        tx: The transaction that commits the run.
        now: When it ends.
        run: The run.
        flow: What `flows.executed` returned of its flow.
        sweep: Whether the flow has several tasks.
    """
    since, key = flow.failing_since, run.source_key
    if since is None or flow.failing_key != key:
        return
    if sweep and queries.fails_in_a_task(tx, run.flow_id, key, since):
        return
    flow_queries.set_values(tx, run.flow_id, failing_since=None, failing_key=None)
    about = {"failing_since": isoformat(since)}
    _add(tx, now, run, kind=RECOVERED, targets=flow.notify or (), about=about)


def _add(
    tx: Connection,
    now: datetime,
    run: Any,
    *,
    kind: str,
    targets: Iterable[str],
    about: Json,
) -> None:
    facts = {
        "task": run.task,
        "source_key": run.source_key,
        "attempt": run.attempt,
        **about,
    }
    rows = [
        {
            "id": _id(run, kind, target),
            "flow_id": run.flow_id,
            "run_id": run.id,
            "kind": kind,
            "target": target,
            "facts": facts,
            "created_at": now,
            "attempts": 0,
            "not_before": now,
        }
        for target in targets
    ]
    if rows:
        queries.add(tx, rows)
        tell(tx, Topic.NOTICES)


def _id(run: Any, kind: str, target: str) -> str:
    # A run that is retried may fail again, and that is another notice.
    return str(uuid.uuid5(_IDS, f"{run.id} {run.attempt} {kind} {target}"))


def _last_lines(log_tail: str | None) -> list[str]:
    lines = _plain(log_tail or "").splitlines()[-_LINES:]
    return [line[:_WIDTH] for line in lines]


def _plain(text: str) -> str:
    return text.replace("\0", "\ufffd")
