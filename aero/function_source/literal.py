"""Values written as expressions: literals and builtins, nothing else."""

import builtins
import math
from collections.abc import Callable
from types import EllipsisType
from typing import Any, Final

MISSING: Final = object()
"""Stands for the value of a name that has none."""

# An int of many digits cannot be read back from decimal.
_DECIMAL_BITS = 10_000
_BUILTIN_MODULES = {"builtins", "io", "_io", "_sitebuiltins"}


def is_builtin(name: str) -> bool:
    """Whether every Python has this name, not just a notebook or a prompt."""
    value = getattr(builtins, name, MISSING)
    where = getattr(value, "__module__", None) or "builtins"
    return value is not MISSING and name != "_" and where in _BUILTIN_MODULES


def written(value: Any, outer: tuple[int, ...] = ()) -> str | None:
    """Return the expression for a literal or a builtin; None for anything else.

    The same value gives the same text on every Python: hence ASCII, and sets in order.

    Args:
        value: Anything; subclasses of the literals' types are not literals.
        outer: Ids of the collections it is in, for one that contains itself.
    """
    kind = type(value)
    if kind in _SCALARS:
        return _SCALARS[kind](value)
    if kind in _BRACKETS:
        return None if id(value) in outer else _collection(value, (*outer, id(value)))
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and is_builtin(name) and getattr(builtins, name) is value:
        return name
    return None


def _int(value: int) -> str:
    return hex(value) if value.bit_length() > _DECIMAL_BITS else repr(value)


def _float(value: float) -> str:
    return repr(value) if math.isfinite(value) else f"float('{value}')"


def _complex(value: complex) -> str:
    return f"complex({_float(value.real)}, {_float(value.imag)})"


_SCALARS: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    EllipsisType: repr,
    bool: repr,
    bytes: repr,
    str: ascii,
    int: _int,
    float: _float,
    complex: _complex,
}
_BRACKETS: dict[type, str] = {
    tuple: "({})",
    list: "[{}]",
    dict: "{{{}}}",
    set: "{{{}}}",
    frozenset: "frozenset({{{}}})",
}


def _collection(value: Any, outer: tuple[int, ...]) -> str | None:
    parts = value.items() if isinstance(value, dict) else [(item,) for item in value]
    items = []
    for part in parts:
        texts = [written(item, outer) for item in part]
        if None in texts:
            return None
        items.append(": ".join(text for text in texts if text is not None))
    if isinstance(value, set | frozenset):
        if not items:
            return f"{type(value).__name__}()"
        items.sort()
    comma = "," if isinstance(value, tuple) and len(items) == 1 else ""
    return _BRACKETS[type(value)].format(", ".join(items) + comma)
