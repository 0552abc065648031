"""Standing rules: which function runs on what, and when."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, Sha256, only
from aero.db.models.shared import Shared, conditions

LIVING = only("deleted_at IS NULL")


class Flow(Shared, Base):
    """Function + endpoint + inputs + outputs + kwargs + policy.

    `kwargs` is a dict, or for a sweep the list of them, one per task. `notify` is the
    list of whom it tells of failures, `failing_since` when they were told last of one
    that nothing made good yet, and `failing_key` the object that it was about.
    """

    __tablename__ = "flow"
    __table_args__ = (
        Index(
            "uq_flow_fingerprint",
            "fingerprint",
            unique=True,
            info=LIVING,
        ),
        Index(None, "created_at", "id"),
        *conditions(),
    )

    id: Mapped[IdKey]
    function_id: Mapped[Id | None] = mapped_column(
        ForeignKey("function.id"), index=True
    )
    endpoint: Mapped[str]
    pull_endpoint: Mapped[str | None]
    engine: Mapped[str]
    kwargs: Mapped[Any] = mapped_column(nullable=False)
    policy: Mapped[int]
    timer: Mapped[float | None]
    cron: Mapped[str | None]
    timezone: Mapped[str]
    next_due: Mapped[datetime | None] = mapped_column(index=True)
    enabled: Mapped[bool]
    paused_reason: Mapped[str | None]
    fingerprint: Mapped[Sha256]
    description: Mapped[str]
    retries: Mapped[int]
    timeout: Mapped[float | None]
    priority: Mapped[int]
    max_running: Mapped[int | None]
    notify: Mapped[Any | None]
    failing_since: Mapped[datetime | None]
    failing_key: Mapped[str | None]
    last_executed: Mapped[datetime | None]
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]


class EndpointLimit(Base):
    """How many runs of an endpoint may run at once, wherever they were claimed."""

    __tablename__ = "endpoint_limit"
    __table_args__ = (CheckConstraint("max_running > 0", name="max_running"),)

    endpoint: Mapped[str] = mapped_column(primary_key=True)
    max_running: Mapped[int]


class FlowInput(Base):
    """An input by the name of the function's parameter; `version` pins it."""

    __tablename__ = "flow_input"

    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"), index=True)
    version: Mapped[int | None]
    fetch: Mapped[bool]


class FlowOutput(Base):
    """An output by name; Data has one living writer."""

    __tablename__ = "flow_output"

    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    data_id: Mapped[Id] = mapped_column(ForeignKey("data.id"), index=True)
