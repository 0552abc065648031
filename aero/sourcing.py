"""Creates sources and their types: Data, its ingestion flow and its URLs, at once."""

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from aero import object_keys, records, registration
from aero.auth.base import Role
from aero.db.queries import data as data_queries
from aero.db.queries import events as event_queries
from aero.db.queries import flows as flow_queries
from aero.db.session import Database
from aero.db.sight import require, sees
from aero.error import ConflictError, InvalidValueError, NotFoundError
from aero.flow_request import FlowRequest, check_url, flow_request, parse_policy
from aero.types import LOCAL, Json, PolicyEnum

# One lock for all types: which keys are taken and the insert belong together.
_TYPES = 0x61657274


@dataclass(frozen=True, kw_only=True)
class SourceRequest:
    """A source as asked for; `output` is what its flow and its function call it."""

    flow: FlowRequest
    url: str
    output: str
    type_name: str | None = None


def source_request(
    name: str,
    url: str,
    *,
    collection_uuid: str | None = None,
    collection_url: str | None = None,
    endpoint_uuid: str | None = None,
    function_uuid: str | None = None,
    description: str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    type_name: str | None = None,
    no_copy: bool = False,
    policy: PolicyEnum | int | str = PolicyEnum.INGESTION_EVENT,
    timer_delay: float | None = None,
    cron: str | None = None,
    output: str | None = None,
    polled_every: float | None = None,
    **options: Any,
) -> SourceRequest:
    """Check the arguments of `create_source`.

    `polled_every` is the slow poll of those that do not say.

    Raises:
        InvalidValueError: A value cannot be used; the sentence says what to write.
        InvalidTypeError: A value is of the wrong type.
    """
    chosen = parse_policy(policy)
    _check_names(name, type_name)
    check_url(url, f"The source {name!r}")
    _check_policy(chosen, timed=timer_delay is not None or cron is not None)
    if no_copy:
        _check_no_copy(chosen, function_uuid, kwargs)
    if type_name is not None and chosen is PolicyEnum.INGESTION:
        _check_polled(url)
    key = output or _output_name(name, named=function_uuid is not None)
    entry = {
        "url": url,
        "collection_uuid": collection_uuid,
        "collection_url": collection_url,
    }
    request = flow_request(
        endpoint_uuid or LOCAL,
        function_uuid,
        {},
        {key: entry},
        kwargs,
        description=description,
        policy=chosen,
        timer_delay=timer_delay,
        cron=cron,
        **options,
    )
    wanted = replace(
        request.outputs[key],
        data_name=name,
        no_copy=no_copy,
        description=request.description,
    )
    return SourceRequest(
        flow=replace(request, outputs={key: wanted}).polled(polled_every),
        url=url,
        output=key,
        type_name=type_name,
    )


def _check_names(name: Any, type_name: Any) -> None:
    for what, value in {"source": name, "type": type_name}.items():
        if value is None and what == "type":
            continue
        if not isinstance(value, str) or not value.strip():
            raise InvalidValueError(
                f"{value!r} is no name for a {what}: write a word such as 'wastewater'."
            )


def _check_policy(policy: PolicyEnum, *, timed: bool) -> None:
    if policy not in {PolicyEnum.INGESTION, PolicyEnum.INGESTION_EVENT}:
        raise InvalidValueError(
            f"A source cannot have the policy {policy.name}: write INGESTION to poll "
            "it, or INGESTION_EVENT to ingest it when notified."
        )
    if timed and policy is not PolicyEnum.INGESTION:
        raise InvalidValueError(
            f"A source of policy {policy.name} has no schedule: write "
            "policy=PolicyEnum.INGESTION, or leave timer_delay and cron out."
        )


def _check_no_copy(
    policy: PolicyEnum, function_uuid: str | None, kwargs: Mapping[str, Any] | None
) -> None:
    refused = {
        "be polled (INGESTION)": policy is PolicyEnum.INGESTION,
        "have a function": function_uuid is not None,
        "have kwargs": bool(kwargs),
    }
    for what, given in refused.items():
        if given:
            raise InvalidValueError(
                f"A no-copy source stores no bytes, so it cannot {what}: leave that "
                "out, or write no_copy=False."
            )


def _check_polled(url: str) -> None:
    if not object_keys.is_exact(object_keys.pattern_key(url)):
        raise InvalidValueError(
            f"{url} is a pattern, which cannot be polled: write "
            "policy=PolicyEnum.INGESTION_EVENT, or the URL of one object.",
            url=url,
        )


def _output_name(name: str, *, named: bool) -> str:
    """Return the name as an identifier; a function must be told if it is none."""
    fits = name.isidentifier() and not keyword.iskeyword(name) and name != "aero"
    if fits:
        return name
    if named:
        raise InvalidValueError(
            f"{name!r} cannot be a parameter of the function: say with output= what "
            "its parameter and its AeroOutput are called.",
            name=name,
        )
    made = re.sub(r"\W+", "_", name).strip("_") or "source"
    usable = made.isidentifier() and not keyword.iskeyword(made) and made != "aero"
    return made if usable else f"source_{made}"


