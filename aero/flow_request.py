"""PURE: checks what a caller asks of `register_flow` before anything is stored."""

import json
import keyword
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from aero import targets, triggers
from aero.error import InvalidTypeError, InvalidValueError
from aero.hashing import canonical
from aero.types import PolicyEnum, Sharing

DEFAULT_TIMER = 86400.0
KWARGS_LIMIT = 10 << 20
"""Bytes of JSON that the kwargs of a flow, those of a whole sweep, may have."""

SCHEMES = ("http", "https", "file", "globus", "s3")
POLL_MIN = 1
"""The shortest slow poll, in seconds."""

_INPUT_KEYS = {"id", "version", "fetch"}
_OUTPUT_KEYS = {"id", "url", "collection_uuid", "collection_url", "storage"}
_TIMED = {PolicyEnum.INGESTION, PolicyEnum.TIMER}
_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class InputRequest:
    """One input: which Data (id, prefix or name), pinned to `version` or not."""

    ref: str
    version: int | None = None
    fetch: bool = True


@dataclass(frozen=True, kw_only=True)
class OutputRequest:
    """One output: new Data, or with `ref` existing Data that no living flow writes."""

    ref: str | None = None
    url: str | None = None
    collection_uuid: str | None = None
    collection_url: str | None = None
    storage: str | None = None
    data_name: str | None = None
    description: str = ""
    no_copy: bool = False


@dataclass(frozen=True, kw_only=True)
class FlowRequest:
    """A flow as asked for, checked as far as that goes without the database."""

    endpoint: str
    function_id: str | None
    inputs: Mapping[str, InputRequest] = field(default_factory=dict)
    outputs: Mapping[str, OutputRequest] = field(default_factory=dict)
    kwargs: Any = field(default_factory=dict)
    description: str = ""
    policy: PolicyEnum = PolicyEnum.NONE
    timer: float | None = None
    cron: str | None = None
    timezone: str = "UTC"
    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    max_running: int | None = None
    tags: tuple[str, ...] = ()
    sharing: Sharing = field(default_factory=Sharing)
    notify: tuple[str, ...] = ()
    poll_delay: float | None = None

    def polled(self, default: float | None) -> "FlowRequest":
        """Return it with the slow poll it asks for, or else the workspace's.

        Args:
            default: The seconds between two polls of whatever can be polled.

        Raises:
            InvalidValueError: It asks for one and cannot be polled.
        """
        hindrance = self._not_polled()
        if self.poll_delay and hindrance:
            raise InvalidValueError(
                f"poll_delay is {self.poll_delay:g} s, but {hindrance}: leave it out."
            )
        chosen = default if self.poll_delay is None else self.poll_delay
        return replace(self, timer=chosen) if chosen and not hindrance else self

    def _not_polled(self) -> str | None:
        """Return why there is no slow poll of it."""
        if self.policy is not PolicyEnum.INGESTION_EVENT:
            return f"a flow of policy {self.policy.name} does not wait for events"
        if len(self.outputs) != 1:
            return "a flow of several sources cannot be polled one by one"
        (output,) = self.outputs.values()
        if not can_be_asked(output.url or "", no_copy=output.no_copy):
            return f"{output.url} cannot be asked what it is from here"
        return None


def flow_request(
    endpoint_uuid: str,
    function_uuid: str | None,
    input_data: Mapping[str, Mapping[str, Any]] | None = None,
    output_data: Mapping[str, Mapping[str, Any]] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    config: str | Path | Sequence[Mapping[str, Any]] | None = None,
    description: str | None = None,
    policy: PolicyEnum | int | str = PolicyEnum.NONE,
    timer_delay: float | None = None,
    cron: str | None = None,
    timezone: str = "UTC",
    retries: int = 0,
    timeout: float | None = None,
    priority: int = 0,
    max_running: int | None = None,
    tags: tuple[str, ...] | list[str] = (),
    poll_delay: float | None = None,
    storage: str | None = None,
    public: bool = False,
    group: str | None = None,
    email: str | Sequence[str] | None = None,
    notify: str | Sequence[str] | None = None,
) -> FlowRequest:
    """Check the arguments of `register_flow`; `config` may also be the list itself.

    Raises:
        InvalidValueError: A value cannot be used; the sentence says what to write.
        InvalidTypeError: A value is of the wrong type.
    """
    chosen = parse_policy(policy)
    inputs = {n: _input(n, e) for n, e in _entries(input_data, "input_data")}
    outputs = {
        n: _output(n, e, storage) for n, e in _entries(output_data, "output_data")
    }
    timer = _timer(chosen, timer_delay, cron)
    triggers.validate_schedule(timer=timer, cron=cron, timezone=timezone)
    _check_policy(chosen, function_uuid, inputs, outputs)
    _check_names(inputs, outputs)
    return FlowRequest(
        endpoint=check_endpoint(endpoint_uuid),
        function_id=function_uuid,
        inputs=inputs,
        outputs=outputs,
        kwargs=_kwargs(kwargs, config, _taken(inputs, outputs)),
        description=_text("description", description) or "",
        policy=chosen,
        timer=timer,
        cron=cron,
        timezone=timezone,
        retries=_whole("retries", retries, least=0),
        timeout=_positive("timeout", timeout),
        priority=_whole("priority", priority),
        max_running=limit(max_running),
        tags=_tags(tags or ()),
        sharing=Sharing.of(public, group),
        notify=targets.targets(email, notify),
        poll_delay=_poll_delay(poll_delay),
    )


