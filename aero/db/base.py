"""Column types, the declarative base, and the schema revision this code speaks."""

from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    MetaData,
    String,
    Text,
    Uuid,
    event,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, mapped_column
from sqlalchemy.types import TypeDecorator

REVISION = "0006"
"""The newest migration, which `Database` compares with one SELECT."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; a naive one is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Refuse naive times and bring the others to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} is naive: give an aware time.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        """Return an aware time in UTC."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return value.replace(tzinfo=UTC)
        return value.astimezone(UTC)


class Printed(TypeDecorator[str]):
    """Text that a function printed, without the NULs that PostgreSQL refuses."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 -- SQLAlchemy's
        """Replace each NUL by the character that says that one is lacking."""
        return None if value is None else value.replace("\0", "\ufffd")

    process_result_value = process_bind_param
    """What SQLite stored before is read as it would be stored today."""


class JsonValue(TypeDecorator[Any]):
    """A JSON value, `None` being NULL; on PostgreSQL it is stored as JSONB."""

    impl = JSON
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """Return the type that the dialect stores."""
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        # Imported only where it is used: it is a whole dialect.
        from sqlalchemy.dialects.postgresql import JSONB

        return dialect.type_descriptor(JSONB(none_as_null=True))


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 -- SQLAlchemy reads it off the class
        datetime: UtcDateTime(),
        dict[str, Any]: JsonValue(),
        Any: JsonValue(),
        str: Text(),
    }


def only(condition: str) -> dict[str, Any]:
    """Return the `info` of an index of only those rows that meet a condition."""
    return {"where": text(condition)}


@event.listens_for(Base.metadata, "before_create")
def _say_conditions(metadata: MetaData, tx: Connection, **_: Any) -> None:
    # As arguments of the index, the conditions would import every dialect they name.
    for table in metadata.tables.values():
        for index in table.indexes:
            if "where" in index.info:
                options = index.dialect_options[tx.dialect.name]
                options["where"] = index.info["where"]


Id = Annotated[str, mapped_column(Uuid(as_uuid=False))]
"""A UUID, a `str` of 36 characters in Python."""

IdKey = Annotated[str, mapped_column(Uuid(as_uuid=False), primary_key=True)]

Sha256 = Annotated[str, mapped_column(String(64))]
