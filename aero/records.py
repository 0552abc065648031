"""The shapes people see: rows turned into the records of Data, flows, runs.

Python, the command line's `--json` and the server return the same records. What a
record refers to and its reader may not see is said to be there, and no more.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection

from aero import targets
from aero.clock import isoformat
from aero.db.queries import data as data_queries
from aero.db.queries import definitions as definition_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import functions as function_queries
from aero.db.queries import provenance as provenance_queries
from aero.db.queries import versions as version_queries
from aero.db.sight import HIDDEN, hidden, sees
from aero.runs import payload
from aero.types import Json, PolicyEnum


def data(tx: Connection, rows: Sequence[Any]) -> list[Json]:
    """Return the records of Data."""
    ids = [row.id for row in rows]
    newest = version_queries.newest_numbers(tx, ids)
    tags = data_queries.tags(tx, ids)
    return [
        {
            "id": row.id,
            "name": row.name,
            "url": row.url,
            "collection_uuid": row.collection_uuid,
            "collection_url": row.collection_url,
            "description": row.description,
            "no_copy": row.no_copy,
            "available_versions": newest.get(row.id, 0),
            "tags": tags.get(row.id, []),
            "created_at": isoformat(row.created_at),
            **_sharing(row),
        }
        for row in rows
    ]


def _sharing(row: Any) -> Json:
    return {"owner": row.owner, "visibility": row.visibility, "group": row.group_id}


def version(row: Any) -> Json:
    """Return the record of a version."""
    suffix = PurePath(row.file_name).suffix.lstrip(".")
    return {
        "id": row.id,
        "data_id": row.data_id,
        "version": row.version,
        "checksum": row.sha256 or row.etag,
        "created_at": isoformat(row.created_at),
        "source_key": row.source_key,
        "task": row.task,
        "media_type": row.media_type,
        "uri": row.uri,
        "data_file": {
            "file_name": row.file_name,
            "file_type": suffix,
            "file_size": row.size,
            "encoding": row.encoding,
        },
    }


def flows(tx: Connection, rows: Sequence[Any]) -> list[Json]:
    """Return the records of flows, with the Data they use and make."""
    ids = [row.id for row in rows]
    definitions = definition_queries.load(tx, ids)
    used: dict[str, list[Any]] = {}
    for candidate in flow_queries.candidates(tx, ids):
        used.setdefault(candidate.flow_id, []).append(candidate)
    known = data_queries.get_many(
        tx, {c.data_id for candidates in used.values() for c in candidates}
    )
    made = {
        d.id: d
        for definition in definitions.values()
        for d in definition.outputs.values()
    }
    seen = [row for row in {**known, **made}.values() if sees(tx, row)]
    every: dict[str, Json] = {key: {"hidden": True} for key in {**known, **made}}
    every |= {r["id"]: r for r in data(tx, seen)}
    return [
        _flow(tx, row, definitions[row.id], used.get(row.id, []), every) for row in rows
    ]


def _flow(
    tx: Connection, row: Any, definition: Any, used: Sequence[Any], every: Any
) -> Json:
    function_id = seen_function(tx, definition)
    unseen = function_id != row.function_id
    return {
        "id": row.id,
        "function_id": function_id,
        "function_args": {
            "kwargs": _function_kwargs(definition, used, every),
            "function": function_id,
            "endpoint": row.endpoint,
        },
        "function_name": HIDDEN if unseen else definition.function_name,
        "policy": row.policy,
        "policy_name": PolicyEnum(row.policy).name,
        **schedule(row),
        "timezone": row.timezone,
        "next_due": isoformat(row.next_due),
        "last_executed": isoformat(row.last_executed),
        "endpoint": row.endpoint,
        "description": row.description,
        "enabled": row.enabled,
        "paused_reason": row.paused_reason,
        "retries": row.retries,
        "timeout": row.timeout,
        "priority": row.priority,
        "max_running": row.max_running,
        "email": targets.addresses(row.notify or ()),
        "notify": targets.others(row.notify or ()),
        "created_at": isoformat(row.created_at),
        **_sharing(row),
        "derived_from": [every[c.data_id] for c in used],
        "contributed_to": [every[d.id] for d in definition.outputs.values()],
    }


def seen_function(tx: Connection, row: Any) -> str | None:
    """Return the `function_id` of a row, if that may be seen.

    The row has the function's owner, visibility and group as `function_...`.
    """
    if row.function_id is None or not sees(tx, row, "function_"):
        return None
    return str(row.function_id)


def schedule(row: Any) -> Json:
    """Return by what schedule a flow runs; that of an event source is its slow poll."""
    polled = row.policy == PolicyEnum.INGESTION_EVENT
    scheduled = row.timer is not None or row.cron is not None
    return {
        "timer": None if polled else row.timer,
        "poll_delay": row.timer if polled else None,
        "cron": row.cron,
        "timer_job_id": row.id if scheduled else None,
    }


def _function_kwargs(definition: Any, used: Sequence[Any], every: Any) -> Json:
    inputs = {c.name: _entry(every[c.data_id], version=c.pinned) for c in used}
    outputs = {
        name: _entry(every[d.id], url=d.url) for name, d in definition.outputs.items()
    }
    body = payload.aero_payload(
        definition, run_id=None, attempt=1, task=0, inputs=inputs, outputs=outputs
    )
    if isinstance(definition.kwargs, list):
        body["tasks"] = definition.kwargs
    return {**definition.task_kwargs(0), "aero": body}


def _entry(record: Json, **more: Any) -> Json:
    if "hidden" in record:
        return record
    keys = ("collection_uuid", "collection_url")
    return {"id": record["id"], **more, **{key: record[key] for key in keys}}


def run(row: Any) -> Json:
    """Return the record of a run."""
    return {
        "id": row.id,
        "flow_id": row.flow_id,
        "task": row.task,
        "source_key": row.source_key,
        "status": row.status,
        "trigger_kind": row.trigger_kind,
        "trigger_key": row.trigger_key,
        "attempt": row.attempt,
        "created_at": isoformat(row.created_at),
        "started_at": isoformat(row.started_at),
        "finished_at": isoformat(row.finished_at),
        "not_before": isoformat(row.not_before),
        "error_type": row.error_type,
        "error_message": row.error_message,
    }


def provenance(tx: Connection, rows: Sequence[Any]) -> list[Json]:
    """Return the records of committed runs."""
    ids = [row.id for row in rows]
    used = _grouped(provenance_queries.used_versions(tx, ids))
    made = _grouped(provenance_queries.made_versions(tx, ids))
    sources = _grouped(provenance_queries.sources(tx, ids))
    functions = function_queries.get_many(
        tx, {row.function_id for row in rows if row.function_id}
    )
    unseen = {
        (v.provenance_id, v.name)
        for each in made.values()
        for v in each
        if not sees(tx, v)
    }
    return [
        {
            "id": row.id,
            "flow_id": row.flow_id,
            "run_id": row.run_id,
            "task": row.task,
            "function": _code(tx, functions.get(row.function_id)),
            "kwargs": row.kwargs,
            "trigger_key": row.trigger_key,
            "endpoint": row.endpoint,
            "agent": row.agent,
            "environment": row.environment,
            "steps": row.steps,
            "started_at": isoformat(row.started_at),
            "finished_at": isoformat(row.finished_at),
            "derived_from": [_named(tx, v, name=v.name) for v in used.get(row.id, [])],
            "contributed_to": [
                _named(tx, v, name=v.name, is_new=v.is_new)
                for v in made.get(row.id, [])
            ],
            "sources": [
                _source(s)
                for s in sources.get(row.id, [])
                if (row.id, s.name) not in unseen
            ],
        }
        for row in rows
    ]


def _grouped(rows: Sequence[Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.provenance_id, []).append(row)
    return found


def _named(tx: Connection, row: Any, **more: Any) -> Json:
    return {**version(row), **more} if sees(tx, row) else hidden(row.id)


def _code(tx: Connection, row: Any) -> Json | None:
    if row is None:
        return None
    if not sees(tx, row):
        nothing = dict.fromkeys(("id", "source", "source_sha256"))
        return {**nothing, "name": HIDDEN, "code": "hidden"}
    return {
        "id": row.id,
        "name": row.name,
        "source": row.source,
        "source_sha256": row.source_sha256,
        "code": "source" if row.source is not None else f"globus:{row.id}",
    }


def _source(row: Any) -> Json:
    return {
        "name": row.name,
        "url": row.url,
        "final_url": row.final_url,
        "etag": row.etag,
        "last_modified": row.last_modified,
        "sha256": row.sha256,
        "size": row.size,
        "uri": row.uri,
        "retrieved_at": isoformat(row.retrieved_at),
    }


def function(row: Any) -> Json:
    """Return the record of a function."""
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "source": row.source,
        "source_sha256": row.source_sha256,
        "python_version": row.python_version,
        "created_at": isoformat(row.created_at),
        **_sharing(row),
    }


def entry(row: Any) -> Json:
    """Return the record of an entry of the audit log."""
    return {
        "id": row.id,
        "at": isoformat(row.at),
        "who": row.who,
        "what": row.what,
        "about": row.about,
    }


def member(row: Any) -> Json:
    """Return the record of a member of a static group."""
    return {"group": row.group_id, "member": row.member, "role": row.role}


def source_types(tx: Connection, rows: Sequence[Any]) -> list[Json]:
    """Return the records of source types."""
    urls: dict[str, list[Json]] = {}
    for each in data_queries.type_urls(tx, [row.id for row in rows]):
        named = {"url": each.url, "object_key": each.object_key}
        urls.setdefault(each.type_id, []).append(named)
    return [
        {
            "id": row.id,
            "name": row.name,
            "data_id": row.data_id,
            "description": row.description,
            "no_copy": row.no_copy,
            "urls": urls.get(row.id, []),
        }
        for row in rows
    ]
