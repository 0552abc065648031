"""Finds the one thing that an id, a unique id prefix or a name stands for.

Only what the transaction's viewer may see is found, or counts among several.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from aero.db.models import Flow, Function, Provenance, Run, Token
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import versions as version_queries
from aero.db.sight import visible
from aero.error import AmbiguousError, InvalidValueError, NotFoundError

_LISTED = 10
_DIGITS = 18


def data(tx: Connection, ref: str) -> Any:
    """Return the row of the Data that `ref` stands for.

    Raises:
        NotFoundError: There is none.
        AmbiguousError: There are several; `candidates` lists them.
    """
    rows = data_queries.find(tx, _text(ref, "Data"), _LISTED)
    if len(rows) > 1:
        raise _ambiguous_data(tx, ref, rows)
    return _only(rows, "Data", ref)


def flow(tx: Connection, ref: str) -> Any:
    """Return the row of the living flow that `ref` stands for.

    Raises:
        NotFoundError: There is none.
        AmbiguousError: There are several; `candidates` lists them.
    """
    rows = data_queries.find_flows(tx, _text(ref, "flow"), _LISTED)
    if len(rows) > 1:
        listed = [_flow_candidate(tx, row) for row in rows]
        raise _ambiguous("flow", ref, listed)
    return _only(rows, "flow", ref)


def run(tx: Connection, ref: str) -> Any:
    """Return the row of the run whose id is or starts with `ref`."""
    return _by_id(tx, Run, "run", ref)


def function(tx: Connection, ref: str) -> Any:
    """Return the row of the function whose id is or starts with `ref`."""
    return _by_id(tx, Function, "function", ref)


def provenance(tx: Connection, ref: str) -> Any:
    """Return the record whose id is or starts with `ref`."""
    return _by_id(tx, Provenance, "provenance record", ref)


def token(tx: Connection, ref: str) -> Any:
    """Return the token whose id is or starts with `ref`; never by its secret."""
    return _by_id(tx, Token, "token", ref)


def version(tx: Connection, ref: str, number: int | None = None) -> tuple[Any, Any]:
    """Return (Data row, version row) of `DATA` or `DATA@VERSION`, newest by default.

    Raises:
        InvalidValueError: What follows the `@` is no version number.
        NotFoundError: There is no such Data or version.
    """
    name, at, text = _text(ref, "Data").rpartition("@")
    if at and number is None:
        if not text.isdecimal() or len(text) > _DIGITS:
            raise InvalidValueError(
                f"{text!r} is no version: write {name}@3, or {name} for the newest."
            )
        ref, number = name, int(text)
    found = data(tx, ref)
    newest = version_queries.newest_number(tx, found.id)
    if not newest:
        raise NotFoundError(f"{found.name} has no version yet.", data_id=found.id)
    number = newest if number is None else number
    known = 1 <= number <= newest
    row = version_queries.get(tx, found.id, number) if known else None
    if row is None:
        raise NotFoundError(
            f"{found.name} has no version {number}; its newest is {newest}.",
            data_id=found.id,
        )
    return found, row


def _text(ref: object, what: str) -> str:
    if not isinstance(ref, str) or not ref:
        raise InvalidValueError(
            f"{ref!r} names no {what}: give its id, the first 8 or more characters of "
            "it, or its name."
        )
    return ref


def _by_id(tx: Connection, model: Any, what: str, ref: str) -> Any:
    rows = data_queries.find_by_id(tx, model, _text(ref, what), _LISTED)
    if len(rows) > 1:
        raise _ambiguous(what, ref, [{"id": row.id} for row in rows])
    return _only(rows, what, ref)


def _only(rows: Sequence[Any], what: str, ref: str) -> Any:
    if not rows:
        raise NotFoundError(
            f"There is no {what} {ref!r}: give its id, the first 8 or more characters "
            "of it, or its name.",
            ref=ref,
        )
    return rows[0]


def _ambiguous(what: str, ref: str, listed: list[dict[str, Any]]) -> AmbiguousError:
    lines = "; ".join(" ".join(f"{k} {v}" for k, v in each.items()) for each in listed)
    return AmbiguousError(
        f"{ref!r} is the name of more than one {what}, give an id: {lines}.",
        ref=ref,
        candidates=listed,
    )


def _ambiguous_data(tx: Connection, ref: str, rows: Sequence[Any]) -> AmbiguousError:
    ids = [row.id for row in rows]
    newest = version_queries.newest_numbers(tx, ids)
    producers = flow_queries.producers(tx, ids, *visible(tx, Flow))
    writers = {row.data_id: row.flow_id for row in producers}
    return _ambiguous(
        "Data",
        ref,
        [
            {
                "id": data_id,
                "flow": writers.get(data_id, "none"),
                "version": newest.get(data_id, 0),
            }
            for data_id in ids
        ],
    )


def _flow_candidate(tx: Connection, row: Any) -> dict[str, Any]:
    made = flow_queries.outputs(tx, row.id)
    newest = version_queries.newest_numbers(tx, made.values())
    versions = ", ".join(f"{n}@{newest.get(d, 0)}" for n, d in made.items())
    return {"id": row.id, "outputs": versions or "none"}
