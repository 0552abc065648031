"""Notifications: which source an event is about, and the run that it triggers."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aero import object_keys, resolve, triggers
from aero.auth.base import Role
from aero.clock import isoformat
from aero.db.models import Data, Flow
from aero.db.queries import definitions as definition_queries
from aero.db.queries import events as event_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.db.sight import HIDDEN, require, sees
from aero.error import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
    RunError,
)
from aero.notice import Notice
from aero.polling import known_key
from aero.runs import lifecycle
from aero.runs.commit import Execution, commit
from aero.runs.lifecycle import Trigger
from aero.sources import FetchPolicy, head
from aero.sources.headers import bare_etag, named_like
from aero.types import Json, PolicyEnum, Step


@dataclass(frozen=True, kw_only=True)
class Target:
    """The source an event is about, and its object: the slot's key, and the URL."""

    data_id: str
    flow_id: str
    name: str
    no_copy: bool
    key: str
    url: str


def notify(
    db: Database,
    told: Notice,
    *,
    agent: str,
    policy: FetchPolicy,
    write: Callable[[Callable[[Connection], str]], str],
) -> str:
    """Trigger the flow of the source that an event is about; return its run.

    A run of a no-copy source has ended by then, no worker takes part in it.

    Args:
        db: The workspace's database.
        told: The notification.
        agent: Who provenance names as having recorded a no-copy version.
        policy: What asking an object for its etag may do.
        write: Runs a writing transaction.

    Raises:
        NotFoundError: No source has that object.
        ForbiddenError: The source belongs to somebody else.
        ConflictError: Several have, equally well; or the source is paused.
        InvalidValueError: Which object changed, or its etag, cannot be known.
    """
    target = db.look(lambda tx: find(tx, told))
    if target.no_copy and told.etag is None:
        told = _asked(told, target.url, policy)
    return write(lambda tx: _trigger(db, tx, told, target, agent))


def find(tx: Connection, told: Notice) -> Target:
    """Return the source that a notification is about, and which of its objects."""
    if told.file_id is None:
        return _best(tx, event_queries.seen(tx), told)
    try:
        found = resolve.data(tx, told.file_id)
    except NotFoundError:
        if "/" not in told.file_id:
            raise
        return _best(tx, event_queries.seen(tx), _of_object(told, told.file_id))
    rows = event_queries.seen(tx, found.id)
    if not rows:
        raise NotFoundError(
            f"No living flow ingests {found.name} ({found.id}): notify a source, or "
            "create it again.",
            data_id=found.id,
        )
    return _whole(tx, rows) if told.object_key is None else _best(tx, rows, told)


def _of_object(told: Notice, name: str) -> Notice:
    """Return what the established services mean by a `file_id` that is an object.

    Its URL or key is what it is known by; a `url` beside it serves this one run.
    """
    signed = told.signed_url or told.url
    return replace(told, file_id=None, url=name, key=None, signed_url=signed)


def _whole(tx: Connection, rows: Sequence[Any]) -> Target:
    """Return the one object that a source has."""
    row = rows[0]
    key = _pattern(row)
    if len(rows) > 1 or not object_keys.is_exact(key):
        raise InvalidValueError(
            f"{row.name} has many objects: say by url or key which one changed.",
            data_id=row.data_id,
        )
    source_key = known_key(tx, row, object_keys.literal_prefix(key), default="")
    return _target(tx, row, source_key, row.url)


def _best(tx: Connection, rows: Sequence[Any], told: Notice) -> Target:
    key, found = _matching(rows, told)
    if not found:
        raise NotFoundError(
            f"No source has the object {told.object_key!r}: create one, or give its "
            "type the URL with add_type_url.",
            key=key,
        )
    if len({row.data_id for row in found}) > 1:
        found = [row for row in found if row.url == told.url] or found
    if len({row.data_id for row in found}) > 1:
        names = sorted(f"{row.name} ({row.data_id})" for row in found)
        raise ConflictError(
            f"The object {key!r} belongs equally to {', '.join(names)}: notify one of "
            "them by file_id.",
            key=key,
            data_ids=sorted(row.data_id for row in found),
        )
    row = found[0]
    if not object_keys.is_exact(_pattern(row)):
        return _target(tx, row, key, _concrete(row, key, told.url))
    return _target(tx, row, known_key(tx, row, key, default=key), row.url)


def _matching(rows: Sequence[Any], told: Notice) -> tuple[str, list[Any]]:
    """Return the key that the object is known by, and the rows that have it best."""
    key, bucket = told.object_key or "", told.bucket
    if bucket is None:
        return key, _having(rows, key)
    inside = {r.url for r in rows if object_keys.is_of_bucket(r.url, bucket)}
    found = _having([row for row in rows if row.url not in inside], key)
    if found:
        return key, found
    bare = object_keys.normal_key(told.key or "")
    return bare, _having([row for row in rows if row.url in inside], bare)


def _having(rows: Sequence[Any], key: str) -> list[Any]:
    by_pattern: dict[str, list[Any]] = {}
    for row in rows:
        by_pattern.setdefault(_pattern(row), []).append(row)
    return [r for p in object_keys.best(by_pattern, key) for r in by_pattern[p]]


def _pattern(row: Any) -> str:
    return object_keys.registered_key(row.url, typed=row.typed)


def _concrete(row: Any, key: str, told: str | None) -> str:
    """Return the object's URL; a notification cannot name a host of its own."""
    if told is not None and object_keys.place(told) == object_keys.place(row.url):
        return told
    return object_keys.object_url(row.url, key)


