"""The functional API: what scripts and notebooks import.

    from aero.api import register_flow, register_function

Every function works in one workspace, that of the active profile. It is opened when
the first of them is called and closed when Python exits; importing this module opens
and loads nothing. Wherever a Data, a flow or a run is asked for, its id will do, or the
first 8 or more characters of it, or (of a Data or a flow) its name.

Every error is an `aero.ClientError`: one sentence that says what to do instead. Bad
arguments are a ValueError or a TypeError too.
"""

import atexit
import functools
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

from aero.error import (
    ClientError,
    InvalidTypeError,
    InvalidValueError,
    NotFoundError,
)
from aero.types import LOCAL, Json, PolicyEnum

if TYPE_CHECKING:
    from aero.app import Aero
    from aero.client import AeroClient
    from aero.config import ClientConf
    from aero.engine import Listener
    from aero.provenance.graph import Lineage

    Workspace = Aero | AeroClient

__all__ = [
    "add_type_url",
    "cancel_run",
    "client",
    "create_data_source",
    "create_source",
    "delete_data_flows",
    "delete_flow",
    "explain",
    "get_data_flows",
    "get_flow",
    "get_source_type",
    "globus_logout",
    "limits",
    "lineage",
    "list_metadata",
    "list_source_types",
    "list_versions",
    "open_workspace",
    "pause_flow",
    "register_flow",
    "register_function",
    "reset",
    "resume_flow",
    "retry_run",
    "run_flow",
    "run_until_idle",
    "search_sources",
    "set_flow",
    "set_limit",
    "share",
    "source_id",
]

P = ParamSpec("P")
T = TypeVar("T")

PAGE = 15
_STEPS = "from aero.jobs import "


