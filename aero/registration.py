"""(1) Stores functions and flows: resolved, deduplicated, in one transaction."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Connection, insert

from aero import resolve, secret, triggers
from aero.auth.base import Role
from aero.db.changes import Topic, tell
from aero.db.models import Data, Flow, FlowInput, FlowOutput
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import functions as function_queries
from aero.db.queries import versions as version_queries
from aero.db.queries.common import insert_all, lock_rows
from aero.db.session import Database
from aero.db.sight import require, require_membership, sees
from aero.error import (
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)
from aero.flow_request import FlowRequest, OutputRequest
from aero.function_source import PlainSource
from aero.hashing import fingerprint
from aero.runs import lifecycle
from aero.runs.lifecycle import Trigger
from aero.types import LOCAL, PolicyEnum, Sharing, Visibility

FETCHED = ("http", "https", "file")

# One lock for all registrations: the cycle check and the insert belong together.
_REGISTRATION = 0x61657265


def register_function(
    db: Database,
    tx: Connection,
    owner: str,
    source: PlainSource,
    *,
    description: str,
    sharing: Sharing,
) -> str:
    """Store a function's plain source; the same source gives the same id.

    One that is there is shared as asked, too, but never with fewer.

    Raises:
        ForbiddenError: The function is to be shared with a group of others.
    """
    require_membership(tx, sharing)
    function_id = function_queries.add(
        tx,
        {
            "id": str(uuid.uuid4()),
            "owner": owner,
            "name": source.name,
            "source": source.source,
            "source_sha256": source.sha256,
            "description": description,
            "python_version": source.python_version,
            "created_at": db.now(tx),
            **sharing.columns,
        },
    )
    if sharing.visibility is not Visibility.PRIVATE:
        function_queries.set_values(tx, function_id, **sharing.columns)
    return function_id


def register_flow(
    db: Database,
    tx: Connection,
    owner: str,
    request: FlowRequest,
    *,
    flow_id: str,
    exist_ok: bool,
) -> str:
    """Store a flow with its Data, trigger it if its policy says so; return its id.

    Args:
        db: The database.
        tx: The transaction to do it in.
        owner: Whose the flow is.
        request: What to store.
        flow_id: The id that a new flow gets, chosen by the caller: if the answer to
            the commit is lost, the flow is known again by it.
        exist_ok: Return an equal flow instead of refusing to make another.

    Raises:
        NotFoundError: A function, Data or version that it names does not exist.
        ForbiddenError: An output is Data of others, or a group one of others.
        DuplicateError: An equal flow lives; `flow_id` says which, if it may be seen.
        ConflictError: The flow would feed itself, or an output has a writer.
        InvalidValueError: A secret is malformed, or an output names a source without
            its url.
    """
    secret.names(request.kwargs)
    now = db.now(tx)
    _check_schemes(request)
    function_id = _function(tx, now, owner, request)
    used = {name: resolve.data(tx, i.ref) for name, i in request.inputs.items()}
    given = {
        name: resolve.data(tx, o.ref) for name, o in request.outputs.items() if o.ref
    }
    require_membership(tx, request.sharing)
    for row in given.values():
        require(tx, row, Role.EDITOR, "data")
    _check_pins(tx, request, used)
    db.advisory_lock(tx, _REGISTRATION)
    lock_rows(tx, Data, [row.id for row in (*used.values(), *given.values())])
    print_ = _fingerprint(request, function_id, used, given)
    living = flow_queries.with_fingerprint(tx, print_)
    if living is not None:
        return _equal(tx, living, flow_id, exist_ok=exist_ok)
    if flow_queries.get(tx, flow_id) is not None:
        raise ConflictError(
            f"The idempotency key was used for flow {flow_id}, which is another or was "
            "deleted: use a new key for each new thing.",
            flow_id=flow_id,
        )
    _check_writers(tx, given)
    _check_sources(request, given)
    _check_cycle(tx, used, given)
    _insert(
        tx,
        now,
        owner,
        request,
        flow_id=flow_id,
        function_id=function_id,
        print_=print_,
    )
    made = _outputs(tx, now, owner, request, given)
    _connect(tx, flow_id, request, used, made)
    data_queries.tag(tx, made.values(), request.tags)
    _trigger(tx, now, flow_id, request)
    return flow_id


def _equal(tx: Connection, living: str, flow_id: str, *, exist_ok: bool) -> str:
    """Return the flow that lives already, if it will do, or refuse another."""
    if not sees(tx, flow_queries.get(tx, living)):
        raise anothers()
    if exist_ok or living == flow_id:
        return living
    raise DuplicateError(
        f"Flow {living} has the same function, inputs, outputs and kwargs: use it, "
        "delete it first, or change something.",
        flow_id=living,
    )


def anothers() -> DuplicateError:
    """Return what is said of an equal flow that is not to be seen."""
    return DuplicateError(
        "An equal flow belongs to somebody else: ask to have it shared with you, or "
        "change something."
    )


def _function(
    tx: Connection, now: datetime, owner: str, request: FlowRequest
) -> str | None:
    if request.function_id is None:
        return None
    try:
        found = resolve.function(tx, request.function_id)
    except NotFoundError:
        return _remote_function(tx, now, owner, request)
    if found.source is None and request.endpoint == LOCAL:
        raise _not_here(request.function_id)
    return str(found.id)


def _remote_function(
    tx: Connection, now: datetime, owner: str, request: FlowRequest
) -> str:
    """Accept the UUID of a function that somebody registered at Globus."""
    try:
        remote = str(uuid.UUID(request.function_id))
    except ValueError:
        remote = None
    if remote is None or request.endpoint == LOCAL:
        raise _not_here(request.function_id)
    row = {
        "id": remote,
        "owner": owner,
        "name": remote,
        "source": None,
        "source_sha256": None,
        "description": "",
        "python_version": None,
        "created_at": now,
        **request.sharing.columns,
    }
    function_id = function_queries.add(tx, row)
    found = function_queries.get_many(tx, [function_id])[function_id]
    if found.source is not None:  # it is somebody else's, and is not to be seen
        raise _not_here(request.function_id)
    return function_id


def _not_here(function_id: str | None) -> NotFoundError:
    return NotFoundError(
        f"There is no function {function_id!r} that this machine can run: register it "
        "first with register_function and give the id that returns.",
        function_id=function_id,
    )


def _check_schemes(request: FlowRequest) -> None:
    """Refuse what this machine cannot download; a no-copy source is not downloaded."""
    for name, wanted in request.outputs.items():
        if wanted.url is None or wanted.no_copy or request.endpoint != LOCAL:
            continue
        if urlsplit(wanted.url).scheme.lower() not in FETCHED:
            raise InvalidValueError(
                f"Output {name!r} has the url {wanted.url!r}, which this machine "
                "cannot download: give one that starts with "
                f"{', '.join(s + '://' for s in FETCHED)}.",
                url=wanted.url,
            )


def _check_pins(tx: Connection, request: FlowRequest, used: Mapping[str, Any]) -> None:
    for name, wanted in request.inputs.items():
        if wanted.version is None:
            continue
        newest = version_queries.newest_number(tx, used[name].id)
        if wanted.version > newest:
            raise NotFoundError(
                f"Input {name!r} asks for version {wanted.version} of "
                f"{used[name].name}, whose newest is {newest}: pin one that exists, or "
                "leave version out.",
                name=name,
            )


def _fingerprint(
    request: FlowRequest,
    function_id: str | None,
    used: Mapping[str, Any],
    given: Mapping[str, Any],
) -> str:
    return fingerprint(
        function=function_id,
        inputs={
            name: [used[name].id, wanted.version, wanted.fetch]
            for name, wanted in request.inputs.items()
        },
        outputs={
            name: [
                wanted.url,
                wanted.storage,
                wanted.collection_url,
                given[name].id if name in given else None,
                wanted.data_name,
            ]
            for name, wanted in request.outputs.items()
        },
        kwargs=request.kwargs,
    )


def _check_writers(tx: Connection, given: Mapping[str, Any]) -> None:
    ids = [row.id for row in given.values()]
    if len(set(ids)) < len(ids):
        raise InvalidValueError(
            "Two outputs name the same Data: give each an id of its own, or none."
        )
    for row in flow_queries.producers(tx, ids):
        if not sees(tx, flow_queries.get(tx, row.flow_id)):
            raise ConflictError(
                f"Data {row.data_id} is written by a flow of somebody else: leave the "
                "id out to make new Data.",
                data_id=row.data_id,
            )
        raise ConflictError(
            f"Data {row.data_id} is written by flow {row.flow_id}: delete that flow "
            "first, or leave the id out to make new Data.",
            flow_id=row.flow_id,
            data_id=row.data_id,
        )


def _check_sources(request: FlowRequest, given: Mapping[str, Any]) -> None:
    for name, row in given.items():
        if row.url is not None and request.outputs[name].url is None:
            raise InvalidValueError(
                f"Output {name!r} is the source {row.name}, which is downloaded: give "
                f'its url too ("url": "{row.url}"), or leave the id out to make new '
                "Data.",
                name=name,
                url=row.url,
            )


def _check_cycle(
    tx: Connection, used: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    made = {row.id for row in given.values()}
    inputs = {row.id for row in used.values()}
    if not made:
        return
    if made & (inputs | flow_queries.upstream(tx, inputs)):
        raise ConflictError(
            "The flow would feed itself, directly or through others: take an output "
            "that none of its inputs is made from."
        )


def _insert(
    tx: Connection,
    now: datetime,
    owner: str,
    request: FlowRequest,
    *,
    flow_id: str,
    function_id: str | None,
    print_: str,
) -> None:
    due = first_due(request, now)
    if due is not None:
        tell(tx, Topic.FLOWS)
    tx.execute(
        insert(Flow).values(
            id=flow_id,
            owner=owner,
            function_id=function_id,
            endpoint=request.endpoint,
            engine="aero",
            kwargs=request.kwargs,
            policy=request.policy.value,
            timer=request.timer,
            cron=request.cron,
            timezone=request.timezone,
            next_due=due,
            enabled=True,
            fingerprint=print_,
            description=request.description,
            retries=request.retries,
            timeout=request.timeout,
            priority=request.priority,
            max_running=request.max_running,
            notify=list(request.notify) or None,
            created_at=now,
            **request.sharing.columns,
        )
    )


def first_due(request: FlowRequest, now: datetime) -> datetime | None:
    """Return the first tick after registration."""
    schedule = triggers.Schedule(
        timer=request.timer, cron=request.cron, timezone=request.timezone, anchor=now
    )
    return triggers.next_due(schedule, now, None)


def _outputs(
    tx: Connection,
    now: datetime,
    owner: str,
    request: FlowRequest,
    given: Mapping[str, Any],
) -> dict[str, str]:
    rows = {
        name: _data_row(now, owner, name, wanted) | request.sharing.columns
        for name, wanted in request.outputs.items()
        if name not in given
    }
    data_queries.add(tx, list(rows.values()))
    made = {name: row.id for name, row in given.items()}
    for name, row in given.items():
        url = request.outputs[name].url
        if url != row.url:
            data_queries.set_values(tx, row.id, url=url)
    for name, row in rows.items():
        made[name] = row["id"]
    return made


def _data_row(
    now: datetime, owner: str, name: str, wanted: OutputRequest
) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "owner": owner,
        "name": wanted.data_name or name,
        "url": wanted.url,
        "description": wanted.description,
        "storage": wanted.storage or LOCAL,
        "collection_uuid": wanted.collection_uuid,
        "collection_url": wanted.collection_url,
        "no_copy": wanted.no_copy,
        "created_at": now,
    }


def _connect(
    tx: Connection,
    flow_id: str,
    request: FlowRequest,
    used: Mapping[str, Any],
    made: Mapping[str, str],
) -> None:
    insert_all(
        tx,
        FlowInput,
        [
            {
                "flow_id": flow_id,
                "name": name,
                "data_id": used[name].id,
                "version": wanted.version,
                "fetch": wanted.fetch,
            }
            for name, wanted in request.inputs.items()
        ],
    )
    insert_all(
        tx,
        FlowOutput,
        [
            {"flow_id": flow_id, "name": name, "data_id": data_id}
            for name, data_id in made.items()
        ],
    )


def _trigger(
    tx: Connection, now: datetime, flow_id: str, request: FlowRequest
) -> Sequence[str]:
    if request.policy in {PolicyEnum.ANY, PolicyEnum.ALL}:
        return lifecycle.judge(tx, now, [flow_id])
    if not triggers.fires_at_registration(request.policy, request.timer, request.cron):
        return []
    rule = flow_queries.rules(tx, [flow_id])[flow_id]
    return lifecycle.trigger(
        tx, now, ticks(rule.id, rule.tasks, now), rules={flow_id: rule}
    )


def ticks(flow_id: str, tasks: int, due: datetime) -> list[Trigger]:
    """Return the triggers of one tick, one for every task."""
    key = triggers.timer_key(due)
    return [
        Trigger(flow_id=flow_id, task=task, key=key, kind="timer")
        for task in range(tasks)
    ]