def parse_policy(policy: PolicyEnum | int | str) -> PolicyEnum:
    """Return the policy that a number or a name stands for."""
    try:
        if isinstance(policy, str) and not policy.lstrip("-").isdigit():
            return PolicyEnum[policy.strip().upper()]
        return PolicyEnum(int(policy) if isinstance(policy, str) else policy)
    except (KeyError, ValueError, TypeError):
        names = ", ".join(f"{p.name} ({p.value})" for p in PolicyEnum)
        raise InvalidValueError(
            f"There is no policy {policy!r}: write one of {names}.", policy=policy
        ) from None


def flow_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Check what `set_flow` is asked to change.

    Raises:
        InvalidValueError: A value cannot be used; the sentence says what to write.
        InvalidTypeError: Something cannot be changed.
    """
    checks: dict[str, Callable[[Any], Any]] = {
        "priority": partial(_whole, "priority"),
        "max_running": limit,
        "email": lambda email: list(targets.targets(email=email)),
        "notify": lambda notify: list(targets.targets(notify=notify)),
    }
    for name in changes.keys() - checks.keys():
        raise InvalidTypeError(
            f"A flow's {name!r} cannot be changed: give {', '.join(checks)}, or "
            "register another flow."
        )
    return {name: checks[name](value) for name, value in changes.items()}


def new_targets(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """Return whom a flow is to tell of failures that `set_flow` is asked to change."""
    return targets.targets(changes.get("email"), changes.get("notify"))


def limit(max_running: Any) -> int | None:
    """Return how many runs may run at once, None for any number."""
    return None if max_running is None else _whole("max_running", max_running, least=1)


def check_url(url: Any, where: str) -> str:
    """Return `url` if it may be of something that can be downloaded.

    Raises:
        InvalidValueError: It is of another scheme, incomplete, or carries a login.
    """
    parts = _parts(url)
    if parts is None or parts.scheme not in SCHEMES:
        raise InvalidValueError(
            f"{where} has the url {url!r}: write one that starts with "
            f"{', '.join(s + '://' for s in SCHEMES)} and, except of a file, a host.",
            url=url,
        )
    if parts.username is not None:
        raise InvalidValueError(
            f"{where} has a url of {parts.hostname} that carries a login: write it "
            "without USER:PASSWORD@ and put the login into the credentials file."
        )
    return str(url)


def can_be_asked(url: str, *, no_copy: bool) -> bool:
    """Whether this machine can ask an object of that URL whether it changed."""
    schemes = {"http", "https"} if no_copy else {"http", "https", "file"}
    parts = _parts(url)
    return parts is not None and parts.scheme in schemes


def _parts(url: Any) -> SplitResult | None:
    """Return the parts of a URL that is whole: it has a host, and a port if any."""
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        _ = parts.port
    except ValueError:  # a bracket that is not closed, a port that is no number
        return None
    return parts if parts.hostname or parts.scheme == "file" else None


def check_endpoint(endpoint: Any) -> str:
    """Return the name of an endpoint, if it can be one."""
    if not isinstance(endpoint, str) or not endpoint.strip():
        raise InvalidValueError(
            f"{endpoint!r} is not an endpoint: write 'local', a Globus Compute UUID or "
            "a name from the configuration."
        )
    return endpoint.strip()


def _entries(given: Any, where: str) -> list[tuple[str, dict[str, Any]]]:
    if given is None:
        return []
    if not isinstance(given, Mapping):
        raise InvalidTypeError(
            f"{where} is a {type(given).__name__}: write a dict such as "
            '{"name": {"id": "..."}}.'
        )
    for name, entry in given.items():
        check_identifier(name, where)
        if not isinstance(entry, Mapping):
            raise InvalidTypeError(
                f"{where}[{name!r}] is a {type(entry).__name__}: write a dict, "
                "{} for an output in the default storage."
            )
    return [(name, dict(entry)) for name, entry in given.items()]


def check_identifier(name: Any, where: str) -> None:
    """Refuse a name that no function can have as a parameter."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidValueError(
            f"{where} names {name!r}, which is no Python identifier: write a name that "
            "the function can have as a parameter, such as 'wastewater'.",
            name=name,
        )
    if name == "aero":
        raise InvalidValueError(
            f"{where} names 'aero', which is reserved: choose another name.", name=name
        )


