"""The worker-side wrapper: files in by name, `AeroOutput` out, the payload completed.

One call of a wrapped function asks: does the signature fit what the flow has? Then
come the bytes in, the call, a look at what was returned, and the bytes out.
Nothing here knows a database or a server.
"""

import copy
import functools
import inspect
import mimetypes
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from aero import contract, secret
from aero.clock import isoformat, utc_now
from aero.error import InvalidTypeError, InvalidValueError, StorageError
from aero.types import PAYLOAD_SCHEMA, Json, Step, StoredObject

if TYPE_CHECKING:
    from aero.storage import Storage

_MARK = "__aero_format__"
_NAME_LIMIT = 200
# What is the download's own moves to `raw`; url and validators stay as well, since the
# next poll asks with them.
_ONLY_RAW = ("final_url", "retrieved_at")
_RAW = (
    *("url", "final_url", "etag", "last_modified", "sha256", "size", "uri"),
    *("retrieved_at", "media_type", "encoding"),
)
_COMPRESSED = {
    "gzip": "application/gzip",
    "bzip2": "application/x-bzip2",
    "xz": "application/x-xz",
}
_UNKNOWN = "application/octet-stream"


def aero_format(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap an analysis function so that a flow can run it.

    Called as before, the wrapped function is `fn`: same arguments, same result.
    Called with the keyword `aero`, the payload of a run, it works for that flow: `fn`
    receives each input and each downloaded file by name as a local path, and its other
    keyword arguments; the `AeroOutput`s it returns are stored; and the keyword
    arguments come back with the payload completed. Wrapping twice is harmless.

    Args:
        fn: A function that returns an `AeroOutput`, a list of them, or None.

    Returns:
        The wrapper; `fn` is its `__wrapped__`.

    Raises:
        InvalidTypeError: `fn` cannot be called.
    """
    if is_wrapped(fn):
        return fn
    if not callable(fn):
        raise InvalidTypeError(
            f"aero_format was given a {type(fn).__name__}: give it a function."
        )

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if "aero" not in kwargs:
            return fn(*args, **kwargs)
        if args:
            raise InvalidTypeError(
                f"{contract.title(fn)} was called with a payload and positional "
                "arguments: pass everything by keyword."
            )
        payload = kwargs.pop("aero")
        with private_directory() as directory, chdir(directory):
            return {**kwargs, "aero": run(fn, kwargs, payload, directory)}

    setattr(wrapper, _MARK, fn)
    return wrapper


def is_wrapped(fn: Any) -> bool:
    """Whether `fn` itself is what `aero_format` returned."""
    marked = getattr(fn, _MARK, None)
    return marked is not None and marked is getattr(fn, "__wrapped__", None)


def plain(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain function inside a wrapped one, or `fn` if it is plain."""
    inner: Callable[..., Any] = getattr(fn, _MARK) if is_wrapped(fn) else fn
    return inner


@contextmanager
def private_directory() -> Iterator[Path]:
    """Yield a new directory of this process alone; it is removed in any case."""
    with tempfile.TemporaryDirectory(prefix="aero-") as name:
        yield Path(name).resolve()


def run(fn: Callable[..., Any], kwargs: Json, payload: Json, directory: Path) -> Json:
    """Run the plain function `fn` for a flow and return its payload completed.

    Nothing that is passed in is changed. A poll that found nothing new (see
    `unchanged`) comes back as it is, without a call.

    Args:
        fn: The plain function.
        kwargs: The flow's kwargs; secrets are references.
        payload: The `aero` payload of the run.
        directory: A private directory that lives as long as the call; an absolute path.

    Raises:
        InvalidTypeError: The signature does not fit, or what `fn` returned is no
            output.
        InvalidValueError: The payload's schema is unknown, an input has no url or no
            bytes, a secret is missing, or the outputs are not the declared ones.
        StorageError: Bytes could not be read or stored.
    """
    payload = accepted(payload)
    if unchanged(payload):
        return payload
    signature = inspect.signature(fn)
    with measured(Step.FUNCTION, kwargs, payload):
        arguments = contract.offered(signature, kwargs, payload)
        contract.check_signature(fn, signature, arguments)
        arguments.update(stage(payload, directory))
        returned = _call(fn, signature, secret.resolve(arguments))
        _store(fn, contract.checked(fn, returned, payload), payload)
    return payload


def accepted(payload: Any) -> Json:
    """Return a deep copy of `payload`, if this version of aero understands it.

    Raises:
        InvalidTypeError: It is no dict.
        InvalidValueError: It is of a schema that is unknown here.
    """
    if not isinstance(payload, dict):
        raise InvalidTypeError(
            f"The payload is a {type(payload).__name__}: pass aero={{...}}, a dict."
        )
    schema = payload.get("schema", 0)
    if schema not in range(PAYLOAD_SCHEMA + 1):
        raise InvalidValueError(
            f"The payload is of schema {schema} and this worker reads schema "
            f"{PAYLOAD_SCHEMA}: install the same version of aero on both sides.",
            schema=schema,
            understood=PAYLOAD_SCHEMA,
        )
    own: Json = copy.deepcopy(payload)
    for side in ("input_data", "output_data"):
        own[side] = own.get(side) or {}
    return own


def unchanged(payload: Json) -> bool:
    """Whether the download step found every source of the flow as it was."""
    sources = [entry for entry in payload["output_data"].values() if entry.get("url")]
    return bool(sources) and all(entry.get("not_modified") for entry in sources)


@contextmanager
def measured(step: Step, kwargs: Json, payload: Json) -> Iterator[None]:
    """Note when a step began and ended (ns) if the kwarg `metrics` asks for it."""
    started, counter = utc_now(), time.perf_counter_ns()
    yield
    if kwargs.get("metrics") is True:
        duration = time.perf_counter_ns() - counter
        begin = round(started.timestamp() * 1_000_000) * 1_000
        payload.setdefault("metrics", {})[step.value] = {
            "task_start": begin,
            "task_end": begin + duration,
            "duration": duration,
        }


def stage(payload: Json, directory: Path) -> dict[str, str]:
    """Fetch a payload's inputs and downloaded files into a private directory.

    Args:
        payload: Its inputs (unless opted out by `"fetch": false`) and those outputs
            that the download step stored are fetched.
        directory: Where to put them, each into a directory of its own.

    Returns:
        name -> absolute path of a writable copy with the original file's name.

    Raises:
        InvalidValueError: An input has no stored bytes.
        StorageError: The bytes are missing, damaged or out of reach.
    """
    return {
        name: str(_fetched(name, entry, directory))
        for name, entry in contract.files(payload).items()
    }


def own_directory(directory: Path, name: str) -> Path:
    """Make a directory for the one file `name`, out of the way of the function's."""
    around = directory / ".aero"
    around.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=f"{_file_name(name, 'file')}-", dir=around))


