"""Errors as problem+json (RFC 9457): a stable type, one sentence, no internals."""

import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from aero.error import (
    ClientError,
    ForbiddenError,
    InvalidValueError,
    StorageError,
    TooManyRequestsError,
    UnauthorizedError,
    urn,
)
from aero.server.logs import HEADER, request_id
from aero.types import Json

log = logging.getLogger(__name__)

Responses = dict[int | str, dict[str, Any]]

MEDIA_TYPE = "application/problem+json"
CHALLENGE = 'Bearer realm="aero"'
BASIC = 'Basic realm="aero"'
_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_LONGEST = 2000


def documented(*statuses: int) -> Responses:
    """Return what OpenAPI is told of a route's errors."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": _SCHEMA}},
        }
        for status in sorted({*statuses, 422, 500, 503})
    }


LISTED: Responses = {
    **documented(409),
    404: {"description": "A `page` past the end, with an empty body; or Not Found"},
}
"""Of routes that list; what has no body in one case has no content in OpenAPI."""


def install(api: FastAPI) -> None:
    """Let every error that a route raises be answered as a problem."""
    api.add_exception_handler(ClientError, _client_error)
    api.add_exception_handler(TimeoutError, _timeout)
    api.add_exception_handler(StorageError, _storage)
    api.add_exception_handler(RequestValidationError, _malformed)
    api.add_exception_handler(HTTPException, _http)
    api.add_exception_handler(Exception, _unexpected)


def problem(
    kind: str,
    status: int,
    detail: str,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the answer that tells of an error."""
    body: Json = {
        "type": kind,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail if len(detail) <= _LONGEST else f"{detail[:_LONGEST]} ...",
        "facts": _plain(facts or {}),
    }
    # Existing clients look for the id of a duplicate on top.
    body |= {k: v for k, v in body["facts"].items() if k == "flow_id"}
    return Response(
        json.dumps(body), status, headers=dict(headers or {}), media_type=MEDIA_TYPE
    )


def answer(error: ClientError) -> Response:
    """Return the answer that tells of what a caller cannot have."""
    headers = {}
    if isinstance(error, UnauthorizedError):
        basic = f"{BASIC}, " if error.facts.get("basic") else ""
        headers["WWW-Authenticate"] = f"{basic}{CHALLENGE}"
    elif isinstance(error, ForbiddenError) and "scope" in error.facts:
        lacking = f'error="insufficient_scope", scope="{error.scope}"'
        headers["WWW-Authenticate"] = f"{CHALLENGE}, {lacking}"
    elif isinstance(error, TooManyRequestsError):
        headers["Retry-After"] = str(error.retry_after)
    return problem(urn(type(error)), error.code, error.message, error.facts, headers)


def _plain(facts: Mapping[str, Any]) -> Any:
    """Return facts as JSON has them, numbers that it has no word for as text."""
    return json.loads(json.dumps(dict(facts), default=str), parse_constant=str)


async def _client_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)  # noqa: S101 -- what it is registered for
    return answer(error)


async def _timeout(_: Request, error: Exception) -> Response:
    return problem(urn(TimeoutError), 504, str(error))


async def _storage(_: Request, error: Exception) -> Response:
    return problem(urn(type(error)), 503, str(error))


async def _malformed(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- as above
    return _malformed_problem(_sentence(error.errors()[0]))


def _malformed_problem(sentence: str) -> Response:
    return problem(urn(InvalidValueError), 422, sentence)


def _sentence(wrong: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in wrong["loc"])
    if wrong["type"] == "json_invalid":
        return f"The body is no JSON: {wrong['ctx']['error']}, at {wrong['loc'][-1]}."
    if isinstance(wrong.get("input"), bytes):
        return "The body is not JSON: send it with Content-Type: application/json."
    return f"{where}: {wrong['msg'].removeprefix('Value error, ')}."


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- as above
    path = request.url.path
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed: Sequence[str] = request.app.state.methods.of(path)
        return refused(request.method, path, allowed)
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # What FastAPI says of a body that it cannot even read.
        return _malformed_problem("The body cannot be read: send JSON in UTF-8.")
    detail = error.detail
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {unquote(path)}: /docs shows what there is."
    return problem("about:blank", error.status_code, detail, {}, error.headers)


def refused(method: str, path: str, allowed: Iterable[str]) -> Response:
    """Return the answer to a method that a path does not have."""
    named = ", ".join(allowed)
    detail = f"{unquote(path)} is not for {method}: use {named}."
    status = HTTPStatus.METHOD_NOT_ALLOWED
    return problem("about:blank", status, detail, headers={"Allow": named})


async def _unexpected(_: Request, error: Exception) -> Response:
    mark = request_id.get() or uuid.uuid4().hex
    log.error("Request %s failed.", mark, exc_info=error)
    return problem(
        urn(Exception),
        500,
        f"Something went wrong here; the server's log tells more at {mark}.",
        headers={HEADER: mark},
    )
