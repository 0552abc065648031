"""Failure notices: an outbox, written by the transaction that ends a run."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, Id, IdKey, only

WAITING = only("not_before IS NOT NULL")


class Notice(Base):
    """What one receiver is told of the end of a run; the id makes it count once.

    It is sent from `not_before` on, which is NULL once it was sent or given up. Whoever
    sends it counts an attempt first; `error` says how the last one failed.
    """

    __tablename__ = "notice"
    __table_args__ = (
        Index("ix_notice_waiting", "not_before", info=WAITING),
        Index(None, "flow_id", "created_at"),
    )

    id: Mapped[IdKey]
    flow_id: Mapped[Id] = mapped_column(ForeignKey("flow.id"))
    run_id: Mapped[Id] = mapped_column(
        ForeignKey("run.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str]
    target: Mapped[str]
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    not_before: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
