"""`Aero`: the composition root, one thin method per use case."""

import getpass
import os
import socket
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from sqlalchemy import Connection

from aero import (
    events,
    flow_request,
    limits,
    query,
    registration,
    retention,
    run_requests,
    sharing,
    sourcing,
    standing,
    status,
    triggers,
)
from aero.acting import Change
from aero.chaining import Chaining
from aero.clock import Clock, utc_now
from aero.config import ClientConf, load_conf, refuse_network_filesystem
from aero.db import schema
from aero.db.queries import runs as run_queries
from aero.db.queries import versions as version_queries
from aero.db.session import Database
from aero.doctor import Diagnosis
from aero.engine import Engine, Listener
from aero.error import CorruptObjectError, MissingObjectError, NotFoundError
from aero.function_source import PlainSource, plain_source
from aero.groups import GroupKeeping
from aero.looking import Looking
from aero.notice import notice
from aero.sources import FetchPolicy
from aero.storage import local_location, open_storage
from aero.tokens import TokenKeeping
from aero.types import Json, PolicyEnum, Sharing, Tell


class Aero(TokenKeeping, GroupKeeping, Looking, Chaining):
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
        self,
        work: Callable[[Connection], Any],
        *,
        scheduled: bool = False,
        command: Change | None = None,
    ) -> Any:
        result = self.db.write(self._logged(work, command))
        self.engine.wake(scheduled=scheduled)
        return result

    # -- functions and flows ------------------------------------------------------

    def register_function(
        self,
        func: Callable[..., Any],
        *,
        description: str | None = None,
        public: bool = False,
        group: str | None = None,
    ) -> str:
        """Store a function's plain source and return its id.

        The same source gives the same id.

        Args:
            func: The function.
            description: What it does; default: its docstring.
            public: Everybody sees it.
            group: The members of this group see it.

        Raises:
            InvalidValueError: The source cannot run on its own; it says what to write.
            InvalidTypeError: `func` is no Python function.
            ForbiddenError: It is not your group.
        """
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
        """Store a plain source, made here or elsewhere, and return its id."""
        shared = Sharing.of(public, group)
        return str(
            self._write(
                lambda tx: registration.register_function(
                    self.db,
                    tx,
                    self.owner,
                    source,
                    description=description,
                    sharing=shared,
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
        idempotency_key: str | None = None,
        **options: Any,
    ) -> Json:
        """Store a flow and return its record; see `aero.api.register_flow`."""
        request = flow_request.flow_request(
            endpoint_uuid, function_uuid, input_data, output_data, kwargs, **options
        )
        request = request.polled(self.settings.poll_delay)
        return self._register(request, idempotency_key, exist_ok=exist_ok)

    def _register(
        self,
        request: flow_request.FlowRequest,
        idempotency_key: str | None = None,
        *,
        exist_ok: bool,
    ) -> Json:
        self._check_targets(request.notify)
        flow_id = self._new_id(idempotency_key)
        registered = self._write(
            lambda tx: registration.register_flow(
                self.db, tx, self.owner, request, flow_id=flow_id, exist_ok=exist_ok
            ),
            scheduled=True,
        )
        return self.get_flow(registered, inputs_only=False)

    def pause_flow(self, flow: str, reason: str | None = None) -> Json:
        """Stop ticks, judging and claims of a flow; what runs goes on."""
        paused = self._write(lambda tx: standing.pause(self.db, tx, flow, reason))
        return self.get_flow(paused, inputs_only=False)

    def resume_flow(self, flow: str) -> Json:
        """Let a paused flow go on, and judge it."""
        resumed = self._write(
            lambda tx: standing.resume(self.db, tx, flow), scheduled=True
        )
        return self.get_flow(resumed, inputs_only=False)

    def set_flow(self, flow: str, **changes: Any) -> Json:
        """Change a flow's `priority`, `max_running`, `email` or `notify`.

        What waits follows; what runs goes on. See `aero.standing.set_flow`.

        Returns:
            Its record.
        """
        self._check_targets(flow_request.new_targets(changes))
        changed = self._write(lambda tx: standing.set_flow(self.db, tx, flow, changes))
        return self.get_flow(changed, inputs_only=False)

    def set_limit(self, endpoint: str, max_running: int | None) -> Json:
        """Let at most so many runs of an endpoint run at once, or any number."""
        changed: Json = self._write(
            lambda tx: limits.set_limit(tx, endpoint, max_running)
        )
        return changed

    def limits(self) -> list[Json]:
        """Return the endpoints with a limit, with what runs and waits there."""
        return self.db.look(limits.listed)

    def delete_flow(self, flow: str) -> Json:
        """Mark a flow deleted and cancel its runs; its versions and records stay."""
        record = self._flow_record(flow)
        self._delete([record["id"]])
        return record

    def delete_data_flows(self, data: str) -> list[Json]:
        """Delete every flow that uses or makes a Data, or none; return what they were.

        Raises:
            NotFoundError: There is no such Data.
            ForbiddenError: One of the flows belongs to somebody else.
        """
        entries = self.db.look(lambda tx: query.flows_to_delete(tx, data))
        self._delete([entry["flow_id"] for entry in entries])
        # Established clients read how many records went: here they all stay.
        return [{**entry, "provenance_deleted": 0} for entry in entries]

    def _delete(self, flow_ids: list[str]) -> None:
        _, killed = self._write(
            lambda tx: (flow_ids, standing.delete(self.db, tx, flow_ids))
        )
        self.engine.kill(killed)

    def share(
        self, kind: str, ref: str, *, public: bool = False, group: str | None = None
    ) -> Json:
        """Say who sees a thing beside its owner, and return its record.

        Versions are seen with their Data, runs and their records with their flow; but
        sharing a flow does not share its Data and its function, nor they it.

        Args:
            kind: `data`, `flow` or `function`.
            ref: Which one.
            public: Everybody.
            group: The members of this group; without both: nobody.

        Raises:
            NotFoundError: There is no such thing.
            ForbiddenError: It belongs to somebody else, or the group is one of others.
        """
        shared = Sharing.of(public, group)
        about = {"visibility": shared.visibility.value, "group": shared.group}
        changed: Json = self._write(
            sharing.Share(kind, ref, shared),
            command=Change(what=f"share {kind}", about=about),
        )
        return changed

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
            poll_delay: Seconds between two polls of an event source, which make a
                lost notification good; 0: never; None: as configured.
            tags: Words that the Data is found by.
            timezone: That `cron` is read in.
            exist_ok: Return an equal source instead of refusing to make another.
            retries: How often the function is tried again.
            timeout: Of the function, in seconds.
            priority: Of what waits, higher runs first.
            max_running: How many of its runs may run at once, one for each object.
            output: What the function calls its parameter and its `AeroOutput`; default:
                `name`.
            public: Everybody sees the Data and its flow.
            group: The members of this group do.
            email: Whom to mail when its flow fails, and when it works again.
            notify: URLs to tell that; see `aero.api.register_flow`.
            idempotency_key: Repeated with the same key, the source is made once.

        Returns:
            The record of the Data with `flow_id`, `type_name`, `policy` and more of
            its flow, and `input_data`, to paste into a flow that reads it.

        Raises:
            InvalidValueError: A value cannot be used, or two exclude each other.
            ConflictError: The type exists, or another one has the URL.
            DuplicateError: There is an equal source; `flow_id` says which.
            NotFoundError: There is no such function.
            ForbiddenError: It is not your group.
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
            poll_delay=poll_delay,
            polled_every=self.settings.poll_delay,
            tags=tags,
            timezone=timezone,
            retries=retries,
            timeout=timeout,
            priority=priority,
            max_running=max_running,
            output=output,
            public=public,
            group=group,
            email=email,
            notify=notify,
        )
        return self._create_source(wanted, idempotency_key, exist_ok=exist_ok)

    def _create_source(
        self,
        wanted: sourcing.SourceRequest,
        idempotency_key: str | None,
        *,
        exist_ok: bool,
    ) -> Json:
        self._check_targets(wanted.flow.notify)
        new = self._new_id(idempotency_key)

        def work(tx: Connection) -> Json:
            flow_id = sourcing.create_source(
                self.db, tx, self.owner, wanted, flow_id=new, exist_ok=exist_ok
            )
            return sourcing.record(tx, flow_id)

        created: Json = self._write(work, scheduled=True)
        return created

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
        if told.delivery_id is not None:
            told = replace(told, delivery_id=self._own_key(told.delivery_id))
        conf = self.settings
        policy = FetchPolicy(
            allow_private_addresses=conf.private_allowed,
            timeout=conf.http_timeout,
            credentials=conf.credentials if conf.credentials.exists() else None,
        )
        run_id = events.notify(
            self.db, told, agent=self.agent, policy=policy, write=self._write
        )
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
        key = triggers.manual_key(self._own_key(idempotency_key))
        run_ids = self._write(lambda tx: run_requests.run_now(self.db, tx, flow, key))
        if wait:
            done = partial(
                run_queries.none_left, run_ids=run_ids, endpoints=self.engine.endpoints
            )
            self.engine.run_until(done, timeout)
        found = [self.get_run(run_id) for run_id in run_ids]
        return {**found[0], "runs": found}

    def _own_key(self, idempotency_key: str | None) -> str:
        """Return a key that only whoever asks can have meant."""
        if idempotency_key is None or self.identity is None:
            return idempotency_key or str(uuid.uuid4())
        return self._new_id(idempotency_key)

    def run_until_idle(self, timeout: float | None = None) -> None:
        """Run what is due and pending until nothing is.

        What waits for a paused flow or for an endpoint not served here is left.

        Raises:
            TimeoutError: That took longer than `timeout` seconds.
        """
        _ = self.db
        self.engine.run_until_idle(timeout)

    def idle(self) -> bool:
        """Whether nothing is due, running, or waiting to be run here."""
        return self.engine.idle(self.db)

    def start(self) -> None:
        """Run scheduler and dispatcher in the background."""
        _ = self.db
        self.engine.start()

    def stop(
        self, grace: float = 0.0, *, hurry: Callable[[], bool] | None = None
    ) -> None:
        """Stop them: what runs may end, what has not then is handed back.

        What is handed back waits again as if it had not been started: another process
        takes it at once, and no retry is spent.

        Args:
            grace: The seconds that what runs has to end and to be committed.
            hurry: Asked meanwhile, ten times a second; true ends the grace.
        """
        self.engine.stop(grace, hurry=hurry)

    def cancel_run(self, run: str) -> Json:
        """End a run as CANCELLED; what it does is stopped and never committed."""
        run_id, cancelled = self._write(
            lambda tx: run_requests.cancel(self.db, tx, run)
        )
        self.engine.kill(cancelled)
        return self.get_run(run_id)

    def retry_run(self, run: str) -> Json:
        """Run a failed, cancelled or skipped run again, with the newest inputs."""
        return self.get_run(self._write(run_requests.Retry(self.db, run)))

    # -- the bytes of versions ----------------------------------------------------

    def fetch_version(
        self, data: str, path: str | Path, version: int | None = None
    ) -> Json:
        """Write a verified copy of a version's bytes to `path`; return its record.

        Raises:
            NotFoundError: There is no such version, or its bytes are not kept.
            StorageError: The bytes are missing or corrupt; if they came from a source,
                its next poll brings them again.
        """
        record = self.get_version(data, version)
        uri = _kept(record)
        try:
            open_storage(self.storage_location).get(uri, Path(path))
        except (CorruptObjectError, MissingObjectError):
            self.distrust_version(record)
            raise
        return record

    def open_version(self, version: Json) -> BinaryIO:
        """Return the bytes of a version, given its record, as a file to close.

        Raises:
            NotFoundError: Its bytes are not kept.
            StorageError: They are missing.
        """
        uri = _kept(version)
        try:
            return open_storage(self.storage_location).open(uri)
        except MissingObjectError:
            self.distrust_version(version)
            raise

    def distrust_version(self, version: Json) -> None:
        """Let the next poll of a version's source bring its bytes again."""
        self._write(lambda tx: version_queries.distrust(tx, [version["data_id"]]))

    # -- housekeeping -------------------------------------------------------------

    def gc(self, dry_run: bool = False) -> Json:
        """Free what nothing refers to and prune what is long over; say how much.

        With `dry_run` nothing changes, and the numbers are the same.

        Raises:
            ConflictError: Another gc of this workspace is under way.
        """
        storage = open_storage(self.storage_location)
        if self._change is not None and not dry_run:
            self._write(lambda _: None)
        return retention.gc(self.db, storage, self.settings, dry_run=dry_run)

    def doctor(self, *, hashing: bool = True, tell: Tell | None = None) -> Diagnosis:
        """Return an examination of the workspace, which begins as it is iterated over.

        It yields what is wrong and changes nothing; see `aero.doctor.Diagnosis`.

        Args:
            hashing: Whether to read all that is stored, and compare its SHA-256.
            tell: Told how far it is.
        """
        conf = self.settings
        return Diagnosis(
            self._db,
            open_storage(self.storage_location),
            conf.scratch,
            kept=timedelta(days=conf.retention_days),
            hashing=hashing,
            tell=tell,
        )

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


def _kept(version: Json) -> str:
    if version["uri"] is None:
        raise NotFoundError(
            f"Version {version['version']} of {version['name']} is recorded without "
            "its bytes: get it from its source."
        )
    return str(version["uri"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container a user may have no name
        return str(os.getuid())
