"""(6) The read side: list, get, search; every list is paged by key."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aero import records, resolve
from aero.clock import isoformat
from aero.db.models import Audit, Data, Flow, Provenance, Run
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import runs as run_queries
from aero.db.session import Database
from aero.db.sight import sees, visible
from aero.error import ForbiddenError, InvalidValueError, NotFoundError
from aero.types import Json, PolicyEnum, RunStatus, list_kind

PAGE = 15

Page = Callable[[Connection, Any], tuple[list[Json], Any]]
"""Reads what follows a key, None being the start; returns it with the next key."""

_Key = tuple[datetime, str]


def pages(db: Database, page: Page) -> Iterator[Json]:
    """Yield the records of page after page, each read in a transaction of its own."""
    after = None
    while True:
        found, after = _read(db, page, after)
        yield from found
        if after is None:
            return


def _read(db: Database, page: Page, after: Any) -> tuple[list[Json], Any]:
    return db.look(lambda tx: page(tx, after))


def metadata_page(kind: str, size: int = PAGE, offset: int = 0) -> Page:
    """Return how a page of `data`, `flow` or `prov` is read, newest first.

    Args:
        kind: What is listed.
        size: Records of a page.
        offset: Records to pass over before it; for a few, since it costs their time.

    Raises:
        InvalidValueError: There is no such kind.
    """
    where: list[Any] = []
    model: Any
    list_kind(kind)
    if kind == "data":
        model, moment, shape = Data, Data.created_at, records.data
    elif kind == "flow":
        model, moment, shape = Flow, Flow.created_at, records.flows
        where = [Flow.deleted_at.is_(None)]
    else:
        model, moment, shape = Provenance, Provenance.finished_at, records.provenance
    return _pager(model, moment, shape, *where, size=size, offset=offset)


def runs_page(
    flow_id: str | None, status: str | None, size: int = PAGE, offset: int = 0
) -> Page:
    """Return how a page of runs is read, newest first."""
    where = [] if flow_id is None else [Run.flow_id == flow_id]
    if status is not None:
        where.append(Run.status == _status(status))
    return _pager(
        Run,
        Run.created_at,
        lambda _tx, rows: [records.run(row) for row in rows],
        *where,
        size=size,
        offset=offset,
    )


def audit_page(size: int = PAGE, offset: int = 0) -> Page:
    """Return how a page of the audit log is read, newest first."""
    return _pager(
        Audit,
        Audit.at,
        lambda _tx, rows: [records.entry(row) for row in rows],
        size=size,
        offset=offset,
    )


def _status(status: str) -> str:
    try:
        return RunStatus(status.upper()).value
    except ValueError:
        raise InvalidValueError(
            f"There is no run status {status!r}: write one of {', '.join(RunStatus)}."
        ) from None


def _pager(
    model: Any,
    moment: Any,
    shape: Callable[[Connection, Any], list[Json]],
    *where: Any,
    size: int,
    offset: int,
) -> Page:
    def page(tx: Connection, after: _Key | None) -> tuple[list[Json], _Key | None]:
        seen = visible(tx, model)
        rows = data_queries.page_of(
            tx, model, moment, after, size, *where, *seen, offset=offset
        )
        last = rows[-1] if len(rows) == size else None
        key = None if last is None else (getattr(last, moment.key), last.id)
        return shape(tx, rows), key

    return page


def versions_page(data_id: str, size: int = PAGE, offset: int = 0) -> Page:
    """Return how a page of versions is read, newest first."""

    def page(tx: Connection, before: int | None) -> tuple[list[Json], int | None]:
        rows = data_queries.versions_page(tx, data_id, before, size, offset)
        last = rows[-1].version if len(rows) == size else None
        return [records.version(row) for row in rows], last

    return page


def data_flows(tx: Connection, ref: str) -> list[Json]:
    """Return the living flows that use or make a Data, with their role."""
    return _flows_of(tx, resolve.data(tx, ref))[0]


def flows_to_delete(tx: Connection, ref: str) -> list[Json]:
    """Return the same, if the viewer sees every flow that there is.

    Raises:
        ForbiddenError: The viewer does not, and so cannot delete them all.
    """
    found = resolve.data(tx, ref)
    entries, unseen = _flows_of(tx, found)
    if unseen:
        raise ForbiddenError(
            f"Other people's flows use or make {found.name}, so that nothing was "
            "deleted: delete your own flows one by one."
        )
    return entries


def _flows_of(tx: Connection, data: Any) -> tuple[list[Json], bool]:
    """Return the flows of a Data that are seen, and whether there are others."""
    sides: dict[str, set[str]] = {}
    for flow_id, side in flow_queries.of_data(tx, data.id):
        sides.setdefault(flow_id, set()).add(side)
    rows = [flow_queries.with_function(tx, flow_id) for flow_id in sides]
    seen = [row for row in rows if row is not None and sees(tx, row)]
    entries = [{**_flow_head(tx, row), "role": _role(sides[row.id])} for row in seen]
    return entries, len(seen) < len(rows)


def _flow_head(tx: Connection, row: Any) -> Json:
    return {
        "flow_id": row.id,
        "policy": row.policy,
        "policy_name": PolicyEnum(row.policy).name,
        "description": row.description,
        "endpoint": row.endpoint,
        "function_id": records.seen_function(tx, row),
        **records.schedule(row),
        "enabled": row.enabled,
        "next_due": isoformat(row.next_due),
        "last_executed": isoformat(row.last_executed),
    }


def _role(sides: set[str]) -> str:
    if len(sides) == 2:
        return "both"
    return "ingestion" if "output" in sides else "analysis"


def run_detail(tx: Connection, ref: str) -> Json:
    """Return a run's record with its log, traceback, inputs and steps."""
    row = resolve.run(tx, ref)
    steps = run_queries.steps(tx, row.id)
    return {
        **records.run(row),
        "traceback": row.traceback,
        "log_tail": row.log_tail,
        "inputs": [
            {"name": i.name, "data_id": i.data_id, "version": i.version}
            if sees(tx, i)
            else {"name": i.name, "hidden": True}
            for i in run_queries.shown_inputs(tx, row.id)
        ],
        "steps": [
            {
                "attempt": step.attempt,
                "name": step.name,
                "status": step.status,
                "started_at": isoformat(step.started_at),
                "finished_at": isoformat(step.finished_at),
                **step.metrics,
            }
            for step in steps
        ],
    }


def version_detail(tx: Connection, ref: str, number: int | None) -> Json:
    """Return the record of one version, with the name of its Data."""
    found, row = resolve.version(tx, ref, number)
    return {**records.version(row), "name": found.name}


def provenance_detail(tx: Connection, ref: str) -> Json:
    """Return a committed run's record, by its own id or the run's."""
    try:
        row = resolve.provenance(tx, ref)
    except NotFoundError:
        run = resolve.run(tx, ref)
        row = provenance_queries.of_run(tx, run.id)
        if row is None:
            raise NotFoundError(
                f"Run {run.id} is {run.status} and left no provenance: only a run that "
                "committed does.",
                run_id=run.id,
            ) from None
    return records.provenance(tx, [row])[0]
