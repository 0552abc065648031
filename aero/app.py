"""`Aero`: the composition root, one thin method per use case."""

import getpass
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection

from aero import (
    downloads,
    events,
    explain,
    flow_request,
    query,
    records,
    registration,
    resolve,
    retention,
    sourcing,
    status,
    triggers,
)
from aero.clock import Clock, utc_now
from aero.config import ClientConf, load_conf, refuse_network_filesystem
from aero.db import schema
from aero.db.models import Flow
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import runs as run_queries
from aero.db.queries.common import lock_rows
from aero.db.session import Database
from aero.engine import Engine, Listener
from aero.error import NotFoundError
from aero.function_source import plain_source
from aero.notice import notice
from aero.provenance.lineage import Direction, Lineage, lineage
from aero.runs import lifecycle
from aero.runs.lifecycle import Trigger
from aero.sources import FetchPolicy
from aero.storage import local_location, open_storage
from aero.types import LOCAL, Json, PolicyEnum


class Aero:
    """A workspace: its database, its store, and what executes its runs.

    Nothing is opened or started before it is needed. Use it as a context manager, or
    `close` it.

    Args:
        settings: The configuration; default: the active profile's.
        clock: This process's clock.
        executor: What runs the functions of this machine; default: worker processes.
        listener: Is told `started` and `ended` of runs executed here, with facts.
    """

    def __init__(
        self,
        settings: ClientConf | None = None,
        *,
        clock: Clock = utc_now,
        executor: Executor | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.settings = settings or load_conf()
        self.owner = _user()
        self.agent = f"{self.owner}@{socket.gethostname()}"
        self.storage_location = local_location(self.settings.store)
        self._db = Database(self.settings.database_url, clock=clock)
        self._ready = False
        self._lock = threading.Lock()
        self.engine = Engine(
            self._db,
            self.settings,
            storage=self.storage_location,
            agent=self.agent,
            executor=executor,
            listener=listener,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what runs in the background and close every connection."""
        try:
            self.engine.close()
        finally:
            self._db.dispose()

    @property
    def db(self) -> Database:
        """The database, its schema brought up to date when first asked for.

        Raises:
            SchemaError: It is of another aero version.
            ConfigError: SQLite would lie on a network file system.
        """
        if not self._ready:
            with self._lock:
                if not self._ready:
                    self._open()
        return self._db

    def _open(self) -> None:
        path = self._db.path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_network_filesystem(path.parent)
        schema.ensure(self._db, upgrade_existing=self._db.is_sqlite)
        self._ready = True

    def _write(
        self, work: Callable[[Connection], Any], *, scheduled: bool = False
    ) -> Any:
        result = self.db.write(work)
        self.engine.wake(scheduled=scheduled)
        return result

    # -- functions and flows ------------------------------------------------------

    def register_function(
        self, func: Callable[..., Any], *, description: str | None = None
    ) -> str:
        """Store a function's plain source and return its id.

        The same source gives the same id.

        Raises:
            InvalidValueError: The source cannot run on its own; it says what to write.
            InvalidTypeError: `func` is no Python function.
        """
        source = plain_source(func)
        text = source.description if description is None else description
        return str(
            self._write(
                lambda tx: registration.register_function(
                    tx, self.db.now(tx), self.owner, source, text
                )
            )
        )

    def register_flow(
        self,
        endpoint_uuid: str,
        function_uuid: str | None,
        input_data: Mapping[str, Mapping[str, Any]] | None = None,
        output_data: Mapping[str, Mapping[str, Any]] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        exist_ok: bool = False,
        **options: Any,
    ) -> Json:
        """Store a flow and return its record; see `aero.api.register_flow`."""
        request = flow_request.flow_request(
            endpoint_uuid, function_uuid, input_data, output_data, kwargs, **options
        )
        return self._register(request, exist_ok=exist_ok)

    def _register(self, request: flow_request.FlowRequest, *, exist_ok: bool) -> Json:
        registered = self._write(
            lambda tx: registration.register_flow(
                self.db, tx, self.owner, request, exist_ok=exist_ok
            ),
            scheduled=True,
        )
        return self.get_flow(registered, inputs_only=False)

    def get_flow(self, flow: str, inputs_only: bool = True) -> Json:
        """Return the flow's kwargs with the `aero` payload, or its whole record."""
        with self.db.read() as tx:
            record = records.flows(tx, [resolve.flow(tx, flow)])[0]
        kwargs: Json = record["function_args"]["kwargs"]
        return kwargs if inputs_only else record

    def get_function(self, function: str) -> Json:
        """Return the record of a function, with its source."""
        with self.db.read() as tx:
            return records.function(resolve.function(tx, function))

    def pause_flow(self, flow: str, reason: str | None = None) -> Json:
        """Stop ticks, judging and claims of a flow; what runs goes on."""

        def work(tx: Connection) -> str:
            row = self._locked_flow(tx, flow)
            values = {"enabled": False, "paused_reason": reason}
            flow_queries.set_values(tx, row.id, **values)
            return str(row.id)

        return self.get_flow(self._write(work), inputs_only=False)

    def resume_flow(self, flow: str) -> Json:
        """Let a paused flow go on, and judge it."""

        def work(tx: Connection) -> str:
            row = self._locked_flow(tx, flow)
            values = {"enabled": True, "paused_reason": None}
            flow_queries.set_values(tx, row.id, **values)
            lifecycle.judge(tx, self.db.now(tx), [row.id])
            return str(row.id)

        resumed = self._write(work, scheduled=True)
        return self.get_flow(resumed, inputs_only=False)

    def _locked_flow(self, tx: Connection, flow: str) -> Any:
        found = resolve.flow(tx, flow)
        lock_rows(tx, Flow, [found.id])
        # What was read before the lock may have changed until it was had.
        return found if self.db.is_sqlite else resolve.flow(tx, found.id)

    def delete_flow(self, flow: str) -> Json:
        """Mark a flow deleted and cancel its runs; its versions and records stay."""
        with self.db.read() as tx:
            record = records.flows(tx, [resolve.flow(tx, flow)])[0]
        self._delete([record["id"]])
        return record

    def delete_data_flows(self, data: str) -> list[Json]:
        """Delete every flow that uses or makes a Data; return what they were."""
        entries = self.get_data_flows(data)
        self._delete([entry["flow_id"] for entry in entries])
        return entries

    def _delete(self, flow_ids: list[str]) -> None:
        def work(tx: Connection) -> list[str]:
            now = self.db.now(tx)
            lock_rows(tx, Flow, flow_ids)
            for flow_id in flow_ids:
                flow_queries.set_values(tx, flow_id, deleted_at=now)
            living = run_queries.living(tx, flow_ids)
            return run_queries.cancel(tx, living, now, "Its flow was deleted.")

        self.engine.kill(self._write(work))

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
        tags: tuple[str, ...] | list[str] = (),
        timezone: str = "UTC",
        exist_ok: bool = False,
        retries: int = 0,
        timeout: float | None = None,
        output: str | None = None,
    ) -> Json:
        """Make Data with a URL and the flow that ingests it, both at once.

        Args:
            name: What people call the Data.
            url: Of the object, or a pattern of URLs.
            collection_uuid: The Globus collection that versions are kept in.
            collection_url: The folder in that collection.
            endpoint_uuid: Where the flow runs; default: this machine.
            function_uuid: Transforms what was downloaded; default: it is kept as is.
            description: What the Data is.
            kwargs: Of the function.
            type_name: Makes a source type, a group of URLs, of which `url` is the
                first.
            no_copy: Record versions and store no bytes.
            policy: INGESTION (polled) or INGESTION_EVENT (ingested when notified).
            timer_delay: Seconds between two polls.
            cron: When to poll.
            tags: Words that the Data is found by.
            timezone: That `cron` is read in.
            exist_ok: Return an equal source instead of refusing to make another.
            retries: How often the function is tried again.
            timeout: Of the function, in seconds.
            output: What the function calls its parameter and its `AeroOutput`; default:
                `name`.

        Returns:
            The record of the Data with `flow_id`, `type_name`, `policy` and more of
            its flow, and `input_data`, to paste into a flow that reads it.

        Raises:
            InvalidValueError: A value cannot be used, or two exclude each other.
            ConflictError: The type exists, or another one has the URL.
            DuplicateError: There is an equal source; `flow_id` says which.
            NotFoundError: There is no such function.
        """
        wanted = sourcing.source_request(
            name,
            url,
            collection_uuid=collection_uuid,
            collection_url=collection_url,
            endpoint_uuid=endpoint_uuid,
            function_uuid=function_uuid,
            description=description,
            kwargs=kwargs,
            type_name=type_name,
            no_copy=no_copy,
            policy=policy,
            timer_delay=timer_delay,
            cron=cron,
            tags=tags,
            timezone=timezone,
            retries=retries,
            timeout=timeout,
            output=output,
        )

        def work(tx: Connection) -> Json:
            flow_id = sourcing.create_source(
                self.db, tx, self.owner, wanted, exist_ok=exist_ok
            )
            return sourcing.record(tx, flow_id)

        created: Json = self._write(work, scheduled=True)
        return created

    def list_source_types(self) -> list[Json]:
        """Return the source types, each with its `data_id` and `urls`."""
        with self.db.read() as tx:
            return sourcing.list_types(tx)

    def get_source_type(self, name: str) -> Json:
        """Return the record of the source type of that name."""
        with self.db.read() as tx:
            return sourcing.get_type(tx, name)

    def add_type_url(self, name: str, url: str) -> Json:
        """Give a source type another URL or pattern; return its record.

        Raises:
            NotFoundError: There is no such type.
            ConflictError: Another type has the URL.
        """

        def work(tx: Connection) -> Json:
            sourcing.add_type_url(self.db, tx, name, url)
            return sourcing.get_type(tx, name)

        changed: Json = self._write(work)
        return changed

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
        """Say that an object changed: the flow of its source runs.

        What changed is named by `file_id` (a Data), by `url` or by `key`, as keywords
        or in `body`; see `aero.notice.Notice`.

        Returns:
            The record of the run; that of a no-copy source has ended already.

        Raises:
            NotFoundError: No source has that object.
            ConflictError: Several have, equally well; or the source is paused.
            InvalidValueError: Which object changed, or its etag, cannot be known.
        """
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
        conf = self.settings
        policy = FetchPolicy(
            allow_private_addresses=conf.allow_private_addresses,
            timeout=conf.http_timeout,
            credentials=conf.credentials if conf.credentials.exists() else None,
        )
        run_id = events.notify(self.db, told, agent=self.agent, policy=policy)
        self.engine.wake()
        return self.get_run(run_id)

    # -- runs ---------------------------------------------------------------------

    def run_flow(
        self,
        flow: str,
        wait: bool = True,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Run a flow now; with `wait` return when its runs have ended.

        A run that nothing here may start, since its flow is paused or its endpoint is
        elsewhere, is not waited for.

        Returns:
            The record of the run, of task 0 if it is a sweep; `runs` holds all.

        Raises:
            TimeoutError: The runs did not end within `timeout` seconds.
            ConflictError: Only a notification can say which object to ingest.
        """
        key = triggers.manual_key(idempotency_key or str(uuid.uuid4()))

        def work(tx: Connection) -> list[str]:
            row = self._locked_flow(tx, flow)
            events.refuse_run_now(tx, row)
            rule = flow_queries.rule(row)
            due = [
                Trigger(flow_id=row.id, task=task, key=key, kind="manual")
                for task in range(rule.tasks)
            ]
            return lifecycle.trigger(tx, self.db.now(tx), due, rules={row.id: rule})

        run_ids = self._write(work)
        if wait:
            done = partial(
                run_queries.none_left, run_ids=run_ids, endpoints=self.engine.endpoints
            )
            self.engine.run_until(done, timeout)
        found = [self.get_run(run_id) for run_id in run_ids]
        return {**found[0], "runs": found}

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Run what is due and pending until nothing is.

        What waits for a paused flow or for an endpoint not served here is left.

        Raises:
            TimeoutError: That took longer than `timeout` seconds.
        """
        _ = self.db
        self.engine.run_until_idle(timeout)

    def start(self) -> None:
        """Run scheduler and dispatcher in the background."""
        _ = self.db
        self.engine.start()

    def stop(self) -> None:
        """Stop them; runs that are held are handed back."""
        self.engine.stop()

    def downloads(self) -> list[Json]:
        """Return how far the long downloads of this machine's runs are."""
        return downloads.under_way(self.settings.scratch)

    def cancel_run(self, run: str) -> Json:
        """End a run as CANCELLED; what it does is stopped and never committed."""

        def work(tx: Connection) -> tuple[str, list[str]]:
            row = resolve.run(tx, run)
            lock_rows(tx, Flow, [row.flow_id])
            now = self.db.now(tx)
            cancelled = run_queries.cancel(tx, [row.id], now, "Cancelled by request.")
            if cancelled:
                lifecycle.judge(tx, now, [row.flow_id])
            return row.id, cancelled

        run_id, cancelled = self._write(work)
        self.engine.kill(cancelled)
        return self.get_run(run_id)

    def retry_run(self, run: str) -> Json:
        """Run a failed, cancelled or skipped run again, with the newest inputs."""

        def work(tx: Connection) -> str:
            row = resolve.run(tx, run)
            lock_rows(tx, Flow, [row.flow_id])
            if flow_queries.rules(tx, [row.flow_id]).get(row.flow_id) is None:
                raise NotFoundError(f"The flow of run {row.id} was deleted.")
            row = resolve.run(tx, row.id)
            return lifecycle.retry(tx, self.db.now(tx), row)

        return self.get_run(self._write(work))

    def get_run(self, run: str) -> Json:
        """Return a run's record with its log, traceback, inputs and steps."""
        with self.db.read() as tx:
            return query.run_detail(tx, run)

    def list_runs(
        self, flow: str | None = None, status: str | None = None
    ) -> Iterator[Json]:
        """Yield runs, newest first."""
        flow_id = None
        if flow is not None:
            with self.db.read() as tx:
                flow_id = resolve.flow(tx, flow).id
        return query.pages(self.db, query.runs_page(flow_id, status))

    # -- data and provenance ------------------------------------------------------

    def list_metadata(self, kind: str) -> Iterator[Json]:
        """Yield the records of `data`, `flow` or `prov`, newest first."""
        return query.pages(self.db, query.metadata_page(kind))

    def get_data(self, data: str) -> Json:
        """Return the record of a Data."""
        with self.db.read() as tx:
            return records.data(tx, [resolve.data(tx, data)])[0]

    def list_versions(self, data: str) -> Iterator[Json]:
        """Yield the versions of a Data, newest first."""
        with self.db.read() as tx:
            data_id = resolve.data(tx, data).id
        return query.pages(self.db, query.versions_page(data_id))

    def get_version(self, data: str, version: int | None = None) -> Json:
        """Return the record of one version, by default the newest."""
        with self.db.read() as tx:
            return query.version_detail(tx, data, version)

    def fetch_version(
        self, data: str, path: str | Path, version: int | None = None
    ) -> Json:
        """Write a verified copy of a version's bytes to `path`; return its record.

        Raises:
            NotFoundError: There is no such version, or its bytes are not kept.
            StorageError: The bytes are missing or corrupt.
        """
        record = self.get_version(data, version)
        if record["uri"] is None:
            raise NotFoundError(
                f"Version {record['version']} of {record['name']} is recorded without "
                "its bytes: get it from its source."
            )
        open_storage(self.storage_location).get(record["uri"], Path(path))
        return record

    def get_provenance(self, provenance: str) -> Json:
        """Return the record of a committed run, by its id or the run's."""
        with self.db.read() as tx:
            return query.provenance_detail(tx, provenance)

    def get_data_flows(self, data: str) -> list[Json]:
        """Return the flows that use or make a Data, each with its role."""
        with self.db.read() as tx:
            return query.data_flows(tx, data)

    def search_sources(self, text: str) -> list[Json]:
        """Return the Data in which every word of `text` occurs."""
        words = text.split()
        with self.db.read() as tx:
            return records.data(tx, data_queries.search(tx, words, 100))

    def lineage(
        self, data: str, direction: Direction = "up", depth: int | None = None
    ) -> Lineage:
        """Return the ancestry or the impact of `DATA` or `DATA@VERSION`."""
        with self.db.read() as tx:
            _, version = resolve.version(tx, data)
            return lineage(tx, version, direction, depth)

    def explain(self, flow: str) -> Json:
        """Return why a flow did or did not run."""
        with self.db.read() as tx:
            row = resolve.flow(tx, flow)
            now = self.db.now(tx)
            return explain.explain(tx, row, endpoints=[LOCAL], now=now)

    # -- housekeeping -------------------------------------------------------------

    def gc(self, dry_run: bool = False) -> Json:
        """Free what nothing refers to and prune what is long over; say how much.

        With `dry_run` nothing changes, and the numbers are the same.

        Raises:
            ConflictError: Another gc of this workspace is under way.
        """
        storage = open_storage(self.storage_location)
        return retention.gc(self.db, storage, self.settings, dry_run=dry_run)

    def status(self) -> Json:
        """Return where things are and how they stand; creates nothing.

        See `aero.status.status` for what it holds.
        """
        storage = open_storage(self.storage_location)
        running = self.engine.running
        return status.status(self._db, storage, self.settings, running=running)

    def waiting_note(self) -> str | None:
        """Return what to say when something could run and nobody is there to do it."""
        return status.waiting_note(self._db, running=self.engine.running)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        return str(os.getuid())
