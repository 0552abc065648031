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


def input_entries(
    definition: FlowDefinition, inputs: Sequence[Any], storage: str
) -> dict[str, Json]:
    """Return the payload's entry of every input."""
    entries: dict[str, Json] = {}
    for row in inputs:
        entry = {
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
        entries[row.name] = entry
    return entries


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
        url = (event or {}).get("url") or data.url
        if url:
            state = states.get(data.id)
            entry |= {
                "url": url,
                "etag": state.etag if state else None,
                "last_modified": state.last_modified if state else None,
            }
            if state and state.raw_sha256:
                entry["raw_sha256"] = state.raw_sha256
        entries[name] = entry
    return entries


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
