"""A plain source that was made elsewhere, checked without being run."""

import ast
import re

from aero.error import InvalidValueError
from aero.function_source.plain import PlainSource
from aero.hashing import sha256_text

_VERSION = re.compile(r"3\.\d{1,2}")


def given_source(name: str, source: str, python_version: str) -> PlainSource:
    """Return the plain source of a function that another machine sent.

    Args:
        name: The function's.
        source: Its text, as `plain_source` makes it.
        python_version: The minor version that read it, such as `"3.11"`.

    Raises:
        InvalidValueError: The text is no Python, or does not define the function.
    """
    if _VERSION.fullmatch(python_version) is None:
        raise InvalidValueError(
            f"{python_version!r} is no Python version: write one such as '3.11'."
        )
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidValueError(
            f"The source of {name!r} is no Python: {error}.", function=name
        ) from error
    if name not in {defined for each in statements for defined in _defined(each)}:
        raise InvalidValueError(
            f"The source does not define {name!r}: send the text that "
            "register_function makes.",
            function=name,
        )
    docstring = next(
        (
            ast.get_docstring(each)
            for each in statements
            if isinstance(each, ast.FunctionDef) and each.name == name
        ),
        None,
    )
    return PlainSource(
        name=name,
        source=source,
        sha256=sha256_text(source),
        description=(docstring or "").strip(),
        python_version=python_version,
    )


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef):
        return [statement.name]
    if isinstance(statement, ast.ImportFrom):
        return [alias.asname or alias.name for alias in statement.names]
    return []
