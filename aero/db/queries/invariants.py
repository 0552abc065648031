"""The laws that the tables obey, each as the SELECT of the rows that break it.

A law looks at whole tables in one statement, and so sees one moment; what it finds is
paged by key. The sentences say what is wrong and what to do.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Row,
    String,
    and_,
    bindparam,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    tuple_,
)

from aero.db.base import Base, UtcDateTime
from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    FlowOutput,
    Notice,
    Provenance,
    ProvenanceContribution,
    ProvenanceDerivation,
    ProvenanceSource,
    Run,
    RunTrigger,
    VersionEdge,
    Worker,
)
from aero.db.queries.common import is_status, table
from aero.types import RunStatus

PAGE = 500

_RESTORE = (
    "restore the database from a backup, or, if nobody changed it by hand, report this"
)
_PENDING = is_status(RunStatus.PENDING)
_RUNNING = is_status(RunStatus.RUNNING)
_LIVING = Run.status.in_([RunStatus.PENDING.value, RunStatus.RUNNING.value])
_COMMITTED = [RunStatus.SUCCEEDED.value, RunStatus.UNCHANGED.value]


@dataclass(frozen=True, kw_only=True)
class Law:
    """What holds of every row of `of`.

    Attributes:
        check: The check it belongs to.
        of: The table that is looked at.
        key: What tells the rows of `broken` apart, in an order that has an index.
        broken: The rows that break it.
        says: A sentence about a row, with its columns to be filled in.
    """

    check: str
    of: type[Base]
    key: tuple[Any, ...]
    broken: Any
    says: str


def broken(
    tx: Connection, law: Law, moments: Mapping[str, Any], after: Row[Any] | None
) -> list[Row[Any]]:
    """Return the rows that break a law, one page of them by its key."""
    names = [f"key_{number}" for number in range(len(law.key))]
    labelled = [key.label(name) for key, name in zip(law.key, names, strict=True)]
    query = law.broken.add_columns(*labelled).order_by(*law.key).limit(PAGE)
    if after is not None:
        query = query.where(_beyond(law.key, [after._mapping[n] for n in names]))
    return list(tx.execute(query, dict(moments)))


def count(tx: Connection, model: type[Base]) -> int:
    """Return the number of rows of a table."""
    return tx.execute(select(func.count()).select_from(model)).scalar_one()


@lru_cache
def laws() -> tuple[Law, ...]:
    """Return all laws, those of one check together."""
    return (
        *_versions(),
        *_records(),
        *_lineage(),
        *_orphans(),
        *_slots(),
        *_runs(),
        *_triggers(),
        *_stuck(),
    )


def _moment(name: str) -> Any:
    return bindparam(name, type_=UtcDateTime())


def _name(version: Any = DataVersion) -> Any:
    """Return `cases@2`, of a Data that may be missing."""
    name = select(Data.name).where(Data.id == version.data_id).scalar_subquery()
    return (func.coalesce(name, "?") + "@" + cast(version.version, String)).label(
        "version"
    )


def _versions() -> Iterator[Law]:
    last, first = func.max(DataVersion.version), func.min(DataVersion.version)
    numbers = func.count(DataVersion.version.distinct())
    yield Law(
        check="versions",
        of=Data,
        key=(DataVersion.data_id,),
        broken=select(
            DataVersion.data_id,
            first.label("first"),
            last.label("last"),
            func.count().label("count"),
        )
        .group_by(DataVersion.data_id)
        .having(or_(first != 1, last != numbers, func.count() != numbers)),
        says="The {count} versions of Data {data_id} are numbered {first} to {last}, "
        f"not 1 to {{count}}: {_RESTORE}.",
    )
    older, newer = DataVersion.__table__.alias(), DataVersion.__table__.alias()
    slot = ("data_id", "task", "source_key")
    previous = (
        select(func.max(older.c.version))
        .where(
            *(older.c[each] == newer.c[each] for each in slot),
            older.c.version < newer.c.version,
        )
        .correlate(newer)
        .scalar_subquery()
    )
    other = DataVersion.__table__.alias()
    # An event may ask for a version of the same content.
    by_itself = (
        exists()
        .where(
            ProvenanceContribution.version_id == newer.c.id,
            ProvenanceContribution.is_new.is_(True),
            Provenance.id == ProvenanceContribution.provenance_id,
            Run.id == Provenance.run_id,
            Run.event.is_(None),
        )
        .correlate(newer)
    )
    yield Law(
        check="versions",
        of=DataVersion,
        key=(newer.c.key,),
        broken=select(_name(newer.c), other.c.version.label("before"))
        .select_from(newer)
        .join(
            other,
            and_(other.c.data_id == newer.c.data_id, other.c.version == previous),
        )
        .where(other.c.sha256 == newer.c.sha256, by_itself),
        says="{version} has the content of version {before}, which was the newest of "
        f"its slot: {_RESTORE}.",
    )


def _records() -> Iterator[Law]:
    makers = (
        select(func.count())
        .where(
            ProvenanceContribution.version_id == DataVersion.id,
            ProvenanceContribution.is_new.is_(True),
        )
        .scalar_subquery()
    )
    yield Law(
        check="records",
        of=DataVersion,
        key=(DataVersion.key,),
        broken=select(_name(), DataVersion.id, makers.label("records")).where(
            makers != 1
        ),
        says="{records} records, not one, say that they made {version} ({id}): "
        f"{_RESTORE}.",
    )
    record = exists().where(Provenance.run_id == Run.id)
    polls = (
        exists()
        .where(FlowOutput.flow_id == Run.flow_id, Data.id == FlowOutput.data_id)
        .where(
            Data.url.is_not(None),
            or_(
                Data.no_copy.is_(True),
                exists().where(Provenance.flow_id == Run.flow_id),
            ),
        )
        .correlate(Run)
    )
    yield Law(
        check="records",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id, Run.status).where(
            Run.status.in_(_COMMITTED),
            ~record,
            or_(Run.status == RunStatus.SUCCEEDED.value, ~polls),
        ),
        says=f"Run {{id}} is {{status}} and left no record: {_RESTORE}.",
    )
    made = exists().where(
        ProvenanceContribution.provenance_id == Provenance.id,
        ProvenanceContribution.is_new.is_(True),
    )
    yield Law(
        check="records",
        of=Provenance,
        key=(Provenance.id,),
        broken=select(Provenance.id, Provenance.run_id, Run.status)
        .join(Run, Run.id == Provenance.run_id)
        .where(
            or_(
                Run.status.not_in(_COMMITTED),
                and_(Run.status == RunStatus.UNCHANGED.value, made),
            )
        ),
        says="Record {id} is of a run that made versions, but run {run_id} is "
        f"{{status}}: {_RESTORE}.",
    )


def _lineage() -> Iterator[Law]:
    child, parent = DataVersion.__table__.alias(), DataVersion.__table__.alias()
    made, used = ProvenanceContribution, ProvenanceDerivation
    recorded = (
        used.provenance_id == made.provenance_id,
        child.c.id == made.version_id,
        parent.c.id == used.version_id,
    )
    again = VersionEdge.reproduced != made.is_new
    edge = exists().where(
        VersionEdge.child == child.c.key, VersionEdge.parent == parent.c.key, again
    )
    yield Law(
        check="lineage",
        of=used,
        key=(made.provenance_id, made.name, used.name),
        broken=select(
            made.provenance_id,
            _name(child.c).label("made"),
            _name(parent.c).label("used"),
        ).where(*recorded, ~edge),
        says="Record {provenance_id} made {made} from {used}, which the lineage does "
        f"not show: {_RESTORE}.",
    )
    wanted = (
        exists()
        .where(child.c.key == VersionEdge.child, parent.c.key == VersionEdge.parent)
        .where(*recorded, again)
        .correlate(VersionEdge)
    )
    ends = DataVersion.__table__.alias(), DataVersion.__table__.alias()
    yield Law(
        check="lineage",
        of=VersionEdge,
        key=(VersionEdge.child, VersionEdge.parent, VersionEdge.reproduced),
        broken=select(_name(ends[0].c).label("made"), _name(ends[1].c).label("used"))
        .join(ends[0], ends[0].c.key == VersionEdge.child)
        .join(ends[1], ends[1].c.key == VersionEdge.parent)
        .where(~wanted),
        says="The lineage shows {made} made from {used}, which no record says: "
        f"{_RESTORE}.",
    )
    yield Law(
        check="lineage",
        of=used,
        key=(used.provenance_id, used.name),
        broken=select(used.provenance_id, used.name)
        .join(Provenance, Provenance.id == used.provenance_id)
        .join(DataVersion, DataVersion.id == used.version_id)
        .where(
            or_(
                used.flow_id != Provenance.flow_id,
                used.task != Provenance.task,
                used.version != DataVersion.version,
            )
        ),
        says="Record {provenance_id} repeats its flow, task or version of {name} "
        f"wrongly: {_RESTORE}.",
    )


def _orphans() -> Iterator[Law]:
    """Yield a law for every foreign key, which a database may have been without."""
    for mapper in sorted(Base.registry.mappers, key=lambda m: m.class_.__tablename__):
        found = table(mapper.class_)
        for key in sorted(found.foreign_keys, key=lambda k: str(k.parent.name)):
            there = key.column.table.alias()
            held = exists().where(there.c[key.column.name] == key.parent)
            yield Law(
                check="orphans",
                of=mapper.class_,
                key=tuple(found.primary_key),
                broken=select(key.parent.label("value")).where(
                    key.parent.is_not(None), ~held
                ),
                says=f"A row of {found.name} names the {key.column.table.name} "
                f"{{value}} as its {key.parent.name}, which is not there: {_RESTORE}.",
            )


def _slots() -> Iterator[Law]:
    slot = (Run.flow_id, Run.task, Run.source_key)
    for status in (RunStatus.PENDING, RunStatus.RUNNING):
        yield Law(
            check="slots",
            of=Run,
            key=slot,
            broken=select(*slot, func.count().label("count"))
            .where(is_status(status))
            .group_by(*slot)
            .having(func.count() > 1),
            says=f"{{count}} runs are {status.value} in the slot of flow {{flow_id}}, "
            "task {task}, object {source_key!r}: 'aero cancel' all but one.",
        )


def _runs() -> Iterator[Law]:
    held = Run.status == RunStatus.RUNNING.value
    yield Law(
        check="runs",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id, Run.status).where(
            or_(
                Run.status.not_in([status.value for status in RunStatus]),
                held != Run.lease_expires.is_not(None),
                and_(held, Run.claim.is_(None)),
                Run.finished_at.is_not(None) == _LIVING,
            )
        ),
        says="Run {id} is {status}, and its lease, claim or end are not those of such "
        f"a run: {_RESTORE}.",
    )
    yield Law(
        check="runs",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id, Run.status, Run.flow_id)
        .join(Flow, Flow.id == Run.flow_id)
        .where(_LIVING, Flow.deleted_at.is_not(None)),
        says="Run {id} is {status} though its flow {flow_id} was deleted: end it with "
        "'aero cancel {id}'.",
    )


def _triggers() -> Iterator[Law]:
    yield Law(
        check="triggers",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id).where(~exists().where(RunTrigger.run_id == Run.id)),
        says=f"Run {{id}} is due to no trigger: {_RESTORE}.",
    )
    yield Law(
        check="triggers",
        of=RunTrigger,
        key=(RunTrigger.flow_id, RunTrigger.task, RunTrigger.key),
        broken=select(RunTrigger.flow_id, RunTrigger.key, RunTrigger.run_id).where(
            RunTrigger.created_at >= _moment("kept_since"),
            ~exists().where(Run.id == RunTrigger.run_id),
        ),
        says="Trigger {key} of flow {flow_id} names run {run_id}, which is not there: "
        f"{_RESTORE}.",
    )


def _stuck() -> Iterator[Law]:
    alive = exists().where(Worker.seen_at > _moment("alive_since"))
    yield Law(
        check="stuck",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id, Run.lease_expires).where(
            _RUNNING,
            Run.lease_expires <= _moment("now"),
            or_(~alive, Run.lease_expires <= _moment("overdue")),
        ),
        says="Run {id} is RUNNING, but who worked on it was last heard of before "
        "{lease_expires:%Y-%m-%d %H:%M:%S}Z: start 'aero work', which takes it over.",
    )
    busy = Run.__table__.alias("busy")
    working = exists().where(is_status(RunStatus.RUNNING, busy.c.status))
    yield Law(
        check="stuck",
        of=Run,
        key=(Run.id,),
        broken=select(Run.id, Run.not_before)
        .join(Flow, Flow.id == Run.flow_id)
        .where(
            _PENDING,
            Run.not_before <= _moment("overdue"),
            Flow.enabled.is_(True),
            Flow.deleted_at.is_(None),
            Flow.endpoint.in_(bindparam("endpoints", expanding=True)),
            alive,
            ~working,
        ),
        says="Run {id} could start since {not_before:%Y-%m-%d %H:%M:%S}Z, and those "
        "who work do nothing: restart 'aero work'.",
    )
    yield Law(
        check="stuck",
        of=Notice,
        key=(Notice.id,),
        broken=select(Notice.id, Notice.flow_id, Notice.not_before).where(
            Notice.not_before <= _moment("untold_since"), alive
        ),
        says="Notice {id} of flow {flow_id} could be sent since "
        "{not_before:%Y-%m-%d %H:%M:%S}Z, and those who work do not: restart "
        "'aero work'.",
    )


def versions_kept(tx: Connection, after: Row[Any] | None) -> list[Row[Any]]:
    """Return versions whose bytes should be kept, one page by their integer key."""
    last = 0 if after is None else after.key
    query = (
        select(
            DataVersion.key,
            _name(),
            DataVersion.sha256,
            DataVersion.size,
            DataVersion.uri,
        )
        .where(DataVersion.sha256.is_not(None), DataVersion.key > last)
        .order_by(DataVersion.key)
        .limit(PAGE)
    )
    return list(tx.execute(query))


def downloads_kept(tx: Connection, after: Row[Any] | None) -> list[Row[Any]]:
    """Return downloads whose bytes were kept, one page by record and output name."""
    key = (ProvenanceSource.provenance_id, ProvenanceSource.name)
    query = select(
        *key, ProvenanceSource.sha256, ProvenanceSource.size, ProvenanceSource.uri
    ).where(ProvenanceSource.uri.is_not(None))
    if after is not None:
        query = query.where(_beyond(key, (after.provenance_id, after.name)))
    return list(tx.execute(query.order_by(*key).limit(PAGE)))


def _beyond(key: Sequence[Any], values: Sequence[Any]) -> Any:
    """Return the condition of the rows that come after the one of these values."""
    typed = map(literal, values, [column.type for column in key])
    return tuple_(*key) > tuple_(*typed)


def users(tx: Connection, sha256: str, limit: int) -> list[str]:
    """Return what refers to an object: versions, and downloads by their record."""
    versions = tx.execute(
        select(_name()).where(DataVersion.sha256 == sha256).limit(limit)
    )
    records = tx.execute(
        select(ProvenanceSource.provenance_id)
        .where(ProvenanceSource.sha256 == sha256, ProvenanceSource.uri.is_not(None))
        .limit(limit)
    )
    return [
        *versions.scalars(),
        *(f"the download of record {each}" for each in records.scalars()),
    ][:limit]
