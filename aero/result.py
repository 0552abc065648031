"""PURE: what a worker sends of a run, checked as far as that goes without the database.

It is the `aero` payload as the steps left it. Of what it says, only that is taken over
which is named here, each value of its type and within bounds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aero.error import ClientError, InvalidTypeError, InvalidValueError
from aero.formatting import accepted, media_type
from aero.hashing import canonical, sha256_text
from aero.sources.headers import content_type, safe_name, sendable
from aero.storage.base import SCHEME, sha256_of
from aero.types import Json, Step

FAULTS = ("function", "source", "unavailable", "storage")
"""Whose fault a failure may be."""
ENVIRONMENT_LIMIT = 256 << 10
"""Bytes of JSON."""
TEXT_LIMIT = 64 << 10
"""Characters that are kept of a log, a traceback or a message: the last ones."""

_STEPS = (Step.DOWNLOAD.value, Step.GET_VERSIONS.value, Step.FUNCTION.value)
_STATUSES = ("SUCCEEDED", "FAILED")
_LINE = 4096
_LARGEST, _MOST_BYTES = 2**31 - 1, 2**63 - 1
_HEX = re.compile(r"[0-9a-f]{64}")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a run.

    Attributes:
        sha256: Of the payload, by which it is known again.
        flow: The flow, by id, prefix or name.
        run: The run; None if one is to be opened for it.
        attempt: Of that run.
        task: The index into a sweep.
        inputs: Name -> `id` and `version`, None where it says nothing.
        outputs: Name -> what the steps left.
        steps: The steps, as a record has them.
        environment: Where the function ran.
        log_tail: What it printed last.
        error: `type`, `message`, `traceback` and `fault`, if the attempt failed.
    """

    sha256: str
    flow: str | None
    run: str | None
    attempt: int | None
    task: int | None
    inputs: Mapping[str, Json]
    outputs: Mapping[str, Json]
    steps: Sequence[Json]
    environment: Json
    log_tail: str | None
    error: Json | None


def unwrapped(given: Any) -> Any:
    """Return the payload in a step's keyword arguments, or what is one itself."""
    inner = given.get("aero") if isinstance(given, Mapping) else None
    return inner if isinstance(inner, Mapping) else given


def result(payload: Any) -> Result:
    """Return what a payload, or the keyword arguments of a step with one, says.

    Raises:
        InvalidTypeError: A value is of the wrong type.
        InvalidValueError: Its schema is unknown, it names no flow and no run, or a
            value is out of bounds.
    """
    given = unwrapped(payload)
    given = dict(given) if isinstance(given, Mapping) else given
    text, body = _checked(given)
    flow, run = _line(body, "flow_id"), _line(body, "run_id")
    attempt = _whole(body, "attempt", least=1)
    if flow is None and run is None:
        raise InvalidValueError("The payload names no flow: give its flow_id.")
    if run is not None and attempt is None:
        raise InvalidValueError(f"The payload names no attempt of run {run}: give it.")
    schema, error = body.get("schema", 0), _error(body)
    return Result(
        sha256=sha256_text(text),
        flow=flow,
        run=run,
        attempt=attempt,
        task=_whole(body, "task"),
        inputs={
            name: {
                "id": _line(entry, "id", where),
                "version": _whole(entry, "version", where, least=1),
            }
            for name, where, entry in _entries(body, "input_data")
        },
        outputs={
            name: {"id": _line(entry, "id", where)}
            if error
            else _output(entry, where, schema)
            for name, where, entry in _entries(body, "output_data")
        },
        steps=_steps(body),
        environment=_environment(body),
        log_tail=_tail(body, "log_tail"),
        error=error,
    )


def _checked(given: Any) -> tuple[str, Json]:
    """Return the one JSON text of a payload, and a copy of it that is understood."""
    try:
        text = canonical(given)
        text.encode()
        body = accepted(given)
    except ClientError:
        raise
    except TypeError as error:
        raise InvalidTypeError(f"The payload is no JSON ({error}).") from error
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"The payload is no JSON ({error}).") from error
    if _NUL.search(text):
        raise InvalidValueError(
            "The payload holds a NUL character, which no database keeps."
        )
    return text, body


