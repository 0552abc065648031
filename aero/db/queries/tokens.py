"""Static tokens."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select, update

from aero.db.models import Token
from aero.db.queries.common import insert_all


def add(tx: Connection, row: Mapping[str, Any]) -> None:
    """Insert a token."""
    insert_all(tx, Token, [row])


def by_hash(tx: Connection, sha256: str) -> Row[Any] | None:
    """Return the token with that hash."""
    return tx.execute(_BY_HASH, {"sha256": sha256}).one_or_none()


_BY_HASH = select(*Token.__table__.c).where(Token.sha256 == bindparam("sha256"))


def listed(tx: Connection) -> list[Row[Any]]:
    """Return all tokens, newest first."""
    return list(tx.execute(_LISTED))


_LISTED = select(*Token.__table__.c).order_by(Token.created_at.desc(), Token.id)


def revoke(tx: Connection, token_id: str, now: datetime) -> None:
    """Revoke a token; one that was keeps the time it was."""
    mine = Token.id == token_id
    tx.execute(
        update(Token).where(mine, Token.revoked_at.is_(None)).values(revoked_at=now)
    )


def note_use(tx: Connection, token_id: str, now: datetime, since: timedelta) -> None:
    """Store that a token was used now, unless it is stored within `since`."""
    old = or_(Token.last_used_at.is_(None), Token.last_used_at <= now - since)
    tx.execute(update(Token).where(Token.id == token_id, old).values(last_used_at=now))