class _Workspace:
    """The one workspace of this process, opened when first asked for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: Workspace | None = None
        self._said: str | None = None

    def get(self) -> "Workspace":
        with self._lock:
            if self._app is None:
                self._app = open_workspace()
                atexit.register(self.close)
            return self._app

    def close(self) -> None:
        with self._lock:
            app, self._app, self._said = self._app, None, None
        if app is not None:
            atexit.unregister(self.close)
            app.close()

    def say(self, note: str | None) -> None:
        """Tell the person once, and again only when there is something new to say."""
        if note is not None and note != self._said:
            self._said = note
            sys.stderr.write(f"{note}\n")


_workspace = _Workspace()


@contextmanager
def _client_errors() -> Iterator[None]:
    try:
        yield
    except ClientError:
        raise
    except TypeError as error:
        raise InvalidTypeError(str(error)) from error
    except ValueError as error:
        raise InvalidValueError(str(error)) from error
    except TimeoutError as error:
        raise ClientError(str(error), code=504) from error
    except Exception as error:  # the API has one kind of error
        raise ClientError(str(error).partition("\n")[0]) from error


def _public(function: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with _client_errors():
            return function(*args, **kwargs)

    return call


@_public
def open_workspace(
    settings: "ClientConf | None" = None, *, listener: "Listener | None" = None
) -> "Workspace":
    """Return a workspace of your own to close, by default that of the active profile.

    It is an `AeroClient` if the profile names a server, else an `Aero`; both have the
    same methods.

    Args:
        settings: The configuration.
        listener: Is told `started` and `ended` of runs executed here, with facts.
    """
    from aero.config import load_conf

    conf = load_conf() if settings is None else settings
    if conf.server_url is not None:
        from aero.auth.globus_login import login_of
        from aero.client import AeroClient

        token = conf.token or login_of(conf)
        return AeroClient(conf.server_url, token=token, timeout=conf.http_timeout)
    from aero.app import Aero

    return Aero(conf, listener=listener)


@_public
def client() -> "Workspace":
    """Return the workspace behind these functions; it is opened at the first call."""
    return _workspace.get()


@_public
def reset() -> None:
    """Close the workspace; the next call opens that of the then active profile."""
    _workspace.close()


# -- functions and flows ----------------------------------------------------------


@_public
def register_function(
    func: Callable[..., Any],
    *,
    endpoint: str | None = None,
    description: str | None = None,
    public: bool = False,
    group: str | None = None,
) -> str:
    """Store an analysis function and return its id; the same source, the same id.

    The function takes each input and each downloaded file by name as a local path,
    takes the flow's kwargs, and returns an `AeroOutput(name, path)`, a list of them, or
    None. It is stored as source text, so it must stand on its own: its imports belong
    inside its body. `@aero_format` makes no difference. Functions of `aero.jobs` are
    registered as they are.

    Args:
        func: A function written with `def`, decorated by `aero_format` or not.
        endpoint: Where it will run; other than "local" it matters once the flow runs
            at Globus Compute.
        description: What it does; default: its docstring.
        public: Share it with everybody.
        group: Share it with a group.

    Raises:
        InvalidValueError: Its source cannot run on its own; it says what to change.
        InvalidTypeError: `func` is no Python function.
        ForbiddenError: It is not your group.
    """
    if endpoint not in {None, LOCAL}:
        warnings.warn(
            "The function is stored on this machine only: endpoint concerns Globus "
            "Compute and was ignored.",
            UserWarning,
            stacklevel=3,
        )
    return client().register_function(
        func, description=description, public=public, group=group
    )


@_public
def register_flow(  # noqa: PLR0917 -- the older client's signature
    endpoint_uuid: str,
    function_uuid: str | None,
    input_data: Mapping[str, Mapping[str, Any]] | None = None,
    output_data: Mapping[str, Mapping[str, Any]] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    config: str | Path | None = None,
    description: str | None = None,
    policy: PolicyEnum | int | str = PolicyEnum.NONE,
    timer_delay: float | None = None,
    pull_function_uuid: str | None = None,
    commit_function_uuid: str | None = None,
    *,
    cron: str | None = None,
    poll_delay: float | None = None,
    timezone: str = "UTC",
    retries: int = 0,
    timeout: float | None = None,
    priority: int = 0,
    max_running: int | None = None,
    tags: tuple[str, ...] | list[str] = (),
    storage: str | None = None,
    public: bool = False,
    group: str | None = None,
    email: str | Sequence[str] | None = None,
    notify: str | Sequence[str] | None = None,
    exist_ok: bool = False,
) -> Json:
    """Store a flow, a standing rule that runs a function, and return its record.

    Args:
        endpoint_uuid: Where it runs: "local" is this machine.
        function_uuid: The id `register_function` returned; None stores each file as it
            was downloaded.
        input_data: The Data the function uses, by the name of its parameter:
            `{"cases": {"id": "<data id>", "version": None}}`. A version number pins the
            input; `"fetch": False` passes `cases_url` instead of a path.
        output_data: The Data it makes, by the name of the `AeroOutput`:
            `{"clean": {}}`, or with a `url` to download from, or with the `id` of
            existing Data that no living flow writes.
        kwargs: Further arguments of the function; what JSON can hold.
        config: The path of a JSON list of kwargs, one run each (a sweep), in place of
            `kwargs`.
        description: What the flow is for.
        policy: When it runs. NONE: when told to. INGESTION: now, then every
            `timer_delay` or by `cron`, downloading first. TIMER: the same without a
            download. ANY, ALL: when any, or every, input has a newer version.
            INGESTION_EVENT: when notified.
        timer_delay: Seconds between two runs; default for INGESTION: a day.
        pull_function_uuid: Taken for older scripts: aero downloads by itself.
        commit_function_uuid: Taken for older scripts: aero commits by itself.
        cron: A POSIX cron line, such as "0 6 * * 1-5".
        poll_delay: With INGESTION_EVENT: seconds between two polls of what is known
            by name, which make a lost notification good; 0: never.
        timezone: The time zone `cron` is meant in.
        retries: How often a function that failed is tried again.
        timeout: Seconds one run may take.
        priority: Of what waits, higher runs first.
        max_running: How many of its runs may run at once, those of a sweep or of
            events; None: any number.
        tags: Words to find the outputs by.
        storage: Where the outputs' bytes live; default: the local store.
        public: Everybody sees the flow and the Data it makes.
        group: The members of this group do; default: nobody but you.
        email: Whom to mail when the flow fails, and when it works again: one address or
            several.
        notify: URLs to tell that: `https://...` is sent a POST of JSON; with the extra
            `notices` also those of chats and other services, as Apprise writes them.
        exist_ok: Return the record of an equal flow instead of refusing the new one.

    Raises:
        InvalidValueError: A value cannot be used; the sentence says what to write.
        NotFoundError: A function, Data or version that it names does not exist.
        DuplicateError: An equal flow is registered; its attribute `flow_id` says which,
            unless it is somebody else's and not shared with you.
        ForbiddenError: An output is Data of somebody else, or the group is not yours.
        ConflictError: The flow would feed itself, or an output has a writer already.
    """
    app = client()
    _warn_of_own_steps(app, pull_function_uuid, commit_function_uuid)
    record = app.register_flow(
        endpoint_uuid,
        function_uuid,
        input_data,
        output_data,
        kwargs,
        config=config,
        description=description,
        policy=policy,
        timer_delay=timer_delay,
        cron=cron,
        poll_delay=poll_delay,
        timezone=timezone,
        retries=retries,
        timeout=timeout,
        priority=priority,
        max_running=max_running,
        tags=tags,
        storage=storage,
        public=public,
        group=group,
        email=email,
        notify=notify,
        exist_ok=exist_ok,
    )
    _workspace.say(app.waiting_note())
    return record


def _warn_of_own_steps(app: "Workspace", *function_ids: str | None) -> None:
    for function_id in filter(None, function_ids):
        try:
            source = app.get_function(function_id)["source"] or ""
        except NotFoundError:
            source = ""
        if not source.startswith(_STEPS):
            warnings.warn(
                f"Function {function_id} is not used: on this machine aero downloads "
                "and commits by itself.",
                UserWarning,
                stacklevel=4,
            )


@_public
def share(
    kind: str, ref: str, *, public: bool = False, group: str | None = None
) -> Json:
    """Say who sees a `data`, `flow` or `function` beside its owner; return its record.

    Args:
        kind: What it is.
        ref: Which one.
        public: Everybody sees it.
        group: The members of this group see it; without both: nobody.
    """
    return client().share(kind, ref, public=public, group=group)


@_public
def run_flow(flow_id: str, wait: bool = True) -> Json:
    """Run a flow now and return the run's record; of a sweep `runs` holds every run.

    Args:
        flow_id: The flow.
        wait: Return when the run has ended; else leave it to `aero work`.
    """
    return client().run_flow(flow_id, wait)


@_public
def run_until_idle(timeout: float | None = None) -> None:
    """Run what is due and pending, in this process, until nothing is.

    What waits for a paused flow or an endpoint that is not served here is left.

    Args:
        timeout: Seconds after which to give up.

    Raises:
        ClientError: That took longer than `timeout`; its `code` is 504.
    """
    client().run_until_idle(timeout)


@_public
def get_flow(flow_id: str, inputs_only: bool = True) -> Json:
    """Return a flow's kwargs with the `aero` payload, or else its whole record."""
    return client().get_flow(flow_id, inputs_only)


