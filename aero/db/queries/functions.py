"""Registered functions."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Connection, select

from aero.db.models import Function
from aero.db.queries.common import by_key, insert_ignore


def get_many(tx: Connection, ids: Collection[str]) -> dict[str, Any]:
    """Return functions by id."""
    rows = tx.execute(select(*Function.__table__.c).where(Function.id.in_(list(ids))))
    return {row.id: row for row in rows}


def add(tx: Connection, row: Mapping[str, Any]) -> str:
    """Insert a function unless its owner has the same source; return its id."""
    tx.execute(insert_ignore(tx, Function), [dict(row)])
    same = Function.id == row["id"]
    if row.get("source_sha256") is not None:
        same = (Function.owner == row["owner"]) & (
            Function.source_sha256 == row["source_sha256"]
        )
    found: str = tx.execute(select(Function.id).where(same)).scalar_one()
    return found


def set_values(tx: Connection, function_id: str, **values: Any) -> None:
    """Set columns of one function."""
    tx.execute(_SET, {"key_id": function_id, **values})


_SET = by_key(Function, Function.id)
