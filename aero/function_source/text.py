"""The function's own text: found, cut out, moved to the margin.

It is cut, not written anew, so comments and layout stay.
"""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from types import FunctionType

from aero.function_source.literal import MISSING, written
from aero.function_source.refuse import refuse

_NEEDY = (ast.Name, ast.Call, ast.Lambda, ast.Attribute)
_FSTRING_START = getattr(tokenize, "FSTRING_START", -1)
_FSTRING_END = getattr(tokenize, "FSTRING_END", -1)
_MARGIN = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def find_definition(
    function: FunctionType,
) -> tuple[str, ast.Module, ast.FunctionDef]:
    """Return the text of the function's file, its tree, and the function in it.

    Raises:
        InvalidValueError: There is no such text, or the function is not in it.
    """
    code = function.__code__
    try:
        lines, _ = inspect.findsource(function)
        # The parser counts these as ends of lines and no others; str.splitlines does.
        text = "".join(lines).replace("\r\n", "\n").replace("\r", "\n")
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError):
        refuse(
            function,
            f"has no source to be found in {code.co_filename!r}: put it into a file "
            "and import it from there.",
        )
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
            continue
        first = node.decorator_list[0] if node.decorator_list else node
        if first.lineno == code.co_firstlineno:
            return text, tree, node
    refuse(
        function,
        f"is not at line {code.co_firstlineno} of {code.co_filename!r}, which may have "
        "changed since: import it again.",
    )


def own_text(function: FunctionType, file_text: str, node: ast.FunctionDef) -> str:
    """Return the definition at the margin, undecorated, without a last newline.

    Raises:
        InvalidValueError: A default is not a literal.
    """
    lines = file_text.split("\n")[node.lineno - 1 : node.end_lineno]
    indent = lines[0].encode()[: node.col_offset].decode()
    for default, value in reversed(list(_outside_defaults(function, node))):
        first = default.lineno - node.lineno
        last = (default.end_lineno or default.lineno) - node.lineno
        before = lines[first].encode()[: default.col_offset].decode()
        after = lines[last].encode()[default.end_col_offset :].decode()
        lines[first : last + 1] = [before + value + after]
    return _dedented("\n".join(lines) + "\n", indent)


def _outside_defaults(
    function: FunctionType, node: ast.FunctionDef
) -> Iterator[tuple[ast.expr, str]]:
    """Yield, in the text's order, defaults that need their surroundings, and values.

    The value takes the place of the expression, whose names may mean something else
    by now (`def f(x, n=n)` in a loop).
    """
    args = node.args
    names = [arg.arg for arg in args.args[len(args.args) - len(args.defaults) :]]
    values = dict(zip(names, function.__defaults__ or (), strict=False))
    values |= function.__kwdefaults__ or {}
    names += [arg.arg for arg in args.kwonlyargs]
    for name, default in zip(names, args.defaults + args.kw_defaults, strict=True):
        if default is None or not any(isinstance(e, _NEEDY) for e in ast.walk(default)):
            continue
        value = written(values.get(name, MISSING))
        if value is None:
            refuse(
                function,
                f"has a default for {name!r} that is not a literal: use None and make "
                "the value inside the body.",
                name=name,
            )
        if not (isinstance(default, ast.Name) and default.id == value):
            yield default, value


def _dedented(text: str, indent: str) -> str:
    """Return `text` moved to the margin, the insides of its strings untouched."""
    starts_inside, ends_inside = _lines_of_strings(text, indent)
    moved = []
    for number, line in enumerate(text.split("\n"), start=1):
        space = len(line) - len(line.lstrip(" \t\f"))
        margin = 0 if number in starts_inside else min(len(indent), space)
        rest = line[margin:]
        moved.append(rest if number in ends_inside else rest.rstrip())
    return "\n".join(moved).rstrip()


def _lines_of_strings(text: str, indent: str) -> tuple[set[int], set[int]]:
    """Return the numbers of the lines that start, and that end, inside a string.

    Docstrings that can be moved as a whole do not count as inside at their starts:
    their indentation is that of the code, and readers of docstrings remove it.
    """
    starts: set[int] = set()
    ends: set[int] = set()
    opened: list[int] = []
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in {tokenize.NL, tokenize.COMMENT}
    ]
    for index, token in enumerate(tokens):
        first, last = token.start[0], token.end[0]
        if token.type == _FSTRING_START:
            opened.append(first)
            continue
        if token.type == _FSTRING_END:
            first = opened.pop()
        elif token.type != tokenize.STRING:
            continue
        ends.update(range(first, last))
        alone = {tokens[index - 1].type, tokens[index + 1].type} <= _MARGIN
        if not (alone and _can_move(token.string, indent)):
            starts.update(range(first + 1, last + 1))
    return starts, ends


def _can_move(string: str, indent: str) -> bool:
    return all(
        line.startswith(indent) for line in string.split("\n")[1:] if line.strip()
    )