def _warn_unknown(name: str, entry: Mapping[str, Any], known: set[str]) -> None:
    for key in sorted(entry.keys() - known, key=str):
        warnings.warn(
            f"{name!r}: the key {key!r} is not used and was ignored.",
            UserWarning,
            stacklevel=6,
        )


def _input(name: str, entry: dict[str, Any]) -> InputRequest:
    _warn_unknown(name, entry, _INPUT_KEYS)
    ref = entry.get("id")
    if not isinstance(ref, str) or not ref:
        raise InvalidValueError(
            f'Input {name!r} names no Data: write {{"{name}": {{"id": "<data id>"}}}}.',
            name=name,
        )
    version = entry.get("version")
    if version is not None and (
        isinstance(version, bool) or not isinstance(version, int) or version < 1
    ):
        raise InvalidValueError(
            f"Input {name!r} asks for version {version!r}: write a number from 1, or "
            "None for the newest.",
            name=name,
        )
    return InputRequest(ref=ref, version=version, fetch=bool(entry.get("fetch", True)))


def _output(name: str, entry: dict[str, Any], storage: str | None) -> OutputRequest:
    _warn_unknown(name, entry, _OUTPUT_KEYS)
    url = entry.get("url")
    if url is not None:
        check_url(url, f"Output {name!r}")
    collection = _text("collection_url", entry.get("collection_url"))
    return OutputRequest(
        ref=entry.get("id"),
        url=url,
        collection_uuid=_text("collection_uuid", entry.get("collection_uuid")),
        collection_url=collection.rstrip("/") if collection else None,
        storage=_text("storage", entry.get("storage", storage)),
    )


def _timer(
    policy: PolicyEnum, timer_delay: float | None, cron: str | None
) -> float | None:
    if policy not in _TIMED:
        if timer_delay is not None or cron is not None:
            warnings.warn(
                f"The policy {policy.name} has no schedule: timer_delay and cron were "
                "ignored.",
                UserWarning,
                stacklevel=5,
            )
        return None
    if timer_delay is None and cron is None:
        if policy is PolicyEnum.TIMER:
            raise InvalidValueError(
                "The policy TIMER needs to know when: give timer_delay (seconds) or "
                "cron."
            )
        return DEFAULT_TIMER
    return timer_delay


def _check_policy(
    policy: PolicyEnum,
    function_id: str | None,
    inputs: Mapping[str, InputRequest],
    outputs: Mapping[str, OutputRequest],
) -> None:
    sources = [name for name, output in outputs.items() if output.url]
    if policy is PolicyEnum.INGESTION and not sources:
        raise InvalidValueError(
            "An INGESTION downloads, but no output names a url: write "
            'output_data={"name": {"url": "https://..."}}.'
        )
    if function_id is None and len(sources) < max(1, len(outputs)):
        raise InvalidValueError(
            "A flow without a function stores what it downloads: give a function_uuid, "
            "or every output a url."
        )
    if policy in {PolicyEnum.ANY, PolicyEnum.ALL} and not inputs:
        raise InvalidValueError(
            f"A flow of policy {policy.name} fires on new versions of its inputs, but "
            "it has none: name them in input_data."
        )


