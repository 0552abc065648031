"""What a copy of a whole database asks of its tables: all of them, in one order."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Row,
    Table,
    Text,
    collate,
    func,
    inspect,
    literal,
    select,
    text,
    tuple_,
)

from aero.db.models import Base, Worker
from aero.db.queries.common import insert_ignore, table
from aero.db.session import Database

Key = tuple[Any, ...]

BATCH = 500

_BY_NAME = {
    mapper.class_.__tablename__: mapper.class_ for mapper in Base.registry.mappers
}

# A process that works on the source does not work on the copy.
MODELS: Mapping[str, type[Base]] = {
    found.name: _BY_NAME[found.name]
    for found in Base.metadata.sorted_tables
    if found.name != Worker.__tablename__
}
"""The tables that are copied, by name, each after those that it refers to."""


@contextmanager
def snapshot(db: Database) -> Iterator[Connection]:
    """Give a connection that only reads, and sees one moment however long it takes."""
    with db.engine.connect() as tx:
        if not db.is_sqlite:
            tx.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        yield tx


def identity(tx: Connection) -> Any:
    """Return what tells a PostgreSQL database from every other, however it is named."""
    oid = text(
        "SELECT oid, pg_postmaster_start_time() FROM pg_database "
        "WHERE datname = current_database()"
    )
    return tuple(tx.execute(oid).one())


def existing(tx: Connection) -> set[str]:
    """Return which of the tables there are."""
    return MODELS.keys() & set(inspect(tx).get_table_names())


def counts(tx: Connection, names: Iterable[str]) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {
        name: tx.execute(
            select(func.count()).select_from(table(MODELS[name]))
        ).scalar_one()
        for name in names
    }


def key_of(name: str, row: Row[Any]) -> Key:
    """Return a row's primary key, in which Python sorts as both databases do here."""
    return tuple(row._mapping[each.name] for each in table(MODELS[name]).primary_key)


def rows(
    tx: Connection, name: str, after: Key | None = None
) -> Generator[Row[Any], None, None]:
    """Stream a table's rows by primary key, those after a key only if one is given.

    Whatever the database's language is, text is ordered by its code points.
    """
    found = table(MODELS[name])
    order = [_plain(tx, column) for column in found.primary_key]
    query = select(found).order_by(*order)
    if after is not None:
        types = [column.type for column in found.primary_key]
        values = map(literal, after, types)
        query = query.where(tuple_(*order) > tuple_(*values))
    with tx.execute(query, execution_options={"yield_per": BATCH}) as result:
        yield from result


def _plain(tx: Connection, column: Column[Any]) -> Any:
    plain = tx.dialect.name == "sqlite" or not isinstance(column.type, Text)
    return column if plain else collate(column, "C")


def add(tx: Connection, name: str, batch: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows but those that are there; see that newer keys come after theirs."""
    model = MODELS[name]
    tx.execute(insert_ignore(tx, model), list(batch))
    number = table(model).autoincrement_column
    if number is not None and tx.dialect.name == "postgresql":
        _advance(tx, table(model), number)


def _advance(tx: Connection, found: Table, number: Column[Any]) -> None:
    sequence = func.pg_get_serial_sequence(found.name, number.name)
    newest = select(func.max(number)).scalar_subquery()
    tx.execute(select(func.setval(sequence, newest)))