def create_source(
    db: Database,
    tx: Connection,
    owner: str,
    wanted: SourceRequest,
    *,
    flow_id: str,
    exist_ok: bool,
) -> str:
    """Store a source with its flow and its type; return the id of the flow.

    Args:
        db: The database.
        tx: The transaction to do it in.
        owner: Whose the source is.
        wanted: The source.
        flow_id: See `registration.register_flow`.
        exist_ok: Return an equal source instead of refusing to make another.

    Raises:
        ConflictError: The type exists, or another one has the URL.
        DuplicateError: An equal source lives; `flow_id` says which.
        NotFoundError: There is no such function.
    """
    if wanted.type_name is not None:
        db.advisory_lock(tx, _TYPES)
        key = object_keys.pattern_key(wanted.url)
        event_queries.drop_dead_types(tx, wanted.type_name, key)
        if not exist_ok and flow_queries.get(tx, flow_id) is None:
            _refuse_known(tx, wanted.type_name)
    flow_id = registration.register_flow(
        db, tx, owner, wanted.flow, flow_id=flow_id, exist_ok=exist_ok
    )
    if wanted.type_name is not None:
        data_id = flow_queries.outputs(tx, flow_id)[wanted.output]
        if event_queries.type_of_data(tx, data_id) != wanted.type_name:
            _refuse_known(tx, wanted.type_name)
            _refuse_typed(tx, data_id)
            made = data_queries.get_many(tx, [data_id])[data_id]
            require(tx, made, Role.EDITOR, "data")
            type_id = data_queries.add_type(tx, wanted.type_name, data_id)
            _add_url(tx, type_id, wanted.type_name, wanted.url)
    return flow_id


def _refuse_known(tx: Connection, name: str) -> None:
    if not data_queries.type_known(tx, name):
        return
    if not data_queries.types(tx, name):
        raise ConflictError(
            f"The type {name!r} belongs to somebody else: choose another type_name."
        )
    raise ConflictError(
        f"There is a type {name!r} already: give it this URL with "
        f"add_type_url({name!r}, url), or choose another type_name.",
        type_name=name,
    )


def _refuse_typed(tx: Connection, data_id: str) -> None:
    found = event_queries.type_of_data(tx, data_id)
    if found is not None:
        raise ConflictError(
            f"That source is of the type {found!r} already: add URLs to it with "
            "add_type_url.",
            type_name=found,
        )


def add_type_url(db: Database, tx: Connection, name: str, url: str) -> None:
    """Give a type another URL or pattern; one that it has is no error.

    Raises:
        NotFoundError: There is no such type.
        ForbiddenError: Its Data belongs to somebody else.
        ConflictError: Another type has the URL.
    """
    check_url(url, f"The type {name!r}")
    db.advisory_lock(tx, _TYPES)
    found = _type(tx, name)
    require(tx, found, Role.EDITOR, "data")
    _add_url(tx, found.id, name, url)


def _add_url(tx: Connection, type_id: str, name: str, url: str) -> None:
    key = object_keys.pattern_key(url)
    taken_by = data_queries.type_of_key(tx, key)
    if taken_by is None:
        data_queries.add_type_url(tx, type_id, url, key)
        return
    if not sees(tx, taken_by):
        raise ConflictError(
            f"{url} has the object key {key!r}, which belongs to somebody else: write "
            "a narrower pattern.",
            url=url,
        )
    if taken_by.name != name:
        raise ConflictError(
            f"{url} has the object key {key!r}, which belongs to the type "
            f"{taken_by.name!r}: use that one, or write a narrower pattern.",
            type_name=taken_by.name,
            url=url,
        )


def _type(tx: Connection, name: str) -> Any:
    found = data_queries.types(tx, name)
    if not found:
        raise NotFoundError(
            f"There is no source type {name!r}: make it with "
            "create_source(..., type_name=...).",
            type_name=name,
        )
    return found[0]


def list_types(tx: Connection) -> list[Json]:
    """Return the records of all source types, by name."""
    return records.source_types(tx, data_queries.types(tx))


def get_type(tx: Connection, name: str) -> Json:
    """Return the record of one source type, with its `urls`.

    Raises:
        NotFoundError: There is none of that name.
    """
    return records.source_types(tx, [_type(tx, name)])[0]


def record(tx: Connection, flow_id: str) -> Json:
    """Return what `create_source` answers: the Data, its flow, what to paste."""
    row = flow_queries.with_function(tx, flow_id)
    if row is None:
        raise NotFoundError(f"There is no flow {flow_id!r}.", ref=flow_id)
    ((output, data_id),) = flow_queries.outputs(tx, flow_id).items()
    made = data_queries.get_many(tx, [data_id])[data_id]
    if not sees(tx, made):
        raise registration.anothers()
    return {
        **records.data(tx, [made])[0],
        "data_id": data_id,
        "flow_id": row.id,
        "type_name": event_queries.type_of_data(tx, data_id),
        "policy": row.policy,
        "policy_name": PolicyEnum(row.policy).name,
        **records.schedule(row),
        "function_id": records.seen_function(tx, row),
        "endpoint": row.endpoint,
        "input_data": {output: {"id": data_id}},
    }