def _entries(body: Json, side: str) -> list[tuple[str, str, Json]]:
    """Return (name, where, entry) of one side of a payload."""
    entries = _dict(body, side)
    for name in entries:
        if not isinstance(name, str):
            raise InvalidTypeError(f"{side} has the name {name!r}: write text.")
        if len(name) > _LINE:
            raise InvalidValueError(f"{side} has a name over {_LINE} characters.")
    return [(name, f"{side}.{name}", _dict(entries, name, side)) for name in entries]


def _output(entry: Json, where: str, schema: int) -> Json:
    """Return what an entry says that is taken over."""
    found: Json = {"id": _line(entry, "id", where), "url": _line(entry, "url", where)}
    if entry.get("not_modified") is True:
        return {**found, "not_modified": True}
    address = _line(entry, "uri", where)
    name = _line(entry, "file_bn", where)
    if address is None and schema == 0 and name:
        address = f"{SCHEME}{name}" if _HEX.fullmatch(name) else name
    found["uri"] = address
    if address is None:
        return found
    found |= {
        **_object(entry, where, schema, address),
        "file_bn": safe_name(name or ""),
        **_kind(entry, where, name or ""),
    }
    raw = _dict(entry, "raw", where)
    if raw:
        kept = _line(raw, "uri", f"{where}.raw")
        if kept is None:
            raise InvalidValueError(
                f"{where}.raw has no uri: a download is stored before it is told of."
            )
        found["raw"] = {
            "uri": kept,
            **_object(raw, f"{where}.raw", schema, kept),
            **_download(raw, f"{where}.raw"),
        }
    elif entry.get("retrieved_at") is not None:
        found |= _download(entry, where)
    return found


def _object(entry: Json, where: str, schema: int, address: str) -> Json:
    """Return the SHA-256 that an address is made of, and the size that is claimed.

    Of schema 0 both are those of what is stored, whatever the entry says.
    """
    sha256 = sha256_of(address)
    if schema == 0:
        return {"sha256": sha256, "size": None}
    if _line(entry, "sha256", where) not in {None, sha256}:
        raise InvalidValueError(
            f"{where}.sha256 is not that of {address}: leave both as the step did."
        )
    return {"sha256": sha256, "size": _whole(entry, "size", where, most=_MOST_BYTES)}


def _kind(entry: Json, where: str, name: str) -> Json:
    stated = _line(entry, "media_type", where)
    encoding = _line(entry, "encoding", where)
    known, charset = content_type(f"{stated or 'a/a'};charset={encoding or 'x'}")
    if known is None or charset != (encoding or "x").lower():
        raise InvalidValueError(
            f"{where} has the media type {stated!r} and the encoding {encoding!r}: "
            "write such as text/csv and utf-8."
        )
    kind = known if stated else _guessed(entry.get("file_format"), name)
    return {"media_type": kind, "encoding": charset if encoding else None}


def _guessed(file_format: Any, name: str) -> str:
    """Return the media type that a name or, as older steps wrote it, a format means."""
    if isinstance(file_format, list) and file_format:
        file_format = file_format[0]
    if isinstance(file_format, str):
        stated, _ = content_type(file_format)
        return stated or media_type(f"file.{file_format.lstrip('.')}")
    return media_type(name)


def _download(entry: Json, where: str) -> Json:
    moment = _moment(entry, "retrieved_at", where)
    if moment is None:
        raise InvalidValueError(f"{where} has no retrieved_at: say when it was.")
    found = {
        key: _line(entry, key, where) for key in ("final_url", "etag", "last_modified")
    }
    for key in ("etag", "last_modified"):
        # The next poll sends it.
        if not sendable(found[key] or ""):
            raise InvalidValueError(f"{where}.{key} is not what a header can hold.")
    return {**found, "retrieved_at": moment}


def _steps(body: Json) -> list[Json]:
    given = body.get("steps")
    if given is None:
        return _measured(_dict(body, "metrics"))
    if not isinstance(given, list):
        raise InvalidTypeError(f"steps is a {type(given).__name__}: write a list.")
    steps = [_step(each, f"steps.{number}") for number, each in enumerate(given)]
    names = [step["name"] for step in steps]
    if len(set(names)) < len(names):
        raise InvalidValueError("steps has a step twice: a step happens once.")
    return steps


