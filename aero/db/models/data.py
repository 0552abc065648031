"""Named products, their versions, and what is known of their sources."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, Sha256
from aero.db.models.shared import Shared, conditions

# SQLite gives out rowids only to a column declared INTEGER.
_Key = BigInteger().with_variant(Integer(), "sqlite")


class Data(Shared, Base):
    """A named product with versions 1..n; a source is Data with a URL."""

    __tablename__ = "data"
    __table_args__ = (Index(None, "created_at", "id"), *conditions())

    id: Mapped[IdKey]
    name: Mapped[str] = mapped_column(index=True)
    url: Mapped[str | None]
    description: Mapped[str]
    storage: Mapped[str]
    collection_uuid: Mapped[str | None]
    collection_url: Mapped[str | None]
    no_copy: Mapped[bool]
    created_at: Mapped[datetime]


class Tag(Base):
    """A word that Data is found by."""

    __tablename__ = "tag"

    id: Mapped[IdKey]
    name: Mapped[str] = mapped_column(unique=True)


class DataTag(Base):
    """Which Data carries which tag."""

    __tablename__ = "data_tag"

    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"), primary_key=True)
    tag_id: Mapped[Id] = mapped_column(
        ForeignKey("tag.id"), primary_key=True, index=True
    )


class SourceState(Base):
    """What a task's last good poll of one object of a source left behind.

    The tasks of a sweep poll the same source one by one: what one of them has seen,
    another may still have to work on.
    """

    __tablename__ = "source_state"

    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"), primary_key=True)
    task: Mapped[int] = mapped_column(primary_key=True)
    source_key: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    raw_sha256: Mapped[Sha256 | None]
    last_checked: Mapped[datetime]


class SourceType(Base):
    """A group of object URLs or patterns under one Data."""

    __tablename__ = "source_type"

    id: Mapped[IdKey]
    name: Mapped[str] = mapped_column(unique=True)
    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"), unique=True)


class SourceUrl(Base):
    """One URL or pattern of a source type."""

    __tablename__ = "source_url"

    id: Mapped[IdKey]
    type_id: Mapped[Id] = mapped_column(ForeignKey("source_type.id"), index=True)
    url: Mapped[str]
    object_key: Mapped[str] = mapped_column(unique=True)


class DataVersion(Base):
    """One immutable version of Data; `key` is for joins, `id` for people."""

    __tablename__ = "data_version"
    __table_args__ = (
        UniqueConstraint("data_id", "version"),
        CheckConstraint("sha256 IS NOT NULL OR etag IS NOT NULL", name="content"),
        Index(None, "data_id", "task", "source_key", "version"),
        Index(None, "sha256"),
    )

    key: Mapped[int] = mapped_column(_Key, primary_key=True, autoincrement=True)
    id: Mapped[Id] = mapped_column(unique=True)
    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"))
    version: Mapped[int]
    task: Mapped[int]
    source_key: Mapped[str]
    sha256: Mapped[Sha256 | None]
    etag: Mapped[str | None]
    size: Mapped[int | None] = mapped_column(BigInteger)
    media_type: Mapped[str]
    encoding: Mapped[str | None]
    file_name: Mapped[str]
    uri: Mapped[str | None]
    created_at: Mapped[datetime]


class VersionEdge(Base):
    """`child` was made from `parent`: the lineage graph over integer keys.

    With `reproduced` it existed before, and was made again from `parent`.
    """

    __tablename__ = "version_edge"
    __table_args__ = (Index(None, "parent", "child"),)

    child: Mapped[int] = mapped_column(
        _Key, ForeignKey("data_version.key"), primary_key=True
    )
    parent: Mapped[int] = mapped_column(
        _Key, ForeignKey("data_version.key"), primary_key=True
    )
    reproduced: Mapped[bool] = mapped_column(primary_key=True)
