"""Executions of flows: operational, may be pruned."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, false
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, Printed, only

PENDING = only("status = 'PENDING'")
RUNNING = only("status = 'RUNNING'")
LIMITED = only("status = 'PENDING' AND limited")


class Run(Base):
    """One execution of a flow in its slot (flow, task, source_key).

    While it has not ended, `priority` is its flow's, and `limited` says whether the
    flow has a limit; so the queue is read in order, past none that a limit holds back.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index(
            "uq_run_pending",
            "flow_id",
            "task",
            "source_key",
            unique=True,
            info=PENDING,
        ),
        Index(
            "uq_run_running",
            "flow_id",
            "task",
            "source_key",
            unique=True,
            info=RUNNING,
        ),
        Index(
            "ix_run_limited",
            "flow_id",
            "created_at",
            "id",
            info=LIMITED,
        ),
        Index(
            "ix_run_lease",
            "lease_expires",
            info=RUNNING,
        ),
        Index(None, "flow_id", "created_at", "id"),
        Index(None, "created_at", "id"),
    )

    id: Mapped[IdKey]
    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"))
    task: Mapped[int]
    source_key: Mapped[str]
    status: Mapped[str]
    priority: Mapped[int]
    limited: Mapped[bool] = mapped_column(server_default=false())
    trigger_kind: Mapped[str]
    trigger_key: Mapped[str]
    attempt: Mapped[int]
    function_failures: Mapped[int]
    lost_tries: Mapped[int]
    claim: Mapped[Id | None]
    claimed_by: Mapped[str | None]
    lease_expires: Mapped[datetime | None]
    not_before: Mapped[datetime]
    event: Mapped[Any | None]
    error_type: Mapped[str | None]
    error_message: Mapped[str | None]
    traceback: Mapped[str | None]
    log_tail: Mapped[str | None] = mapped_column(Printed())
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


Index(
    "ix_run_queue",
    Run.limited,
    Run.priority.desc(),
    Run.created_at,
    Run.id,
    info=PENDING,
)


class RunTrigger(Base):
    """Why a run is due; the primary key makes a trigger count once."""

    __tablename__ = "run_trigger"

    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"), primary_key=True)
    task: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    run_id: Mapped[Id] = mapped_column(index=True)
    created_at: Mapped[datetime]


class RunInput(Base):
    """The versions a run was given."""

    __tablename__ = "run_input"

    run_id: Mapped[Id] = mapped_column(
        ForeignKey("run.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    version_id: Mapped[Id] = mapped_column(ForeignKey("data_version.id"))


class RunStep(Base):
    """One step of one attempt."""

    __tablename__ = "run_step"

    run_id: Mapped[Id] = mapped_column(
        ForeignKey("run.id", ondelete="CASCADE"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    task_id: Mapped[str | None]
    task_group_id: Mapped[str | None]
    status: Mapped[str]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    metrics: Mapped[dict[str, Any]]


class Worker(Base):
    """A process that executes runs, and when it was last heard of."""

    __tablename__ = "worker"

    id: Mapped[IdKey]
    host: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
