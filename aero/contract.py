"""PURE: the rules between a flow and its function (what `aero_format` promises).

What a function is offered, whether its signature takes exactly that, and whether it
returned the outputs that the flow declares. No bytes are touched, only looked for.
"""

import inspect
import os
from collections.abc import Callable, Container, Iterable, Set
from pathlib import Path
from typing import Any

from aero.error import InvalidTypeError, InvalidValueError
from aero.types import AeroOutput, Json

_SHOWN = 500


def files(payload: Json) -> dict[str, Json]:
    """Return the entries whose bytes the function reads, by name.

    These are the inputs (unless opted out) and the outputs that were downloaded.

    Raises:
        InvalidTypeError: An input and a download have the same name.
    """
    inputs = {
        name: entry
        for name, entry in payload["input_data"].items()
        if not _opted_out(entry)
    }
    downloads = {
        name: entry
        for name, entry in payload["output_data"].items()
        if entry.get("uri")
    }
    twice = payload["input_data"].keys() & downloads.keys()
    if twice:
        raise InvalidTypeError(
            f"The flow has {_quoted(twice)} as an input and as a download: rename one "
            "of the two.",
            names=sorted(twice),
        )
    return {**inputs, **downloads}


def _opted_out(entry: Json) -> bool:
    return entry.get("fetch") is False


def offered(signature: inspect.Signature, kwargs: Json, payload: Json) -> Json:
    """Return every argument there is for the function; files are still None.

    `<input>_url` and `<input>_signed_url` are there only if the signature names them,
    and so is `metrics`, which is addressed to the steps.

    Raises:
        InvalidTypeError: Two arguments have the same name.
        InvalidValueError: An opted-out input has no url.
    """
    named = signature.parameters
    local: Json = dict.fromkeys(files(payload))
    user = {
        name: value
        for name, value in kwargs.items()
        if name != "metrics" or name in named
    }
    twice = local.keys() & user.keys()
    if twice:
        raise InvalidTypeError(
            f"The flow has {_quoted(twice)} as a file and among its kwargs: rename one "
            "of the two.",
            names=sorted(twice),
        )
    urls: Json = {}
    for name, entry in payload["input_data"].items():
        urls.update(_urls(name, entry, named))
    return {**urls, **local, **user}


def _urls(name: str, entry: Json, named: Container[str]) -> Json:
    url = entry.get("trigger_url") or entry.get("url")
    if _opted_out(entry) and not url:
        raise InvalidValueError(
            f'The input {name!r} has "fetch": false and no url: give its Data a url, '
            'or remove "fetch": false.',
            input=name,
        )
    found = {f"{name}_url": url, f"{name}_signed_url": entry.get("signed_url")}
    urls = {key: value for key, value in found.items() if value and key in named}
    return {f"{name}_url": url} if _opted_out(entry) and not urls else urls


def check_signature(
    fn: Callable[..., Any], signature: inspect.Signature, arguments: Iterable[str]
) -> None:
    """Check that the function takes exactly these arguments.

    Raises:
        InvalidTypeError: A parameter stays empty, or an argument has no parameter.
    """
    given = set(arguments)
    several = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    named = {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind not in several
    }
    unfilled = {
        name
        for name, parameter in named.items()
        if parameter.default is parameter.empty and name not in given
    }
    if unfilled:
        raise InvalidTypeError(
            f"{title(fn)} has a parameter that nothing fills, {_quoted(unfilled)}: "
            "name an input, a download or a kwarg of the flow like it, or give it a "
            "default.",
            names=sorted(unfilled),
        )
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    unknown = given - named.keys()
    if unknown and inspect.Parameter.VAR_KEYWORD not in kinds:
        raise InvalidTypeError(
            f"{title(fn)} has no parameter for {_quoted(unknown)}: add one, or take "
            "it out of the flow.",
            names=sorted(unknown),
        )


def checked(fn: Callable[..., Any], returned: Any, payload: Json) -> dict[str, Path]:
    """Return name -> path of what `fn` returned, if it is what the flow declares.

    Raises:
        InvalidTypeError: Something returned is not an AeroOutput.
        InvalidValueError: An output is missing, undeclared, named twice or no file.
    """
    outputs: dict[str, Path] = {}
    for output in _listed(fn, returned):
        if output.name in outputs:
            raise InvalidValueError(
                f"{title(fn)} returned the output {output.name!r} twice: return "
                "each output once.",
                output=output.name,
            )
        outputs[output.name] = output.path
    declared = payload["output_data"]
    _refuse(fn, "declared but not returned", declared.keys() - outputs.keys())
    _refuse(fn, "returned but not declared", outputs.keys() - declared.keys())
    return {name: readable(fn, name, path) for name, path in outputs.items()}


def _listed(fn: Callable[..., Any], returned: object) -> list[AeroOutput]:
    if returned is None:
        return []
    outputs: list[Any] = returned if isinstance(returned, list) else [returned]
    for output in outputs:
        if not isinstance(output, AeroOutput):
            raise InvalidTypeError(
                f"{title(fn)} returned a {type(output).__name__}: return "
                "AeroOutput(name, path), a list of them, or None.",
                type=type(output).__name__,
            )
    return outputs


def _refuse(fn: Callable[..., Any], what: str, outputs: Set[str]) -> None:
    if outputs:
        raise InvalidValueError(
            f"{title(fn)} has outputs that are {what}, {_quoted(outputs)}: return one "
            "AeroOutput for each name in the flow's output_data, and no other.",
            outputs=sorted(outputs),
        )


def readable(fn: Callable[..., Any], name: str, path: Path) -> Path:
    """Return the absolute path of an output, if it is a file that can be read.

    Raises:
        InvalidValueError: It is not, or no longer.
    """
    # Unlike Path.is_file, it takes a name that no file can have for an answer.
    if not os.path.isfile(path) or not os.access(path, os.R_OK):  # noqa: PTH113
        kind = "a directory" if os.path.isdir(path) else "no readable file"  # noqa: PTH112
        raise InvalidValueError(
            f"{title(fn)} returned {name!r} with the path {_shown(path)}, which is "
            f"{kind}: write the file before returning its path, and keep it.",
            output=name,
            path=str(path),
        )
    return path.absolute()


def _shown(path: Path) -> str:
    text = str(path)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}..."


def title(fn: Callable[..., Any]) -> str:
    """Return how errors call `fn`."""
    return f"The function {getattr(fn, '__name__', repr(fn))}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))
