"""Secrets in kwargs: a reference travels and is recorded, its value never is.

A secret is written `{"$secret": "NAME"}` anywhere in a flow's kwargs. `NAME` is a
variable of the environment of the process that runs the function.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from aero.error import InvalidValueError

KEY = "$secret"
MASK = "***"


def names(value: Any) -> set[str]:
    """Return the names of the secrets that `value` refers to, however deep.

    Raises:
        InvalidValueError: A reference is not written `{"$secret": "NAME"}`.
    """
    return set(_references(value))


def resolve(value: Any) -> Any:
    """Return a copy of `value` with every reference replaced by the secret.

    Dicts, lists and tuples are copied, everything else is passed on as it is.

    Raises:
        InvalidValueError: The environment has no such secret, or a reference is not
            written `{"$secret": "NAME"}`.
    """
    if isinstance(value, dict):
        if KEY in value:
            return _look_up(_reference(value))
        return {key: resolve(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [resolve(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def values(names: Iterable[str]) -> dict[str, str]:
    """Return the secrets among `names` that the environment holds now."""
    return {name: os.environ[name] for name in names if name in os.environ}


def mask(
    text: str, names: Iterable[str], *, environment: Mapping[str, str] | None = None
) -> str:
    """Return `text` with the values of the secrets `names` replaced by `***`.

    A value is also found as `repr` and JSON write it, and the longest is replaced
    first, so that no secret that contains another one is left half shown.

    Args:
        text: What is about to be logged or recorded.
        names: The secrets to hide; those without a value hide nothing.
        environment: Where to find the values; by default this process's environment.
    """
    known = os.environ if environment is None else environment
    spellings = {
        spelling
        for name in names
        for spelling in _spellings(known.get(name, ""))
        if spelling
    }
    for spelling in sorted(spellings, key=lambda each: (-len(each), each)):
        text = text.replace(spelling, MASK)
    return text


def _spellings(value: str) -> tuple[str, ...]:
    return value, repr(value)[1:-1], json.dumps(value)[1:-1]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if KEY in value:
            yield _reference(value)
        else:
            for item in value.values():
                yield from _references(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _references(item)


def _reference(value: dict[str, Any]) -> str:
    name = value[KEY]
    if len(value) > 1 or not isinstance(name, str) or not name:
        raise InvalidValueError(
            f'A secret is malformed: write {{"{KEY}": "NAME"}} and nothing beside it, '
            "NAME being a variable of the worker's environment.",
            keys=sorted(map(str, value)),
        )
    return name


def _look_up(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise InvalidValueError(
            f"The secret {name} is not set where the function runs: set the "
            f"environment variable {name} there.",
            secret=name,
        ) from None
