"""Who may use the workspace, and what they changed."""

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped, mapped_column

from aero.db.base import Base, IdKey, Sha256


class Token(Base):
    """A static token; of its secret there is only the hash."""

    __tablename__ = "token"

    id: Mapped[IdKey]
    owner: Mapped[str]
    name: Mapped[str]
    sha256: Mapped[Sha256] = mapped_column(unique=True)
    scopes: Mapped[Any]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Membership(Base):
    """What role somebody has in a static group."""

    __tablename__ = "membership"
    __table_args__ = (
        CheckConstraint("role IN ('viewer', 'editor', 'admin')", name="role"),
    )

    group_id: Mapped[str] = mapped_column(primary_key=True)
    member: Mapped[str] = mapped_column(primary_key=True, index=True)
    role: Mapped[str]


class Audit(Base):
    """A change: who made it, by which request or command, and of what."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at", "id"),)

    id: Mapped[IdKey]
    at: Mapped[datetime]
    who: Mapped[str]
    what: Mapped[str]
    about: Mapped[dict[str, Any]]
