"""What a function takes from outside: literals come along, the rest is refused.

The names are read from the compiled text, so scopes, comprehensions, nested functions
and classes mean here what they mean to Python.
"""

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from aero.formatting import aero_format
from aero.function_source.literal import MISSING, is_builtin, written
from aero.function_source.refuse import refuse
from aero.types import AeroOutput

PROVIDED = frozenset({"AeroOutput", "aero_format"})
"""Names that every plain source imports."""

_ALWAYS_THERE = PROVIDED | {"__name__", "__annotations__"}
_LOADS = {"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"}


def assignments(function: FunctionType, text: str, own_name: str) -> dict[str, str]:
    """Return, by name and in their order, the assignments that `text` needs before it.

    Args:
        function: Its closure and module hold the values.
        text: Its definition at the margin, undecorated.
        own_name: The name that `text` defines.

    Raises:
        InvalidValueError: A name's value is not a literal, or there is none.
    """
    code = compile(
        "from __future__ import annotations\n" + text,
        "<plain source>",
        "exec",
        dont_inherit=True,
        optimize=0,
    )
    found = {}
    for name in sorted(set(_global_names(code)) - _ALWAYS_THERE - {own_name}):
        value = _value(function, name)
        if value is MISSING and is_builtin(name):
            continue
        expression = written(value)
        if expression is None:
            instead = _instead(function, name, value)
            refuse(
                function,
                f"uses {name!r}, which a worker would not have: {instead}.",
                name=name,
            )
        if expression != name:
            found[name] = f"{name} = {expression}"
    return found


def _global_names(code: CodeType) -> Iterator[str]:
    # A class body may read a name from the module before it sets it in the class.
    own: set[str] = set()
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME":
            own.add(instruction.argval)
        elif instruction.opname in _LOADS and instruction.argval not in own:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _value(function: FunctionType, name: str) -> Any:
    names = function.__code__.co_freevars
    cells = dict(zip(names, function.__closure__ or (), strict=True))
    if name in cells:
        try:
            return cells[name].cell_contents
        except ValueError:
            return MISSING
    # `__file__` and its like are strings here, but say nothing true elsewhere.
    if name.startswith("__") and name.endswith("__"):
        return MISSING
    return function.__globals__.get(name, MISSING)


def _instead(function: FunctionType, name: str, value: Any) -> str:
    """Say what to write instead of using `name` from outside of the function."""
    if name == "get_ipython":
        return "write plain Python in place of the notebook's % and ! lines"
    if value is MISSING:
        return "define or import it inside the body"
    if value is AeroOutput or value is aero_format:
        return f"write {value.__name__}, which is always there"
    if isinstance(value, ModuleType):
        line = f"write `import {value.__name__}{_alias(value.__name__, name)}` inside"
        if value.__name__.partition(".")[0] == "aero":
            return f"AeroOutput needs no prefix, and for the rest {line} the body"
        return f"{line} the body"
    return _instead_of_object(function, name, value)


def _instead_of_object(function: FunctionType, name: str, value: Any) -> str:
    where = getattr(value, "__module__", None)
    what = getattr(value, "__qualname__", None)
    if not isinstance(where, str) or not isinstance(what, str):
        return (
            f"it is not a literal but of type {type(value).__name__}, so make it "
            "inside the body or pass it as a keyword argument of the flow"
        )
    if where in {"__main__", function.__module__} or "." in what:
        return "define it inside the body"
    return f"write `from {where} import {what}{_alias(what, name)}` inside the body"


def _alias(original: str, name: str) -> str:
    return "" if original == name else f" as {name}"
