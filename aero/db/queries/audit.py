"""The log of changes."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from aero.db.models import Audit
from aero.db.queries.common import insert_ignore


def add(tx: Connection, row: Mapping[str, Any]) -> None:
    """Insert an entry, unless it is there."""
    tx.execute(insert_ignore(tx, Audit), [dict(row)])
