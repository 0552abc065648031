"""What user functions and scripts import; everything is defined elsewhere."""

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from aero.api import register_function
from aero.clock import isoformat
from aero.error import InvalidTypeError
from aero.formatting import aero_format
from aero.jobs import download
from aero.types import AeroOutput, PolicyEnum

__all__ = [
    "AeroOutput",
    "PolicyEnum",
    "aero_format",
    "build_url",
    "download",
    "register_function",
    "serialize",
]


def serialize(obj: Any) -> str:
    """Return JSON text of `obj`, its keys in their order.

    Besides what JSON knows, there may be dataclasses, times (as ISO 8601 with offset),
    paths, UUIDs and sets (as sorted lists).

    Raises:
        InvalidTypeError: Something in it cannot be written as JSON.
    """
    return json.dumps(obj, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return isoformat(value)
    if isinstance(value, Path | UUID):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise InvalidTypeError(
        f"A {type(value).__name__} cannot be written as JSON: use numbers, strings, "
        "booleans, None, lists and dicts."
    )


def build_url(*parts: str, trailing_slash: bool = False) -> str:
    """Join the parts of a URL with exactly one slash between two of them.

    Args:
        *parts: The address first, then path segments; empty ones are left out.
        trailing_slash: Whether the result ends in a slash.
    """
    trimmed = [part.rstrip("/") for part in parts[:1]]
    trimmed += [part.strip("/") for part in parts[1:]]
    url = "/".join(part for part in trimmed if part)
    return f"{url}/" if trailing_slash else url
