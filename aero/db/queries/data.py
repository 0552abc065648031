"""Data, tags, source types, and finding things by what people call them."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Integer,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    tuple_,
)

from aero.db.models import (
    Data,
    DataTag,
    DataVersion,
    Flow,
    FlowOutput,
    Function,
    SourceType,
    SourceUrl,
    Tag,
)
from aero.db.queries.common import by_key, insert_all, insert_ignore
from aero.db.sight import columns_of, visible

PREFIX = 8


def id_range(prefix: str) -> tuple[str, str] | None:
    """Return the least and greatest UUID that start so, None if none can."""
    digits = prefix.replace("-", "").lower()
    if not PREFIX <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        return None
    return (
        str(uuid.UUID(digits.ljust(32, "0"))),
        str(uuid.UUID(digits.ljust(32, "f"))),
    )


def find(tx: Connection, ref: str, limit: int) -> Sequence[Any]:
    """Return the Data whose id is or starts with `ref`, else those of that name."""
    within = id_range(ref)
    if within:
        rows = _in_range(tx, Data, within, limit)
        if rows:
            return rows
    named = _BY_NAME.where(*visible(tx, Data))
    return tx.execute(named, {"name": ref, "most": limit}).all()


_MOST: Any = bindparam("most", type_=Integer())
_BY_NAME = (
    select(*Data.__table__.c)
    .where(Data.name == bindparam("name"))
    .order_by(Data.created_at, Data.id)
    .limit(_MOST)
)


@lru_cache
def _ranging(model: Any) -> Any:
    where = [model.deleted_at.is_(None)] if model is Flow else []
    least = bindparam("least", type_=model.id.type)
    greatest = bindparam("greatest", type_=model.id.type)
    return (
        select(*model.__table__.c)
        .where(model.id.between(least, greatest), *where)
        .limit(_MOST)
    )


def _in_range(
    tx: Connection, model: Any, within: tuple[str, str], limit: int
) -> Sequence[Any]:
    least, greatest = within
    values = {"least": least, "greatest": greatest, "most": limit}
    statement = _ranging(model).where(*visible(tx, model))
    return tx.execute(statement, values).all()


def find_flows(tx: Connection, ref: str, limit: int) -> Sequence[Any]:
    """Return the living flows whose id starts with `ref`, else those called so.

    A flow is called by its description, its function or one of its outputs.
    """
    within = id_range(ref)
    if within:
        rows = _in_range(tx, Flow, within, limit)
        if rows:
            return rows
    columns = select(*Flow.__table__.c).where(Flow.deleted_at.is_(None)).limit(limit)
    # A name that is not to be seen finds nothing, either.
    by_function = select(Function.id).where(
        Function.name == ref, *visible(tx, Function)
    )
    by_output = (
        select(FlowOutput.flow_id)
        .join(Data, Data.id == FlowOutput.data_id)
        .where(or_(and_(Data.name == ref, *visible(tx, Data)), FlowOutput.name == ref))
    )
    return tx.execute(
        columns.where(
            *visible(tx, Flow),
            or_(
                Flow.description == ref,
                Flow.function_id.in_(by_function),
                Flow.id.in_(by_output),
            ),
        ).order_by(Flow.created_at, Flow.id)
    ).all()


def find_by_id(tx: Connection, model: Any, ref: str, limit: int) -> Sequence[Any]:
    """Return the rows of a table whose id is or starts with `ref`."""
    within = id_range(ref)
    return [] if within is None else _in_range(tx, model, within, limit)


def get_many(tx: Connection, ids: Collection[str]) -> dict[str, Any]:
    """Return Data by id."""
    rows = tx.execute(select(*Data.__table__.c).where(Data.id.in_(list(ids))))
    return {row.id: row for row in rows}


def add(tx: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert Data."""
    insert_all(tx, Data, rows)


def set_values(tx: Connection, data_id: str, **values: Any) -> None:
    """Set columns of one Data."""
    tx.execute(_SET, {"key_id": data_id, **values})


_SET = by_key(Data, Data.id)


def tag(tx: Connection, data_ids: Iterable[str], names: Sequence[str]) -> None:
    """Put tags on Data."""
    if not names:
        return
    tx.execute(
        insert_ignore(tx, Tag),
        [{"id": str(uuid.uuid4()), "name": name} for name in names],
    )
    tags = tx.execute(select(Tag.id).where(Tag.name.in_(names))).scalars().all()
    rows = [{"data_id": d, "tag_id": t} for d in data_ids for t in tags]
    if rows:
        tx.execute(insert_ignore(tx, DataTag), rows)