def _check_names(
    inputs: Mapping[str, InputRequest], outputs: Mapping[str, OutputRequest]
) -> None:
    both = sorted(n for n in inputs.keys() & outputs.keys() if outputs[n].url)
    if both:
        raise InvalidValueError(
            f"{both[0]!r} is an input and a download of the same flow: rename one.",
            name=both[0],
        )


def _taken(
    inputs: Mapping[str, InputRequest], outputs: Mapping[str, OutputRequest]
) -> dict[str, str]:
    """Return the parameters that files are given to, and what each of them is."""
    downloads = {n: "a download" for n, output in outputs.items() if output.url}
    return {**downloads, **dict.fromkeys(inputs, "an input")}


def _kwargs(
    kwargs: Mapping[str, Any] | None,
    config: str | Path | Sequence[Mapping[str, Any]] | None,
    taken: Mapping[str, str],
) -> Any:
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise InvalidTypeError(
            f"kwargs is a {type(kwargs).__name__}: write a dict such as "
            '{"window": 7}.'
        )
    if config is not None and not isinstance(config, str | Path | list):
        raise InvalidTypeError(
            f"config is a {type(config).__name__}: give the path of a JSON file."
        )
    if config is not None and kwargs:
        raise InvalidValueError(
            "Both kwargs and config are given: write the kwargs of every task into the "
            "config file."
        )
    tasks = [dict(kwargs or {})] if config is None else read_sweep(config)
    size = 0
    for entry in tasks:
        for name in entry:
            check_identifier(name, "kwargs")
            if name in taken:
                raise InvalidValueError(
                    f"{name!r} is {taken[name]} and in kwargs as well: rename one.",
                    name=name,
                )
        try:
            size += len(canonical(entry).encode())
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidValueError(
                f"kwargs cannot be written as JSON ({error}): use numbers, strings, "
                "booleans, None, lists and dicts."
            ) from error
    if size > KWARGS_LIMIT:
        raise InvalidValueError(
            f"kwargs have {size} bytes as JSON, more than the {KWARGS_LIMIT} that a "
            "flow may have: write what is large into a file and make that an input.",
            size=size,
        )
    return tasks if config is not None else tasks[0]


def read_sweep(
    config: str | Path | Sequence[Mapping[str, Any]],
) -> list[Mapping[str, Any]]:
    """Return a sweep's list of kwargs, or read it from its JSON file."""
    found: Any = config
    if isinstance(config, str | Path):
        try:
            found = json.loads(Path(config).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidValueError(
                f"The config {config} cannot be read as JSON ({error}): write a list "
                "of kwargs, one dict per run.",
                path=str(config),
            ) from error
    good = isinstance(found, list) and all(isinstance(e, Mapping) for e in found)
    if not good or not found:
        name = config if isinstance(config, str | Path) else "that was given"
        raise InvalidValueError(
            f"The config {name} is not a list of kwargs: write a JSON list with one "
            "dict per run.",
            path=str(name),
        )
    return list(found)


def _whole(name: str, value: Any, least: int | None = None) -> int:
    good = isinstance(value, int) and not isinstance(value, bool)
    lowest = -_LARGEST if least is None else least
    if not good or not lowest <= value <= _LARGEST:
        raise InvalidValueError(
            f"{name} is {value!r}: write a whole number from {lowest} to {_LARGEST}."
        )
    return int(value)


def _positive(name: str, value: Any) -> float | None:
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value <= triggers.TIMER_MAX:
        raise InvalidValueError(
            f"{name} is {value!r}: write a number of seconds above 0, up to "
            f"{triggers.TIMER_MAX}."
        )
    return float(value)


def _poll_delay(value: Any) -> float | None:
    if value is None:
        return None
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or (value != 0 and not POLL_MIN <= value <= triggers.TIMER_MAX):
        raise InvalidValueError(
            f"poll_delay is {value!r}: write 0 for never, or from {POLL_MIN} to "
            f"{triggers.TIMER_MAX} seconds, such as 3600."
        )
    return float(value)


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise InvalidTypeError(f"{name} is a {type(value).__name__}: write a string.")


def _tags(tags: Any) -> tuple[str, ...]:
    listed = isinstance(tags, Iterable) and not isinstance(tags, str | Mapping)
    tags = tuple(tags) if listed else ()
    if not listed or not all(isinstance(tag, str) and tag for tag in tags):
        raise InvalidTypeError("tags is not a list of words: write ['flu', 'weekly'].")
    return tuple(dict.fromkeys(tags))
