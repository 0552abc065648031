"""`AeroClient`: a workspace on a server, with the methods of `Aero`."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from aero import __version__, flow_request
from aero.error import InvalidValueError, NotFoundError
from aero.function_source import PlainSource, plain_source
from aero.notice import notice
from aero.provenance.graph import Direction, Lineage
from aero.result import result, unwrapped
from aero.transport import Token, Transport
from aero.types import (
    LOCAL,
    Json,
    PolicyEnum,
    RunStatus,
    Sharing,
    list_kind,
    shared_kind,
)

_LIVING = {RunStatus.PENDING.value, RunStatus.RUNNING.value}
_FIRST_LOOK, _LAST_LOOK = 0.02, 1.0


class AeroClient:
    """A workspace that a server keeps and executes; see `Aero` for what methods do.

    Args:
        url: The server's.
        token: Sent as a bearer token with every request; or what returns it.
        timeout: Seconds to wait for an answer.

    Raises:
        InvalidValueError: The token cannot be sent, or others could read it.
    """

    def __init__(
        self, url: str, *, token: Token | None = None, timeout: float = 60.0
    ) -> None:
        agent = f"aero/{__version__}"
        self._server = Transport(url, token=token, timeout=timeout, agent=agent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._server.close()

    # -- functions and flows ------------------------------------------------------

    def register_function(
        self,
        func: Callable[..., Any],
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
    ) -> str:
        """Store a function's plain source, which is read here; return its id."""
        source = plain_source(func)
        text = source.description if description is None else description
        return self.register_source(source, text, public=public, group=group)

    def register_source(
        self,
        source: PlainSource,
        description: str,
        *,
        public: bool = False,
        group: str | None = None,
    ) -> str:
        """Store a plain source and return its id."""
        body = {
            "name": source.name,
            "source": source.source,
            "description": description,
            "python_version": source.python_version,
            **_shared(public, group),
        }
        return str(self._server.post("/function", body, key=_key())["id"])

    def register_flow(
        self,
        endpoint_uuid: str,
        function_uuid: str | None,
        input_data: Mapping[str, Mapping[str, Any]] | None = None,
        output_data: Mapping[str, Mapping[str, Any]] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        exist_ok: bool = False,
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Store a flow and return its record."""
        # What is wrong with it is said here as it would be there.
        flow_request.flow_request(
            endpoint_uuid, function_uuid, input_data, output_data, kwargs, **options
        )
        config = options.pop("config", None)
        body: Json = {
            "gc_endpoint": endpoint_uuid,
            "function_uuid": function_uuid,
            "input_data": input_data,
            "output_data": output_data,
            "flow_kwargs": kwargs,
            "tasks": None if config is None else flow_request.read_sweep(config),
            "rule": int(flow_request.parse_policy(options.pop("policy", -1))),
            "timer": options.pop("timer_delay", None),
            "tags": list(options.pop("tags", ())),
            "exist_ok": exist_ok,
            **options,
        }
        return self._post("/flow/register", body, idempotency_key)

    def get_flow(self, flow: str, inputs_only: bool = True) -> Json:
        """Return the flow's kwargs with the `aero` payload, or its whole record."""
        record: Json = self._server.get(_path("flow", flow))
        kwargs: Json = record["function_args"]["kwargs"]
        return kwargs if inputs_only else record

    def flow_id(self, flow: str) -> str:
        """Return the id of the flow that an id, a prefix or a name stands for."""
        return str(self.get_flow(flow, inputs_only=False)["id"])

    def get_function(self, function: str) -> Json:
        """Return the record of a function, with its source."""
        found: Json = self._server.get(_path("function", function))
        return found

    def pause_flow(self, flow: str, reason: str | None = None) -> Json:
        """Stop ticks, judging and claims of a flow; what runs goes on."""
        return self._post(_path("flow", flow, "pause"), {"reason": reason})

    def resume_flow(self, flow: str) -> Json:
        """Let a paused flow go on; inputs that came meanwhile count."""
        return self._post(_path("flow", flow, "resume"))

    def set_flow(self, flow: str, **changes: Any) -> Json:
        """Change a flow's `priority`, `max_running`, `email` or `notify`."""
        checked = flow_request.flow_changes(changes)
        return self._post(_path("flow", flow, "set"), dict(checked))

    def set_limit(self, endpoint: str, max_running: int | None) -> Json:
        """Let at most so many runs of an endpoint run at once, or any number."""
        return self._post(_path("limit", endpoint), {"max_running": max_running})

    def limits(self) -> list[Json]:
        """Return the endpoints with a limit, with what runs and waits there."""
        found: list[Json] = self._server.get("/limit")
        return found

    def delete_flow(self, flow: str) -> Json:
        """Mark a flow deleted and cancel its runs; its versions and records stay."""
        found: Json = self._server.delete(_path("flow", flow), key=_key())
        return found

    def delete_data_flows(self, data: str) -> list[Json]:
        """Delete every flow that uses or makes a Data; return what they were."""
        found: list[Json] = self._server.delete(
            _path("data", data, "flows"), key=_key()
        )
        return found

    def share(
        self, kind: str, ref: str, *, public: bool = False, group: str | None = None
    ) -> Json:
        """Say who sees a thing beside its owner, and return its record."""
        body = _shared(public, group)
        return self._post(_path(shared_kind(kind), ref, "share"), body)

    # -- sources ------------------------------------------------------------------

    def create_source(  # noqa: PLR0917 -- the order of the established API
        self,
        name: str,
        url: str,
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
        *,
        cron: str | None = None,
        poll_delay: float | None = None,
        tags: tuple[str, ...] | list[str] = (),
        timezone: str = "UTC",
        exist_ok: bool = False,
        retries: int = 0,
        timeout: float | None = None,
        priority: int = 0,
        max_running: int | None = None,
        output: str | None = None,
        public: bool = False,
        group: str | None = None,
        email: str | Sequence[str] | None = None,
        notify: str | Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Make Data with a URL and the flow that ingests it, both at once."""
        body = {
            "name": name,
            "url": url,
            "policy": int(flow_request.parse_policy(policy)),
            "tags": list(tags),
            "collection_uuid": collection_uuid,
            "collection_url": collection_url,
            "endpoint_uuid": endpoint_uuid,
            "function_uuid": function_uuid,
            "description": description,
            "kwargs": kwargs,
            "type_name": type_name,
            "no_copy": no_copy,
            "timer_delay": timer_delay,
            "cron": cron,
            "poll_delay": poll_delay,
            "timezone": timezone,
            "exist_ok": exist_ok,
            "retries": retries,
            "timeout": timeout,
            "priority": priority,
            "max_running": max_running,
            "output": output,
            **_shared(public, group),
            "email": email,
            "notify": notify,
        }
        return self._post("/data/source", body, idempotency_key)

    def list_source_types(self) -> list[Json]:
        """Return the source types, each with its `data_id` and `urls`."""
        found: list[Json] = self._server.get("/data/types")
        return found

    def get_source_type(self, name: str) -> Json:
        """Return the record of the source type of that name."""
        found: Json = self._server.get(_path("data", "types", name))
        return found

    def add_type_url(self, name: str, url: str) -> Json:
        """Give a source type another URL or pattern; return its record."""
        return self._post(_path("data", "types", name, "urls"), {"url": url})

    def notify(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        file_id: str | None = None,
        url: str | None = None,
        key: str | None = None,
        etag: str | None = None,
        size: int | None = None,
        dedup: bool = True,
        delivery_id: str | None = None,
        trigger_url: str | None = None,
        signed_url: str | None = None,
    ) -> Json:
        """Say that an object changed: the flow of its source runs."""
        told = notice(
            body,
            file_id=file_id,
            url=url,
            key=key,
            etag=etag,
            size=size,
            dedup=dedup,
            delivery_id=delivery_id,
            trigger_url=trigger_url,
            signed_url=signed_url,
        )
        sent = {k: v for k, v in asdict(told).items() if k != "delivery_id"}
        return self._post("/data/notify", sent, told.delivery_id)

    # -- runs ---------------------------------------------------------------------

    def run_flow(
        self,
        flow: str,
        wait: bool = True,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Run a flow now; with `wait` return when its runs have ended."""
        found = self._post(_path("flow", flow, "run"), None, idempotency_key)
        run_ids = [run["id"] for run in found["runs"]]
        if wait:
            self._await(lambda: not any(map(self._living, run_ids)), timeout)
        runs = [self.get_run(run_id) for run_id in run_ids]
        return {**runs[0], "runs": runs}

    def _living(self, run_id: str) -> bool:
        """Whether a run is RUNNING, or PENDING and free to start."""
        run = self.get_run(run_id)
        if run["status"] == RunStatus.PENDING.value:
            try:
                flow = self.get_flow(run["flow_id"], inputs_only=False)
            except NotFoundError:
                return False
            return bool(flow["enabled"]) and flow["endpoint"] == LOCAL
        return run["status"] in _LIVING

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Wait until the server has run what is due and pending."""
        self._await(self.idle, timeout)

    def idle(self) -> bool:
        """Whether nothing is due, running, or waiting to be run there."""
        return bool(self._server.get("/queue")["idle"])

    def _await(self, holds: Callable[[], bool], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK
        while not holds():
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"Not done within {timeout} s.")
            time.sleep(pause)
            pause = min(1.5 * pause, _LAST_LOOK)

    def downloads(self) -> list[Json]:
        """Return how far the long downloads of the server's machine are."""
        found: list[Json] = self._server.get("/run/downloads")
        return found

    def cancel_run(self, run: str) -> Json:
        """End a run as CANCELLED; what it does is stopped and never committed."""
        return self._post(_path("run", run, "cancel"))

    def retry_run(self, run: str) -> Json:
        """Run a failed, cancelled or skipped run again, with the newest inputs."""
        return self._post(_path("run", run, "retry"))

    def pin_inputs(self, payload: Mapping[str, Any]) -> Json:
        """Return a payload completed with what its steps need to know."""
        return self._post("/prov/inputs", _payload(payload))

    def commit_result(self, payload: Mapping[str, Any]) -> Json:
        """Commit what a worker brought back of a run; the same payload counts once."""
        return self._post("/prov/new", _payload(payload))

    def get_run(self, run: str) -> Json:
        """Return a run's record with its log, traceback, inputs and steps."""
        found: Json = self._server.get(_path("run", run))
        return found

    def list_runs(
        self, flow: str | None = None, status: str | None = None
    ) -> Iterator[Json]:
        """Yield runs, newest first."""
        return self._server.pages("/run", flow=flow, status=status)

    # -- data and provenance ------------------------------------------------------

    def list_metadata(self, kind: str) -> Iterator[Json]:
        """Yield the records of `data`, `flow` or `prov`, newest first."""
        return self._server.pages(f"/{list_kind(kind)}")

    def get_data(self, data: str) -> Json:
        """Return the record of a Data."""
        found: Json = self._server.get(_path("data", data))
        return found

    def list_versions(self, data: str) -> Iterator[Json]:
        """Yield the versions of a Data, newest first."""
        return self._server.pages(_path("data", data, "versions"))

    def get_version(self, data: str, version: int | None = None) -> Json:
        """Return the record of one version, by default the newest."""
        which = ("latest",) if version is None else ("versions", str(version))
        found: Json = self._server.get(_path("data", data, *which))
        return found

    def fetch_version(
        self, data: str, path: str | Path, version: int | None = None
    ) -> Json:
        """Write a verified copy of a version's bytes to `path`; return its record."""
        record = self.get_version(data, version)
        number = str(record["version"])
        where = _path("data", record["data_id"], "versions", number, "file")
        self._server.download(where, Path(path), record["checksum"])
        return record

    def get_provenance(self, provenance: str) -> Json:
        """Return the record of a committed run, by its id or the run's."""
        found: Json = self._server.get(_path("prov", provenance))
        return found

    def get_data_flows(self, data: str) -> list[Json]:
        """Return the flows that use or make a Data, each with its role."""
        found: list[Json] = self._server.get(_path("data", data, "flows"))
        return found

    def search_sources(self, text: str) -> list[Json]:
        """Return the Data in which every word of `text` occurs."""
        found: list[Json] = self._server.get("/data/search", query=text)
        return found

    def lineage(
        self, data: str, direction: Direction = "up", depth: int | None = None
    ) -> Lineage:
        """Return the ancestry or the impact of `DATA` or `DATA@VERSION`."""
        found = self._server.get(
            _path("data", data, "lineage"), direction=direction, depth=depth
        )
        return Lineage.of(found)

    def explain(self, flow: str) -> Json:
        """Return why a flow did or did not run."""
        found: Json = self._server.get(_path("flow", flow, "explain"))
        return found

    # -- housekeeping -------------------------------------------------------------

    def gc(self, dry_run: bool = False) -> Json:
        """Free what nothing refers to and prune what is long over; say how much."""
        return self._post("/gc", {"dry_run": dry_run})

    def status(self) -> Json:
        """Return where things are at the server and how they stand."""
        found: Json = self._server.get("/status")
        return found

    def waiting_note(self) -> str | None:
        """Return what to say when something could run and nobody is there to do it."""
        note: str | None = self._server.get("/queue")["note"]
        return note

    def audit(self) -> Iterator[Json]:
        """Yield the entries of the audit log, newest first: who, what, when, about."""
        return self._server.pages("/audit")

    def _post(
        self, path: str, body: Json | None = None, key: str | None = None
    ) -> Json:
        found: Json = self._server.post(path, body, key=key or _key())
        return found


def _shared(public: bool, group: str | None) -> Json:
    Sharing.of(public, group)
    return {"public": public, "group": group}


def _key() -> str:
    return str(uuid.uuid4())


def _payload(given: Mapping[str, Any]) -> Json:
    # What is wrong with it is said here as it would be there.
    result(given)
    return dict(unwrapped(given))


def _path(*parts: str) -> str:
    return "".join(f"/{_part(part)}" for part in parts)


def _part(name: str) -> str:
    if not isinstance(name, str) or not name:
        raise InvalidValueError(
            f"{name!r} names nothing: give an id, the first 8 or more characters of "
            "it, or its name."
        )
    # A part of dots alone would be taken for a step up.
    return quote(name, safe="") if name.strip(".") else name.replace(".", "%2E")
