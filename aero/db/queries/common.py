"""What several query modules share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, inspect, select
from sqlalchemy.dialects import postgresql, sqlite

from aero.db.base import Base


def table(model: type[Base]) -> Table:
    """Return the table behind a model."""
    found = inspect(model).local_table
    assert isinstance(found, Table)  # noqa: S101 -- narrows SQLAlchemy's type
    return found


def insert_ignore(tx: Connection, model: type[Base]) -> Any:
    """Return an INSERT that skips rows that are there already."""
    make = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    return make(table(model)).on_conflict_do_nothing()


def upsert(
    tx: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
) -> None:
    """Insert `rows`, or where their `keys` exist set all other columns."""
    if not rows:
        return
    make = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    statement = make(table(model))
    changed = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    tx.execute(
        statement.on_conflict_do_update(index_elements=list(keys), set_=changed),
        list(rows),
    )


def insert_all(
    tx: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert `rows`, of which there may be none."""
    if rows:
        tx.execute(table(model).insert(), list(rows))


def lock_rows(tx: Connection, model: type[Base], ids: Iterable[str]) -> None:
    """Lock rows by id, in id order; on SQLite the transaction is the lock."""
    wanted = sorted(set(ids))
    if wanted and tx.dialect.name != "sqlite":
        key = table(model).c.id
        tx.execute(
            select(key).where(key.in_(wanted)).order_by(key).with_for_update()
        ).all()