def _target(tx: Connection, row: Any, key: str, url: str) -> Target:
    require(tx, row, Role.EDITOR, "data", prefix="data_")
    require(tx, row, Role.EDITOR, "flow", prefix="flow_")
    return Target(
        data_id=row.data_id,
        flow_id=row.flow_id,
        name=row.name,
        no_copy=row.no_copy,
        key=key,
        url=url,
    )


def _asked(told: Notice, url: str, policy: FetchPolicy) -> Notice:
    try:
        answer = head(url, replace(policy, attempts=min(policy.attempts, 2)))
    except (RunError, InvalidValueError) as error:
        raise _no_etag(url, f" ({error})") from error
    if answer.etag is None:
        raise _no_etag(url)
    size = answer.size if told.size is None else told.size
    return replace(told, etag=answer.etag, size=size)


def _no_etag(url: str, why: str = "") -> InvalidValueError:
    return InvalidValueError(
        f"The notification has no etag and {url} gave none when asked{why}: send the "
        "etag.",
        code=400,
        url=url,
    )


def _trigger(
    db: Database, tx: Connection, told: Notice, target: Target, agent: str
) -> str:
    data_ids = [target.data_id] if target.no_copy else []
    lock_rows(tx, Data, data_ids)
    dependents = flow_queries.dependents(tx, data_ids) if data_ids else []
    lock_rows(tx, Flow, [target.flow_id, *dependents])
    rule = flow_queries.rules(tx, [target.flow_id]).get(target.flow_id)
    if rule is None:
        raise NotFoundError(
            f"The flow that ingested {target.name} was deleted: create it again.",
            data_id=target.data_id,
        )
    if target.no_copy and not rule.enabled:
        raise ConflictError(
            f"The flow of {target.name} is paused: resume it and notify again.",
            flow_id=target.flow_id,
        )
    now = db.now(tx)
    due = [
        Trigger(
            flow_id=target.flow_id,
            task=task,
            key=triggers.event_key(target.key, told.delivery_id),
            kind="event",
            source_key=target.key,
            event=_event(tx, told, target, task),
        )
        for task in range(rule.tasks)
    ]
    run_ids = lifecycle.trigger(tx, now, due, rules={rule.id: rule})
    if target.no_copy:
        _end_poll(tx, run_ids[0], target, now)
        run = event_queries.take(tx, run_ids[0], str(uuid.uuid4()), now)
        # A delivery that had counted before finds its run ended.
        if run is not None:
            _commit(tx, run, told, target, agent=agent)
    return run_ids[0]


def _end_poll(tx: Connection, run_id: str, target: Target, now: datetime) -> None:
    """End the poll that asks the object right now: what it is told is as new."""
    polling = event_queries.running_in_slot(tx, target.flow_id, target.key)
    if polling is not None and polling != run_id:
        why = "A notification said meanwhile what this poll was asking."
        run_queries.cancel(tx, [polling], now, why)


def _event(tx: Connection, told: Notice, target: Target, task: int) -> Json:
    waiting = event_queries.pending_event(tx, target.flow_id, task, target.key)
    forced = waiting is not None and waiting.get("dedup") is False
    return {
        "data_id": target.data_id,
        "url": target.url,
        "etag": told.etag,
        "size": told.size,
        # A version that was asked for is made, whatever joins its run.
        "dedup": told.dedup and not forced,
        "trigger_url": told.trigger_url,
        "signed_url": told.signed_url,
    }


def _commit(
    tx: Connection, run: Any, told: Notice, target: Target, *, agent: str
) -> None:
    """Commit the run of a no-copy source at once, as the claim that it is."""
    flow = definition_queries.load(tx, [target.flow_id])[target.flow_id]
    (output,) = flow.made
    latest = version_queries.latest_of(tx, target.data_id, run.task, target.key)
    same = latest is not None and bare_etag(latest.etag) == bare_etag(told.etag)
    entry = {
        "id": target.data_id,
        "no_copy": True,
        "url": target.url,
        "etag": told.etag,
        "size": told.size,
        **named_like(object_keys.object_key(target.url), target.name),
    }
    execution = Execution(
        run=run,
        flow=flow,
        kwargs=flow.task_kwargs(run.task),
        source_sha256=None,
        inputs=[],
        made=flow.made,
        result={
            "unchanged": same and told.dedup,
            "aero": {"output_data": {output: entry}},
            "steps": [_step(run, target, told)],
        },
        agent=agent,
    )
    commit(tx, run.started_at, execution)


def _step(run: Any, target: Target, told: Notice) -> Json:
    # Nothing was downloaded; the permanent record still says which object it is about.
    moment = isoformat(run.started_at)
    return {
        "name": Step.COMMIT.value,
        "status": "SUCCEEDED",
        "started_at": moment,
        "finished_at": moment,
        "url": target.url,
        "etag": told.etag,
    }


def refuse_run_now(tx: Connection, flow: Any) -> None:
    """Refuse to run a flow that does not know which object to ingest.

    Raises:
        ConflictError: It ingests what events name.
    """
    if flow.policy != PolicyEnum.INGESTION_EVENT:
        return
    for data_id in flow_queries.outputs(tx, flow.id).values():
        for row in event_queries.ingested(tx, data_id):
            vague = row.url == row.first_url and not object_keys.is_exact(_pattern(row))
            if row.no_copy or vague:
                seen = sees(tx, row, "data_")
                raise ConflictError(
                    "The flow ingests what a notification about "
                    f"{row.name if seen else HIDDEN} names: use notify instead of "
                    "running it.",
                    data_id=data_id if seen else None,
                )
