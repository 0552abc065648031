"""What notifications ask: which flows ingest what, and where a version came from."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    and_,
    delete,
    exists,
    literal,
    or_,
    select,
    union_all,
    update,
)

from aero.db.models import (
    Data,
    DataVersion,
    Flow,
    FlowOutput,
    Provenance,
    ProvenanceContribution,
    Run,
    SourceState,
    SourceType,
    SourceUrl,
)
from aero.db.queries.common import is_status
from aero.db.sight import columns_of, visible
from aero.types import PolicyEnum, RunStatus

_INGESTS = (
    Flow.deleted_at.is_(None),
    Flow.policy.in_([PolicyEnum.INGESTION.value, PolicyEnum.INGESTION_EVENT.value]),
)


def ingested(tx: Connection, data_id: str | None = None, *where: Any) -> Sequence[Any]:
    """Return every URL or pattern that a living flow ingests: of one Data, or of all.

    Rows have data_id, name, no_copy, first_url (the Data's), flow_id, url and typed,
    and whose Data and flow are, named data_... and flow_...
    """
    of_flow = (
        Data.id.label("data_id"),
        Data.name,
        Data.no_copy,
        Data.url.label("first_url"),
        Flow.id.label("flow_id"),
        *columns_of(Data, "data_"),
        *columns_of(Flow, "flow_"),
    )
    typed = (
        select(*of_flow, SourceUrl.url, literal(1).label("typed"))
        .join(SourceType, SourceType.id == SourceUrl.type_id)
        .join(Data, Data.id == SourceType.data_id)
    )
    plain = select(*of_flow, Data.url, literal(0).label("typed")).where(
        Data.url.is_not(None), ~exists().where(SourceType.data_id == Data.id)
    )
    found = union_all(
        *(
            side.join(FlowOutput, FlowOutput.data_id == Data.id)
            .join(Flow, Flow.id == FlowOutput.flow_id)
            .where(
                *_INGESTS, *where, *([] if data_id is None else [Data.id == data_id])
            )
            for side in (typed, plain)
        )
    )
    return tx.execute(found).all()


def seen(tx: Connection, data_id: str | None = None) -> Sequence[Any]:
    """Likewise, as far as the viewer sees both the Data and the flow."""
    return ingested(tx, data_id, *visible(tx, Data), *visible(tx, Flow))


def type_of_data(tx: Connection, data_id: str) -> str | None:
    """Return the name of the source type that a Data is behind."""
    return tx.execute(
        select(SourceType.name).where(SourceType.data_id == data_id)
    ).scalar_one_or_none()


def drop_dead_types(tx: Connection, name: str, object_key: str) -> None:
    """Delete the type of that name or key, if no living flow ingests its Data."""
    alive = (
        exists()
        .where(FlowOutput.data_id == SourceType.data_id)
        .where(Flow.id == FlowOutput.flow_id, *_INGESTS)
    )
    holders = select(SourceUrl.type_id).where(SourceUrl.object_key == object_key)
    dead = list(
        tx.execute(
            select(SourceType.id).where(
                or_(SourceType.name == name, SourceType.id.in_(holders)), ~alive
            )
        ).scalars()
    )
    if dead:
        tx.execute(delete(SourceUrl).where(SourceUrl.type_id.in_(dead)))
        tx.execute(delete(SourceType).where(SourceType.id.in_(dead)))


def pending_event(tx: Connection, flow_id: str, task: int, source_key: str) -> Any:
    """Return the event of the slot's PENDING run, None where there is none."""
    return tx.execute(
        select(Run.event).where(
            Run.flow_id == flow_id,
            Run.task == task,
            Run.source_key == source_key,
            is_status(RunStatus.PENDING),
        )
    ).scalar_one_or_none()


def waiting_slots(tx: Connection, flow_id: str) -> set[tuple[int, str]]:
    """Return (task, source key) of the slots in which a run of the flow waits."""
    rows = tx.execute(
        select(Run.task, Run.source_key).where(
            Run.flow_id == flow_id, is_status(RunStatus.PENDING)
        )
    )
    return {(row.task, row.source_key) for row in rows}


def running_in_slot(tx: Connection, flow_id: str, source_key: str) -> str | None:
    """Return the run that is RUNNING for an object of a source without kwargs."""
    return tx.execute(
        select(Run.id).where(
            Run.flow_id == flow_id,
            Run.task == 0,
            Run.source_key == source_key,
            is_status(RunStatus.RUNNING),
        )
    ).scalar_one_or_none()


def seen_objects(tx: Connection, data_id: str) -> Sequence[Any]:
    """Return source_key and url of each object of a Data that was seen so far."""
    return tx.execute(
        select(SourceState.source_key, SourceState.url)
        .where(SourceState.data_id == data_id)
        .order_by(SourceState.source_key, SourceState.task)
    ).all()


def known_as(
    tx: Connection, flow_id: str, data_id: str, keys: Collection[str]
) -> set[str]:
    """Return by which of `keys` an object was seen, or has a run that has not ended."""
    seen = select(SourceState.source_key).where(
        SourceState.data_id == data_id, SourceState.source_key.in_(list(keys))
    )
    living = [
        select(Run.source_key).where(
            Run.flow_id == flow_id, Run.source_key.in_(list(keys)), is_status(status)
        )
        for status in (RunStatus.PENDING, RunStatus.RUNNING)
    ]
    return set(tx.execute(union_all(seen, *living)).scalars())


def take(tx: Connection, run_id: str, claim: str, now: datetime) -> Any:
    """Claim a PENDING run that ends within this transaction; None if it is not."""
    return tx.execute(
        update(Run)
        .where(Run.id == run_id, is_status(RunStatus.PENDING))
        .values(status=RunStatus.RUNNING.value, claim=claim, started_at=now)
        .returning(*Run.__table__.c)
    ).one_or_none()


def origins(tx: Connection, version_ids: Collection[str]) -> dict[str, Any]:
    """Return where the objects of versions are, by version id.

    Rows have data_id, state_url, data_url and event, which is that of the
    run that made the version, as long as the run is kept.
    """
    state = and_(
        SourceState.data_id == DataVersion.data_id,
        SourceState.task == DataVersion.task,
        SourceState.source_key == DataVersion.source_key,
    )
    made = and_(
        ProvenanceContribution.version_id == DataVersion.id,
        ProvenanceContribution.is_new.is_(True),
    )
    rows = tx.execute(
        select(
            DataVersion.id,
            DataVersion.data_id,
            SourceState.url.label("state_url"),
            Data.url.label("data_url"),
            Run.event,
        )
        .join(Data, Data.id == DataVersion.data_id)
        .outerjoin(SourceState, state)
        .outerjoin(ProvenanceContribution, made)
        .outerjoin(Provenance, Provenance.id == ProvenanceContribution.provenance_id)
        .outerjoin(Run, Run.id == Provenance.run_id)
        .where(DataVersion.id.in_(list(version_ids)))
    )
    return {row.id: row for row in rows}