def storage_of(name: str, entry: Json) -> "Storage":
    """Open the storage that an entry of a payload names.

    Raises:
        InvalidValueError: It names none.
        StorageError: The storage cannot be used from here.
    """
    from aero.storage import open_storage

    if not entry.get("storage"):
        raise InvalidValueError(
            f"The payload's entry {name!r} names no storage: give its `storage`.",
            name=name,
        )
    return open_storage(entry["storage"])


def described(path: Path, stored: StoredObject) -> Json:
    """Return the facts that every stored output's entry carries."""
    return {
        "file": str(path),
        "file_bn": path.name,
        "file_format": path.suffix.removeprefix("."),
        "sha256": stored.sha256,
        "checksum": stored.sha256,
        "size": stored.size,
        "encoding": None,
        "media_type": media_type(path.name),
        "created_at": isoformat(utc_now()),
        "uri": stored.uri,
    }


def media_type(file_name: str) -> str:
    """Return the media type that a file name's extension stands for."""
    suffixes = "".join(PurePosixPath(file_name).suffixes)
    kind, compression = mimetypes.guess_type(f"file{suffixes}")
    if compression:
        return _COMPRESSED.get(compression, _UNKNOWN)
    return kind or _UNKNOWN


def _fetched(name: str, entry: Json, directory: Path) -> Path:
    if not entry.get("uri"):
        raise InvalidValueError(
            f'The input {name!r} has no stored bytes: say "fetch": false in the '
            f"flow's input_data and take {name}_url.",
            input=name,
        )
    file_name = _file_name(entry.get("file_name") or entry.get("file_bn"), name)
    path = own_directory(directory, name) / file_name
    storage_of(name, entry).get(entry["uri"], path)
    return path


def _file_name(wanted: Any, otherwise: str) -> str:
    """Return the last part of `wanted`, short enough for any file system."""
    name = PurePosixPath(str(wanted or "").replace("\0", "")).name
    if name in {"", ".."}:
        name = PurePosixPath(otherwise).name or "file"
    suffix = PurePosixPath(name).suffix
    room = _NAME_LIMIT - len(suffix.encode())
    if len(name.encode()) <= _NAME_LIMIT or room <= 0:
        return name.encode()[:_NAME_LIMIT].decode(errors="ignore")
    return name.encode()[:room].decode(errors="ignore") + suffix


def _call(fn: Callable[..., Any], signature: inspect.Signature, arguments: Json) -> Any:
    args = [
        arguments.pop(name, parameter.default)
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    return fn(*args, **arguments)


def _store(fn: Callable[..., Any], outputs: dict[str, Path], payload: Json) -> None:
    for name, path in outputs.items():
        entry = payload["output_data"][name]
        storage = storage_of(name, entry)
        try:
            facts = described(path, storage.put(path))
        except StorageError:
            # What the function left running may have taken it away.
            contract.readable(fn, name, path)
            raise
        if entry.get("uri"):
            raw = {key: entry.get(key) for key in _RAW}
            raw["file_name"] = entry.get("file_bn")
            if raw["sha256"] == facts["sha256"]:
                facts["encoding"] = raw["encoding"]
            for key in _ONLY_RAW:
                entry.pop(key, None)
            entry["raw"] = raw
        entry.update(facts)
