"""Routes whose answers are checked and written where they were found.

FastAPI does it in a second thread, to which it hands what the first one returned. Where
many ask at once, that costs more than what is done there.
"""

from collections.abc import Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any

from fastapi import Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.routing import APIRoute
from pydantic import TypeAdapter


class Listed(list[Any]):
    """Records with the headers of the answer that they are."""

    def __init__(self, records: list[Any], headers: dict[str, str]) -> None:
        super().__init__(records)
        self.headers = headers


class Answering(APIRoute):
    """A route that answers with what its `response_model` makes of what it returns."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        model: Any = options.get("response_model")
        said = model is not None and not isinstance(model, DefaultPlaceholder)
        if said and not iscoroutinefunction(endpoint):
            unset = bool(options.get("response_model_exclude_unset"))
            endpoint = _answering(endpoint, TypeAdapter(model), exclude_unset=unset)
        super().__init__(path, endpoint, **options)


def _answering(
    endpoint: Callable[..., Any], model: TypeAdapter[Any], *, exclude_unset: bool
) -> Callable[..., Response]:
    @wraps(endpoint)
    def answer(*args: Any, **kwargs: Any) -> Response:
        found = endpoint(*args, **kwargs)
        if isinstance(found, Response):
            return found
        checked = model.validate_python(found, from_attributes=True)
        body = model.dump_json(checked, exclude_unset=exclude_unset)
        headers = found.headers if isinstance(found, Listed) else None
        return Response(body, headers=headers, media_type="application/json")

    return answer