@_public
def pause_flow(flow_id: str, reason: str | None = None) -> Json:
    """Stop starting runs of a flow, and return its record; what runs goes on."""
    return client().pause_flow(flow_id, reason)


@_public
def resume_flow(flow_id: str) -> Json:
    """Let a paused flow go on, and return its record."""
    return client().resume_flow(flow_id)


@_public
def set_flow(flow_id: str, **changes: Any) -> Json:
    """Change how a flow's runs are started and whom it tells; return its record.

    What waits follows; what runs goes on.

    Args:
        flow_id: The flow.
        **changes: `priority`: of what waits, higher runs first. `max_running`: how many
            of its runs may run at once, None for any number. `email`, `notify`: whom to
            tell when it fails and when it works again, in place of those told before;
            None for nobody.
    """
    return client().set_flow(flow_id, **changes)


@_public
def set_limit(endpoint: str, max_running: int | None) -> Json:
    """Let at most so many runs of an endpoint run at once; None: any number.

    It holds for all processes that work on this database together.
    """
    return client().set_limit(endpoint, max_running)


@_public
def limits() -> list[Json]:
    """Return the endpoints that have a limit, with what runs and waits there."""
    return client().limits()


@_public
def delete_flow(flow_id: str) -> Json:
    """Delete a flow and return what it was; Data, versions and provenance stay."""
    return client().delete_flow(flow_id)


@_public
def explain(flow_id: str) -> Json:
    """Return why a flow did or did not run; `reason` says it in one sentence."""
    return client().explain(flow_id)


@_public
def cancel_run(run_id: str) -> Json:
    """End a run as CANCELLED and return its record; nothing of it is committed."""
    return client().cancel_run(run_id)


@_public
def retry_run(run_id: str) -> Json:
    """Run a failed, cancelled or skipped run again, with the newest inputs."""
    return client().retry_run(run_id)


# -- data and provenance ----------------------------------------------------------


@_public
def list_metadata(metadata_type: Literal["data", "prov", "flow"]) -> Iterator[Any]:
    """Return a generator of pages: lists of up to 15 records, newest first.

    Args:
        metadata_type: "data", "flow", or "prov" for the records of committed runs.
    """
    return _pages(client().list_metadata(metadata_type))


def _pages(found: Iterator[Json]) -> Iterator[list[Json]]:
    while True:
        with _client_errors():
            page = list(islice(found, PAGE))
        if not page:
            return
        yield page


@_public
def list_versions(data_id: str) -> list[Json]:
    """Return the records of all versions of a Data, newest first."""
    return list(client().list_versions(data_id))


@_public
def search_sources(query: str) -> list[Json]:
    """Return the Data in whose name, description, URL or tags every word occurs."""
    return client().search_sources(query)


