"""Builds what crosses to a worker: JSON, and the function's plain source."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aero import secret
from aero.clock import isoformat
from aero.db.queries.definitions import FlowDefinition
from aero.types import PAYLOAD_SCHEMA, Json


def aero_payload(
    definition: FlowDefinition,
    *,
    run_id: str | None,
    attempt: int,
    task: int,
    inputs: Mapping[str, Json],
    outputs: Mapping[str, Json],
) -> Json:
    """Return the `aero` key of a step's keyword arguments."""
    return {
        "schema": PAYLOAD_SCHEMA,
        "flow_id": definition.id,
        "run_id": run_id,
        "attempt": attempt,
        "task": task,
        "input_data": dict(inputs),
        "output_data": dict(outputs),
    }


def wants_url(definition: FlowDefinition, row: Any) -> bool:
    """Whether a run needs to know where an input's object is.

    It does if it cannot have or does not want the bytes, or if its function's source
    has the word for the parameter.
    """
    if row.uri is None or not definition.fetch.get(row.name, True):
        return True
    source = definition.source or ""
    return f"{row.name}_url" in source or f"{row.name}_signed_url" in source


def input_entries(
    definition: FlowDefinition,
    inputs: Sequence[Any],
    storage: str,
    origins: Mapping[str, Any] | None = None,
) -> dict[str, Json]:
    """Return the payload's entry of every input.

    `origins` says by version id where the objects are that runs want the URL of.
    """
    entries: dict[str, Json] = {}
    for row in inputs:
        entry: Json = {
            "id": row.data_id,
            "version": row.version,
            "uri": row.uri,
            "sha256": row.sha256,
            "size": row.size,
            "file_name": row.file_name,
            "media_type": row.media_type,
            "encoding": row.encoding,
            "storage": storage,
        }
        if not definition.fetch.get(row.name, True):
            entry["fetch"] = False
        origin = (origins or {}).get(row.id)
        if origin is not None:
            entry |= _urls(origin)
        entries[row.name] = entry
    return entries


def _urls(origin: Any) -> Json:
    # The run's event is about one source; it may have made other versions too.
    about = origin.event is not None and origin.event.get("data_id") == origin.data_id
    event = origin.event if about else {}
    urls = {
        "url": event.get("url") or origin.state_url or origin.data_url,
        "trigger_url": event.get("trigger_url"),
        "signed_url": event.get("signed_url"),
    }
    return {name: url for name, url in urls.items() if url}


def output_entries(
    definition: FlowDefinition,
    *,
    storage: str,
    states: Mapping[str, Any],
    event: Mapping[str, Any] | None,
) -> dict[str, Json]:
    """Return the payload's entry of every output.

    `states` holds, by Data id, what the last good poll under the same function left
    behind; a forced run is given none.
    """
    entries: dict[str, Json] = {}
    for name, data in definition.outputs.items():
        entry: Json = {"id": data.id, "storage": storage}
        url = source_url(data, event)
        if url:
            state = states.get(data.id)
            entry |= {
                "url": url,
                "etag": state.etag if state else None,
                "last_modified": state.last_modified if state else None,
            }
            if state and state.raw_sha256:
                entry["raw_sha256"] = state.raw_sha256
            if data.no_copy:
                entry["no_copy"] = True
            if event is not None and event.get("poll") and state:
                entry["may_be_gone"] = True
        entries[name] = entry
    return entries


def source_url(data: Any, event: Mapping[str, Any] | None) -> str | None:
    """Return what a run downloads for an output; None if that is no source."""
    # An event is about one source; the flow's other outputs are what they were.
    about = event is not None and event.get("data_id") in {None, data.id}
    if event is not None and about and data.url and event.get("url"):
        return str(event["url"])
    url: str | None = data.url
    return url


def build_task(
    definition: FlowDefinition, run: Any, payload: Json, *, workdir: Path, fetch: Json
) -> Json:
    """Return the one task that the steps of a run on this machine are."""
    kwargs = definition.task_kwargs(run.task)
    return {
        "run_id": run.id,
        "attempt": run.attempt,
        "timeout": definition.timeout,
        "workdir": str(workdir),
        "download": any("url" in e for e in payload["output_data"].values()),
        "source": definition.source,
        "name": definition.function_name if definition.source else None,
        "kwargs": kwargs,
        "secrets": sorted(secret.names(kwargs)),
        "aero": payload,
        "fetch": fetch,
        "claimed_at": isoformat(run.started_at),
    }
