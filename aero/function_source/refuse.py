"""How a function is refused: by its name, in one sentence."""

from types import FunctionType
from typing import Any, NoReturn

from aero.error import InvalidValueError


def refuse(function: FunctionType, problem: str, **facts: Any) -> NoReturn:
    """Raise the error that says what is the matter with `function`.

    Args:
        function: The function inside all wrappers.
        problem: The rest of the sentence, what to write instead included.
        facts: `name` is the offending name, if there is one.

    Raises:
        InvalidValueError: Always; it carries `function`, the name, and the facts.
    """
    name = function.__code__.co_name
    raise InvalidValueError(f"Function {name!r} {problem}", function=name, **facts)