@_public
def get_data_flows(data_id: str) -> list[Json]:
    """Return the flows that use or make a Data.

    Each entry has `flow_id`, `role` ("ingestion" makes it, "analysis" uses it, or
    "both"), `policy`, `description` and more.
    """
    return client().get_data_flows(data_id)


@_public
def delete_data_flows(data_id: str) -> list[Json]:
    """Delete every flow that uses or makes a Data; return what they were.

    The Data, its versions and their provenance stay.
    """
    return client().delete_data_flows(data_id)


@_public
def lineage(
    data: str, direction: Literal["up", "down"] = "up", depth: int | None = None
) -> "Lineage":
    """Return where a version came from, or what was made from it.

    Args:
        data: A Data, or one version of it as `DATA@VERSION`; default: the newest.
        direction: "up" for its ancestry, "down" for its impact.
        depth: How many steps at most; None for all.

    Returns:
        A graph of versions; its `record()` is JSON.
    """
    return client().lineage(data, direction, depth)


# -- sources ----------------------------------------------------------------------


@_public
def create_source(  # noqa: PLR0917 -- the older client's signature
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
    timezone: str = "UTC",
    retries: int = 0,
    timeout: float | None = None,
    priority: int = 0,
    max_running: int | None = None,
    tags: tuple[str, ...] | list[str] = (),
    output: str | None = None,
    public: bool = False,
    group: str | None = None,
    email: str | Sequence[str] | None = None,
    notify: str | Sequence[str] | None = None,
    exist_ok: bool = False,
) -> Json:
    """Create a source: Data that is downloaded from a URL.

    Args:
        name: Its name, and the parameter's if a function cleans it.
        url: Where it is published.
        collection_uuid: The Globus collection to store it in.
        collection_url: That collection's HTTPS address.
        endpoint_uuid: Where it is downloaded; default: this machine.
        function_uuid: What cleans each download; None stores it as downloaded.
        description: What it is.
        kwargs: Further arguments of the function.
        type_name: The type to group it under: several URLs or patterns, one Data.
        no_copy: Record versions and store no bytes.
        policy: INGESTION_EVENT (when notified) or INGESTION (on a schedule).
        timer_delay: Seconds between two downloads, with INGESTION only.
        cron: A POSIX cron line in place of that.
        poll_delay: With INGESTION_EVENT: seconds between two polls of what is known
            by name, which make a lost notification good; 0: never.
        timezone: The time zone `cron` is meant in.
        retries: How often a function that failed is tried again.
        timeout: Seconds one run may take.
        priority: Of what waits, higher runs first.
        max_running: How many of its runs may run at once, one for each object; None:
            any number.
        tags: Words to find it by.
        output: What the function calls its parameter and its `AeroOutput`; default:
            `name`.
        public: Everybody sees the Data and its flow.
        group: The members of this group do; default: nobody but you.
        email: Whom to mail when its flow fails, and when it works again.
        notify: URLs to tell that; see `register_flow`.
        exist_ok: Return the record of an equal source instead of refusing a new one.

    Returns:
        The record of the Data, whose id `source_id` returns, with the `flow_id` that
        ingests it and `input_data`, to paste into a flow that reads it.

    Raises:
        InvalidValueError: Another policy; a timer without INGESTION; no-copy with a
            timer, INGESTION or kwargs.
    """
    app = client()
    record = app.create_source(
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
        timezone=timezone,
        retries=retries,
        timeout=timeout,
        priority=priority,
        max_running=max_running,
        tags=tags,
        output=output,
        public=public,
        group=group,
        email=email,
        notify=notify,
        exist_ok=exist_ok,
    )
    _workspace.say(app.waiting_note())
    return record


create_data_source = create_source


@_public
def list_source_types() -> list[Json]:
    """Return the records of all source types, each with its `data_id` and `urls`."""
    return list(client().list_source_types())


@_public
def get_source_type(name: str) -> Json | None:
    """Return the record of a source type, or None if there is none of that name."""
    try:
        return client().get_source_type(name)
    except NotFoundError:
        return None


@_public
def add_type_url(name: str, url: str) -> Json:
    """Add a URL or a pattern of URLs to a source type, and return its record."""
    return client().add_type_url(name, url)


@_public
def source_id(result: Mapping[str, Any]) -> str | None:
    """Return the Data id in a record of a source, a flow that makes it, or a type."""
    made = result.get("contributed_to")
    if made is not None:
        data_id: str | None = made[0].get("id") if made else None
        return data_id
    found = result.get("data_id", result.get("id"))
    return None if found is None else str(found)


@_public
def globus_logout() -> Path | None:
    """Forget the Globus tokens of this profile.

    Returns:
        The token file that was removed, or None if nobody was logged in.
    """
    from aero.config import load_conf

    conf = load_conf()
    path = conf.aero_dir / conf.token_file
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    return path
