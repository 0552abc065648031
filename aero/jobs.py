"""The steps a flow is chained from, as they run on a worker."""

import linecache
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from aero import secret
from aero.clock import isoformat, utc_now
from aero.downloads import Progress
from aero.environment import environment
from aero.error import InvalidValueError, SourceError
from aero.failure import USER_MODULE, failure
from aero.formatting import (
    accepted,
    aero_format,
    described,
    measured,
    own_directory,
    plain,
    private_directory,
    run,
    stage,
    storage_of,
    unchanged,
)
from aero.types import AeroOutput, Fetched, Json, NotModified, Step, Validators

__all__ = [
    "commit_analysis",
    "database_commit",
    "download",
    "get_versions",
    "run_task",
    "stage",
]

_GONE = {404, 410}


def download(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], Json]:
    """Download each output entry that has a url, and store it.

    The entry gets the facts of the download, or `not_modified: True` if the source
    says so or its bytes have the SHA-256 `raw_sha256`. A flow of several sources is
    downloaded whole as soon as one of them changed, because its function takes all.

    Args:
        *args: Handed through.
        **kwargs: The flow's kwargs, handed through, and `aero`, the payload; its
            `fetch`, if any, is the policy of the download.

    Returns:
        `args` and `kwargs` with the payload completed, for the next step.

    Raises:
        SourceError: The source's answer is final and is not the data.
        SourceUnavailableError: The source could not be reached.
        StorageError: The bytes could not be stored.
    """
    payload = accepted(kwargs.get("aero"))
    with (
        private_directory() as directory,
        measured(Step.DOWNLOAD, kwargs, payload),
    ):
        _download(payload, payload.get("fetch") or {}, directory, whole=True)
    return args, {**kwargs, "aero": payload}


def get_versions(*function_params: Json) -> list[Json]:
    """Pin the inputs of flows, for an engine that chains their steps itself.

    Args:
        *function_params: Of each flow its keyword arguments, or a dict with these
            under `kwargs`; `aero` in them is the payload.

    Returns:
        The same with each payload completed: the versions that the run was given, or
        that the payload names, or the newest, and where bytes are kept.

    Raises:
        ClientError: The payload is not that of a flow, or an input has no version.
    """
    return [_pinned(params) for params in function_params]


def database_commit(*args: Any, **kwargs: Any) -> Json:  # noqa: ARG001 -- of a chain
    """Commit what the steps brought back, for an engine that chains them itself.

    Sent again, it counts once.

    Args:
        *args: What `download` handed through; not used.
        **kwargs: What the last step returned; `aero` is the payload. With `metrics`
            the answer has `database_commit`: when it began and ended, in ns.

    Returns:
        The record of provenance, or that of the run if it left none.

    Raises:
        ClientError: It was refused; nothing was stored.
    """
    return _committed(kwargs, "database_commit")


def commit_analysis(*arglist: Json) -> list[Json]:
    """Commit what several runs brought back, each as `database_commit` does.

    Args:
        *arglist: Of each run what its last step returned. With `metrics` its answer
            has `commit_analysis`: when that began and ended, in ns.

    Returns:
        The record of each.

    Raises:
        ClientError: One was refused; those before it are committed.
    """
    return [_committed(kwargs, "commit_analysis") for kwargs in arglist]


def _pinned(params: Json) -> Json:
    kwargs = params.get("kwargs", params)
    noted: Json = {}
    with measured(Step.GET_VERSIONS, kwargs, noted):
        payload = _workspace().pin_inputs(accepted(kwargs.get("aero")))
    if noted:
        payload["metrics"] = {**payload.get("metrics", {}), **noted["metrics"]}
    done = {**kwargs, "aero": payload}
    return done if kwargs is params else {**params, "kwargs": done}


def _committed(kwargs: Json, name: str) -> Json:
    noted: Json = {}
    with measured(Step.COMMIT, kwargs, noted):
        record: Json = _workspace().commit_result(accepted(kwargs.get("aero")))
    return {**record, name: noted["metrics"][Step.COMMIT]} if noted else record


