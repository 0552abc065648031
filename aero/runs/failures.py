"""Says of an attempt that failed what happened, and whose fault it is; and ends it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.error import FunctionError, SourceError
from aero.runs import lifecycle
from aero.runs.lifecycle import Failure
from aero.types import Json, RunStatus

# What a worker calls a fault, and how the lifecycle counts it.
_FAULTS = {
    "function": "function",
    "source": "source",
    "unavailable": "lost",
    "storage": "lost",
}

DAMAGE = frozenset({"CorruptObjectError", "MissingObjectError"})
"""Failures that say that an input's stored bytes are not what they were."""


def failure_of(error: Exception) -> Failure:
    """Return the failure of an attempt whose executor answered with an error."""
    if isinstance(error, FunctionError):
        fault = "function"
    elif isinstance(error, SourceError):
        fault = "source"
    else:
        fault = "lost"
    facts = getattr(error, "facts", {})
    return Failure(
        type=type(error).__name__,
        message=_message(error) or type(error).__name__,
        traceback=facts.get("traceback"),
        log_tail=facts.get("log_tail"),
        fault=fault,
    )


def _message(error: Exception) -> str:
    if not isinstance(error, SQLAlchemyError):
        return str(error)
    reason = " ".join(str(getattr(error, "orig", None) or error).split())
    return (
        f"The database did not take the result ({reason}): check that it can be "
        "written and has space."
    )


def failure_of_result(result: Json) -> Failure | None:
    """Return the failure that a worker reports in its result, if it does."""
    error = result.get("error")
    if error is None:
        return None
    return Failure(
        type=error["type"],
        message=error["message"] or error["type"],
        traceback=error.get("traceback"),
        log_tail=result.get("log_tail"),
        fault=_FAULTS[error["fault"]],
    )


def end(
    tx: Connection,
    now: datetime,
    run: Any,
    failure: Failure,
    *,
    retries: int,
    inputs: Sequence[Any],
    steps: Sequence[Json],
) -> RunStatus | None:
    """End an attempt that failed; the caller holds the lock of its flow.

    Returns:
        The run's new status, or None where the run is no longer this claim's.
    """
    status = lifecycle.fail(tx, now, run, failure, retries=retries)
    if failure.type in DAMAGE:
        version_queries.distrust(tx, [row.data_id for row in inputs])
    if status is not None:
        run_queries.record_steps(tx, run.id, run.attempt, steps)
    return status