def _step(given: Any, where: str) -> Json:
    if not isinstance(given, dict):
        raise InvalidTypeError(f"{where} is a {type(given).__name__}: write a dict.")
    step: Json = {
        "name": _choice(given, "name", _STEPS, where),
        "status": _choice(given, "status", _STATUSES, where),
        "started_at": _moment(given, "started_at", where),
        "finished_at": _moment(given, "finished_at", where),
    }
    seconds = given.get("seconds")
    if seconds is not None:
        number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if not number or not 0 <= seconds <= _LARGEST:
            raise InvalidValueError(f"{where}.seconds is {seconds!r}: write seconds.")
        step["seconds"] = float(seconds)
    size = _whole(given, "bytes", where, most=_MOST_BYTES)
    return step if size is None else {**step, "bytes": size}


def _measured(metrics: Json) -> list[Json]:
    """Return the steps that the kwarg `metrics` had measured, in ns."""
    steps = []
    for name in _STEPS:
        where = f"metrics.{name}"
        found = _dict(metrics, name, "metrics")
        begun = _whole(found, "task_start", where, most=_MOST_BYTES)
        ended = _whole(found, "task_end", where, most=_MOST_BYTES)
        if begun is None or ended is None:
            continue
        if ended < begun:
            raise InvalidValueError(f"{where} ends before it begins.")
        steps.append(
            {
                "name": name,
                "status": "SUCCEEDED",
                "started_at": datetime.fromtimestamp(begun / 1e9, UTC).isoformat(),
                "finished_at": datetime.fromtimestamp(ended / 1e9, UTC).isoformat(),
                "seconds": (ended - begun) / 1e9,
            }
        )
    return steps


def _environment(body: Json) -> Json:
    found = _dict(body, "environment")
    if len(canonical(found)) > ENVIRONMENT_LIMIT:
        raise InvalidValueError(
            f"environment has more than {ENVIRONMENT_LIMIT} bytes: shorten it."
        )
    return found


def _error(body: Json) -> Json | None:
    given = _dict(body, "error")
    if not given:
        return None
    kind = _line(given, "type", "error")
    if kind is None:
        raise InvalidValueError("error has no type: write the name of the exception.")
    return {
        "type": kind,
        "message": _tail(given, "message", "error"),
        "traceback": _tail(given, "traceback", "error"),
        "fault": _choice({"fault": FAULTS[0], **given}, "fault", FAULTS, "error"),
    }


def _at(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _dict(given: Json, key: str, where: str = "") -> Json:
    value = given.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidTypeError(
            f"{_at(where, key)} is a {type(value).__name__}: write a dict."
        )
    return value


def _text(given: Json, key: str, where: str) -> str | None:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidTypeError(
            f"{_at(where, key)} is a {type(value).__name__}: write text."
        )
    return value or None


def _line(given: Json, key: str, where: str = "") -> str | None:
    value = _text(given, key, where)
    if value is not None and len(value) > _LINE:
        raise InvalidValueError(
            f"{_at(where, key)} has more than {_LINE} characters: shorten it."
        )
    return value


def _tail(given: Json, key: str, where: str = "") -> str | None:
    value = _text(given, key, where)
    return None if value is None else value[-TEXT_LIMIT:]


def _whole(
    given: Json, key: str, where: str = "", *, least: int = 0, most: int = _LARGEST
) -> int | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidTypeError(
            f"{_at(where, key)} is a {type(value).__name__}: write a whole number."
        )
    if not least <= value <= most:
        raise InvalidValueError(
            f"{_at(where, key)} is out of bounds: write one from {least} to {most}."
        )
    return value


def _choice(given: Json, key: str, known: Sequence[str], where: str) -> str:
    value = given.get(key)
    if not isinstance(value, str) or value not in known:
        raise InvalidValueError(
            f"{_at(where, key)} is {value!r:.100}: write one of {', '.join(known)}."
        )
    return value


def _moment(given: Json, key: str, where: str) -> str | None:
    if given.get(key) is None:
        return None
    value = _line(given, key, where) or ""
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        pass
    raise InvalidValueError(
        f"{_at(where, key)} is {value!r:.100}: write a time as ISO 8601 with offset."
    )