def _workspace() -> Any:
    """Return the workspace of the active profile, on a server or embedded.

    Its layer is above this one, and no worker of ours gets here: looked up when asked
    for, it costs them nothing.
    """
    return import_module("aero.api").client()


def run_task(task: Json) -> Json:
    """Run the consecutive steps of a run that share an endpoint, and report.

    Args:
        task: `aero` (the payload), `kwargs` (secrets as references), `workdir` (a
            private directory, which is the working directory), `download` (whether
            to), `fetch` (the policy of that), and `source` and `name` of the
            function, or None for what is stored as downloaded.

    Returns:
        `aero` (the payload as far as it was completed), `unchanged` (no source
        changed, so the function was not run), `steps`, `environment`, and `error`:
        None, or `type`, `message`, `traceback` and whose `fault` it is: `function`,
        `source`, `unavailable` or `storage`. All of it is JSON.
    """
    result: Json = {
        "aero": task["aero"],
        "unchanged": False,
        "steps": [],
        "environment": {},
        "error": None,
    }
    file_name = _file_name(task.get("name"))
    known: dict[str, str] = {}
    process = os.getpid()
    try:
        known = secret.values(secret.names(task.get("kwargs")))
        _run_steps(task, result)
    except BaseException as error:  # the boundary that records what a function did
        step = result["steps"][-1]["name"] if result["steps"] else None
        recorded = failure(error, file_name, step=step, secrets=known)
        # A child that the function forked ends as it wants to: its parent reports.
        if recorded is None or os.getpid() != process:
            raise
        result["error"] = recorded
    result["environment"] = environment()
    return result


def _run_steps(task: Json, result: Json) -> None:
    kwargs, directory = task.get("kwargs") or {}, Path(task["workdir"])
    source = task.get("source")
    payload = result["aero"] = accepted(task["aero"])
    if task.get("download"):
        with (
            _step(result["steps"], Step.DOWNLOAD) as step,
            measured(Step.DOWNLOAD, kwargs, payload),
        ):
            policy = task.get("fetch") or {}
            whole = source is not None
            step["bytes"] = _download(payload, policy, directory, whole=whole)
    result["unchanged"] = unchanged(payload)
    if source is not None and not result["unchanged"]:
        with (
            _step(result["steps"], Step.FUNCTION),
            _loaded(source, task["name"]) as fn,
        ):
            result["aero"] = run(plain(fn), kwargs, payload, directory)


@contextmanager
def _step(steps: list[Json], name: Step) -> Iterator[Json]:
    step: Json = {
        "name": name.value,
        "status": "FAILED",
        "started_at": isoformat(utc_now()),
    }
    steps.append(step)
    began = time.perf_counter()
    try:
        yield step
        step["status"] = "SUCCEEDED"
    finally:
        step["seconds"] = time.perf_counter() - began
        step["finished_at"] = isoformat(utc_now())


def _download(payload: Json, policy: Json, directory: Path, *, whole: bool) -> int:
    """Poll every source, store what changed, and return the bytes downloaded.

    With `whole`, a source that did not change is stored too if another one did.
    """
    entries = {
        name: entry
        for name, entry in payload["output_data"].items()
        if entry.get("url") and not _tracked(name, entry, policy)
    }
    answers = {
        name: _fetch(name, entry, policy, directory, _validators(entry))
        for name, entry in entries.items()
    }
    same = {name for name in entries if _is_same(entries[name], answers[name])}
    if whole and same != entries.keys():
        for name in same:
            if isinstance(answers[name], NotModified):
                answers[name] = _fetch(name, entries[name], policy, directory, None)
        same = set()
    for name, entry in entries.items():
        _note(name, entry, answers[name], same=name in same)
    return sum(each.size for each in answers.values() if isinstance(each, Fetched))


def _fetch(
    name: str,
    entry: Json,
    policy: Json,
    directory: Path,
    previous: Validators | None,
) -> Fetched | NotModified:
    from aero.sources import FetchPolicy, fetch

    folder = own_directory(directory, name)
    progress = Progress(folder, entry["url"])
    try:
        return fetch(
            entry["url"],
            folder / "download",
            previous=previous,
            policy=FetchPolicy.from_json(policy),
            progress=progress,
        )
    except SourceError as error:
        if not _may_be_gone(entry, error):
            raise
        return NotModified(
            url=entry["url"], etag=None, last_modified=None, retrieved_at=utc_now()
        )
    finally:
        progress.done()


