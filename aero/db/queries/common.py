"""What several query modules share.

Statements of the run path are built once, at module level or behind a cache, and
executed with parameters: building one costs several times what executing it does.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from sqlalchemy import (
    Connection,
    Table,
    bindparam,
    insert,
    inspect,
    literal_column,
    select,
    update,
)

from aero.db.base import Base
from aero.db.models import Run
from aero.types import RunStatus


def table(model: type[Base]) -> Table:
    """Return the table behind a model."""
    found = inspect(model).local_table
    assert isinstance(found, Table)  # noqa: S101 -- narrows SQLAlchemy's type
    return found


def is_status(status: RunStatus, column: Any = Run.status) -> Any:
    """Return the condition that a run has this status.

    The status is written into the statement: the indexes of PENDING and of RUNNING
    runs serve only those who ask for exactly that.
    """
    return column == literal_column(f"'{status.value}'")


def by_key(model: type[Base], *keys: Any) -> Any:
    """Return an UPDATE of the rows whose columns equal the parameters `key_<name>`.

    Executed with further parameters, it sets the columns they name.
    """
    matches = [key == bindparam(f"key_{key.key}") for key in keys]
    return update(table(model)).where(*matches)


def _insert_of(dialect: str) -> Any:
    # Only the dialect in use is imported.
    return import_module(f"sqlalchemy.dialects.{dialect}").insert


@lru_cache
def ignoring(model: type[Base], dialect: str) -> Any:
    """Return an INSERT that skips rows that are there already."""
    return _insert_of(dialect)(table(model)).on_conflict_do_nothing()


def insert_ignore(tx: Connection, model: type[Base]) -> Any:
    """Return an INSERT that skips rows that are there already."""
    return ignoring(model, tx.dialect.name)


@lru_cache
def _upserting(
    model: type[Base], dialect: str, names: tuple[str, ...], keys: tuple[str, ...]
) -> Any:
    statement = _insert_of(dialect)(table(model))
    changed = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changed)


def upsert(
    tx: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    keys: Sequence[str],
) -> None:
    """Insert `rows`, or where their `keys` exist set all other columns."""
    if rows:
        statement = _upserting(model, tx.dialect.name, tuple(rows[0]), tuple(keys))
        tx.execute(statement, list(rows))


@lru_cache
def _inserting(model: type[Base]) -> Any:
    return insert(table(model))


def insert_all(
    tx: Connection, model: type[Base], rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert `rows`, of which there may be none."""
    if rows:
        tx.execute(_inserting(model), list(rows))


@lru_cache
def _locking(model: type[Base]) -> Any:
    key = table(model).c.id
    wanted = key.in_(bindparam("ids", expanding=True))
    return select(key).where(wanted).order_by(key).with_for_update()


def lock_rows(tx: Connection, model: type[Base], ids: Iterable[str]) -> None:
    """Lock rows by id, in id order; on SQLite the transaction is the lock."""
    wanted = sorted(set(ids))
    if wanted and tx.dialect.name != "sqlite":
        tx.execute(_locking(model), {"ids": wanted}).all()
