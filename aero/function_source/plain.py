"""From a function to its plain source.

The text imports `aero`, assigns the literals that the function takes from its
surroundings, defines the function and wraps it. Whatever else it would miss on a
worker is refused by name.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from aero.error import InvalidTypeError, InvalidValueError
from aero.formatting import is_wrapped
from aero.function_source import checks
from aero.function_source.refuse import refuse
from aero.function_source.surroundings import PROVIDED, assignments
from aero.function_source.text import find_definition, own_text
from aero.hashing import sha256_text

STEPS_MODULE = "aero.jobs"
"""Its functions are on every worker: their plain source imports them."""

_HEADER = (
    "from __future__ import annotations\n\nfrom aero import AeroOutput, aero_format"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainSource:
    """The text of a function and what is known of it.

    `sha256` is of exactly `source`; `description` is the cleaned docstring or `""`;
    `python_version` is the minor version that read it, such as `"3.11"`.
    """

    name: str
    source: str
    sha256: str
    description: str
    python_version: str


def plain_source(func: Callable[..., Any]) -> PlainSource:
    """Return the plain source of `func`; the same for every form of one function.

    Args:
        func: A Python function, plain or wrapped by `aero_format` in either form.

    Raises:
        InvalidTypeError: `func` is not a Python function.
        InvalidValueError: Its source cannot be found, or would not run on a worker.
    """
    function, foreign = _unwrapped(func)
    if _is_step(function):
        name = function.__name__
        source = f"from {STEPS_MODULE} import {name}\n"
        return _result(name, source, inspect.getdoc(function))
    _refuse_kind(function)
    file_text, tree, node = find_definition(function)
    checks.decorators(function, tree, node)
    if foreign:
        refuse(
            function,
            "is wrapped by something other than aero_format, which would change what "
            "runs without being recorded: register the undecorated function.",
        )
    checks.parameters(function, node)
    checks.statements(function, node)
    text = own_text(function, file_text, node)
    literals = assignments(function, text, node.name)
    checks.mutation(function, node, set(literals))
    parts = [_HEADER, "\n".join(literals.values()), "\n" + text + "\n"]
    source = "\n\n".join(part for part in parts if part)
    source += f"\n\n{node.name} = aero_format({node.name})\n"
    return _result(node.name, source, _docstring(text))


def _result(name: str, source: str, description: str | None) -> PlainSource:
    major, minor = sys.version_info[:2]
    return PlainSource(
        name=name,
        source=source,
        sha256=sha256_text(source),
        description=(description or "").strip(),
        python_version=f"{major}.{minor}",
    )


def _docstring(text: str) -> str | None:
    definitions = (
        part for part in ast.walk(ast.parse(text)) if isinstance(part, ast.FunctionDef)
    )
    return ast.get_docstring(next(definitions))


def _unwrapped(func: Any) -> tuple[FunctionType, bool]:
    """Return the function inside all wrappers, and if any of these is not aero's."""
    foreign = False
    while (inner := getattr(func, "__wrapped__", None)) is not None:
        foreign = foreign or not is_wrapped(func)
        func = inner
    if not isinstance(func, FunctionType):
        name = getattr(func, "__qualname__", None) or repr(func)
        raise InvalidTypeError(
            f"{name!r} is a {type(func).__name__}: register a function that is written "
            "with def.",
            function=name,
        )
    return func, foreign


def _is_step(function: FunctionType) -> bool:
    module = sys.modules.get(STEPS_MODULE)
    known = getattr(module, function.__name__, None)
    return function in (known, getattr(known, "__wrapped__", None)) and (
        function.__module__ == STEPS_MODULE
    )


def _refuse_kind(function: FunctionType) -> None:
    name = function.__code__.co_name
    owner = function.__code__.co_qualname.rpartition(".")[0]
    if name == "<lambda>":
        raise InvalidValueError(
            "A lambda has no name to be registered under: write it with def.",
            function=name,
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        refuse(
            function,
            "is asynchronous: write it with a plain def and asyncio.run(...) inside.",
        )
    if inspect.isgeneratorfunction(function):
        refuse(
            function,
            "is a generator: return an AeroOutput or a list of them, do not yield.",
        )
    if owner and not owner.endswith("<locals>"):
        refuse(
            function,
            f"is a method of class {owner!r}: define it outside of the class.",
        )
    if name in PROVIDED:
        refuse(function, "has the name of a part of aero: give it another name.")