def _tracked(name: str, entry: Json, policy: Json) -> bool:
    """Ask an object whose bytes are not kept for its etag, if it is such a one."""
    if not entry.get("no_copy"):
        return False
    from aero.sources.headers import bare_etag

    told = _asked(name, entry, policy)
    if told is None or bare_etag(told["etag"]) == bare_etag(entry.get("etag")):
        entry["not_modified"] = True
    entry.update(told or {})
    return True


def _asked(name: str, entry: Json, policy: Json) -> Json | None:
    """Return what an object says of itself; None if it is gone, and may be."""
    from aero.sources import FetchPolicy, head
    from aero.sources.headers import named_like

    url = entry["url"]
    try:
        answer = head(url, FetchPolicy.from_json(policy))
    except SourceError as error:
        if not _may_be_gone(entry, error):
            raise
        return None
    if answer.etag is None:
        raise SourceError(
            f"{url} gave no etag when asked, and without one a source that keeps no "
            "bytes cannot be polled: notify it, or keep its bytes.",
            url=url,
        )
    path = unquote(urlsplit(url).path)
    return {"etag": answer.etag, "size": answer.size, **named_like(path, name)}


def _may_be_gone(entry: Json, error: SourceError) -> bool:
    """Whether a poll found an object gone, of which the versions stay."""
    return bool(entry.get("may_be_gone")) and error.facts.get("status") in _GONE


def _validators(entry: Json) -> Validators | None:
    etag, last_modified = entry.get("etag"), entry.get("last_modified")
    if not etag and not last_modified:
        return None
    return Validators(etag=etag, last_modified=last_modified)


def _is_same(entry: Json, answer: Fetched | NotModified) -> bool:
    return isinstance(answer, NotModified) or (answer.sha256 == entry.get("raw_sha256"))


def _note(name: str, entry: Json, answer: Fetched | NotModified, *, same: bool) -> None:
    if isinstance(answer, NotModified):
        entry["not_modified"] = True
        return
    entry.update(etag=answer.etag, last_modified=answer.last_modified)
    if same:
        # The same bytes under new validators, which the next poll is to send.
        entry.update(not_modified=True, retrieved_at=isoformat(answer.retrieved_at))
        return
    stored = storage_of(name, entry).put(answer.path, sha256=answer.sha256, move=True)
    entry.update(
        described(answer.path, stored),
        file_bn=answer.file_name,
        file_format=PurePosixPath(answer.file_name).suffix.removeprefix("."),
        final_url=answer.final_url,
        encoding=answer.encoding,
        media_type=answer.media_type,
        retrieved_at=isoformat(answer.retrieved_at),
    )


@contextmanager
def _loaded(source: str, name: str) -> Iterator[Callable[..., Any]]:
    """Yield the function `name` of `source`, in a module that no other run has seen.

    The module can be imported meanwhile: dataclasses and type checkers look up the
    module of a class that the function defines.
    """
    file_name = _file_name(name)
    code = _compiled(source, file_name)
    lines = source.splitlines(keepends=True)
    linecache.cache[file_name] = (len(source), None, lines, file_name)
    module = ModuleType(f"{USER_MODULE}{name}")
    module.__dict__.update(
        __file__=file_name, AeroOutput=AeroOutput, aero_format=aero_format
    )
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - to run it is what a worker is for
        yield _named(module, name)
    finally:
        sys.modules.pop(module.__name__, None)


def _named(module: ModuleType, name: str) -> Callable[..., Any]:
    fn = getattr(module, name, None)
    if not callable(fn):
        raise InvalidValueError(
            f"The source defines no function {name}: register the function again.",
            name=name,
        )
    found: Callable[..., Any] = fn
    return found


@lru_cache(maxsize=256)
def _compiled(source: str, file_name: str) -> Any:
    return compile(source, file_name, "exec", dont_inherit=True)


def _file_name(name: str | None) -> str:
    return f"<aero function {name}>"
