"""Who may use the workspace over HTTP, and what they changed."""

from datetime import datetime
from typing import Any

from sqlalchemy import Index
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


class Audit(Base):
    """A change made over HTTP: who made it, by which request, and of what."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at", "id"),)

    id: Mapped[IdKey]
    at: Mapped[datetime]
    who: Mapped[str]
    what: Mapped[str]
    about: Mapped[dict[str, Any]]