def tags(tx: Connection, data_ids: Collection[str]) -> dict[str, list[str]]:
    """Return the tags of Data, sorted."""
    found: dict[str, list[str]] = {}
    for data_id, name in tx.execute(
        select(DataTag.data_id, Tag.name)
        .join(Tag, Tag.id == DataTag.tag_id)
        .where(DataTag.data_id.in_(list(data_ids)))
        .order_by(Tag.name)
    ):
        found.setdefault(data_id, []).append(name)
    return found


def page_of(
    tx: Connection,
    model: Any,
    moment: Any,
    after: tuple[datetime, str] | None,
    limit: int,
    *where: Any,
    offset: int = 0,
) -> Sequence[Any]:
    """Return a page of a table by (time, id), newest first."""
    statement = select(*model.__table__.c).where(*where)
    if after is not None:
        statement = statement.where(tuple_(moment, model.id) < after)
    return tx.execute(
        statement.order_by(moment.desc(), model.id.desc()).limit(limit).offset(offset)
    ).all()


def versions_page(
    tx: Connection, data_id: str, before: int | None, limit: int, offset: int = 0
) -> Sequence[Any]:
    """Return a page of versions, newest first, of numbers below `before`."""
    statement = select(*DataVersion.__table__.c).where(DataVersion.data_id == data_id)
    if before is not None:
        statement = statement.where(DataVersion.version < before)
    newest = statement.order_by(DataVersion.version.desc())
    return tx.execute(newest.limit(limit).offset(offset)).all()


def search(tx: Connection, words: Sequence[str], limit: int) -> Sequence[Any]:
    """Return the Data in which every word occurs: name, description, url or tag."""
    statement = select(*Data.__table__.c).where(*visible(tx, Data))
    for word in words:
        like = (
            "%"
            + word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
            + "%"
        )
        tagged = (
            select(DataTag.data_id)
            .join(Tag, Tag.id == DataTag.tag_id)
            .where(Tag.name.ilike(like, escape="\\"))
        )
        statement = statement.where(
            or_(
                Data.name.ilike(like, escape="\\"),
                Data.description.ilike(like, escape="\\"),
                Data.url.ilike(like, escape="\\"),
                Data.id.in_(tagged),
            )
        )
    return tx.execute(
        statement.order_by(Data.created_at.desc(), Data.id.desc()).limit(limit)
    ).all()


def types(tx: Connection, name: str | None = None) -> Sequence[Any]:
    """Return the source types, with their Data and whose they are."""
    statement = (
        select(
            SourceType.id,
            SourceType.name,
            SourceType.data_id,
            Data.description,
            Data.no_copy,
            *columns_of(Data, ""),
        )
        .join(Data, Data.id == SourceType.data_id)
        .where(*visible(tx, Data))
    )
    if name is not None:
        statement = statement.where(SourceType.name == name)
    return tx.execute(statement.order_by(SourceType.name)).all()


def type_urls(tx: Connection, type_ids: Collection[str]) -> Sequence[Any]:
    """Return type_id, url and object_key of the URLs and patterns of source types."""
    return tx.execute(
        select(SourceUrl.type_id, SourceUrl.url, SourceUrl.object_key)
        .where(SourceUrl.type_id.in_(list(type_ids)))
        .order_by(SourceUrl.url)
    ).all()


def type_known(tx: Connection, name: str) -> bool:
    """Whether there is a source type of that name, whoever sees it."""
    own = select(SourceType.id).where(SourceType.name == name)
    return tx.execute(own).first() is not None


def type_of_key(tx: Connection, object_key: str) -> Any:
    """Return the type that has registered this key: its name, and whose it is."""
    return tx.execute(
        select(SourceType.name, *columns_of(Data, ""))
        .join(SourceUrl, SourceUrl.type_id == SourceType.id)
        .join(Data, Data.id == SourceType.data_id)
        .where(SourceUrl.object_key == object_key)
    ).one_or_none()


def add_type(tx: Connection, name: str, data_id: str) -> str:
    """Insert a source type; return its id."""
    type_id = str(uuid.uuid4())
    tx.execute(insert(SourceType).values(id=type_id, name=name, data_id=data_id))
    return type_id


def add_type_url(tx: Connection, type_id: str, url: str, object_key: str) -> None:
    """Insert a URL or pattern of a source type."""
    tx.execute(
        insert(SourceUrl).values(
            id=str(uuid.uuid4()), type_id=type_id, url=url, object_key=object_key
        )
    )


def count(tx: Connection, model: Any) -> int:
    """Return the number of rows of a table."""
    return tx.execute(select(func.count()).select_from(model)).scalar_one()
