"""What `aero token` does, and how the server finds the tokens it made."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from aero import resolve
from aero.acting import Acting, Change
from aero.auth.base import Scope, scopes_of
from aero.auth.tokens import BETWEEN_NOTES, StaticToken, new_secret
from aero.clock import isoformat
from aero.db.queries import tokens as queries
from aero.db.session import Database
from aero.error import InvalidValueError
from aero.hashing import sha256_text
from aero.types import Json

_LONGEST = 36500


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """A token to make, its values checked."""

    id: str
    secret: str
    name: str
    owner: str
    scopes: frozenset[Scope]
    lasting: timedelta | None


def token_request(
    name: str, owner: str, scopes: Collection[str], expires_days: float | None
) -> TokenRequest:
    """Return a token to make, with a secret that nobody has seen.

    Args:
        name: What it is for, so that people know which one to revoke.
        owner: Who uses it, and will own what is created with it.
        scopes: What it is good for.
        expires_days: The days it is good for; None: until it is revoked.

    Raises:
        InvalidValueError: A value cannot be used.
    """
    for what, text in (("name", name), ("owner", owner)):
        if not text.strip() or not text.isprintable():
            raise InvalidValueError(f"The {what} of a token is empty: write a word.")
    if expires_days is not None and not 0 < expires_days <= _LONGEST:
        raise InvalidValueError(
            f"A token cannot last {expires_days} days: give up to {_LONGEST}, or "
            "nothing to let it last until it is revoked."
        )
    lasting = None if expires_days is None else timedelta(days=expires_days)
    return TokenRequest(
        id=str(uuid.uuid4()),
        secret=new_secret(),
        name=name,
        owner=owner,
        scopes=scopes_of(scopes),
        lasting=lasting,
    )


class TokenKeeping(Acting):
    """The methods of `Aero` that make, list and revoke tokens."""

    def create_token(
        self,
        name: str,
        *,
        owner: str | None = None,
        scopes: Collection[str] = (Scope.READ,),
        expires_days: float | None = None,
    ) -> Json:
        """Make a token for a user of the server.

        Args:
            name: What it is for.
            owner: Who uses it; default: the owner of this workspace.
            scopes: Of `read`, `run`, `write` and `admin`.
            expires_days: The days it is good for; None: until it is revoked.

        Returns:
            Its record, in which `token` is the secret: it is shown this once.

        Raises:
            InvalidValueError: A value cannot be used.
        """
        wanted = token_request(
            name, self.owner if owner is None else owner, scopes, expires_days
        )

        def work(tx: Connection) -> Json:
            now = self.db.now(tx)
            found = queries.by_hash(tx, sha256_text(wanted.secret))
            if found is None:
                queries.add(tx, _row(wanted, now))
                found = queries.by_hash(tx, sha256_text(wanted.secret))
            return _record(found, now)

        scopes = sorted(wanted.scopes)
        about = {"name": wanted.name, "owner": wanted.owner, "scopes": scopes}
        change = Change(what="token create", about=about)
        made = self.db.write(self._logged(work, change))
        return {**made, "token": wanted.secret}

    def list_tokens(self) -> list[Json]:
        """Return the records of all tokens, newest first, without their secrets."""

        def work(tx: Connection) -> list[Json]:
            now = self.db.now(tx)
            return [_record(row, now) for row in queries.listed(tx)]

        return self.db.look(work)

    def revoke_token(self, token: str) -> Json:
        """Refuse a token from now on; return its record.

        Args:
            token: Its id, or the first 8 or more characters of it.

        Raises:
            NotFoundError: There is no such token.
        """

        def work(tx: Connection) -> Json:
            now = self.db.now(tx)
            found = resolve.token(tx, token)
            queries.revoke(tx, found.id, now)
            return _record(resolve.token(tx, found.id), now)

        revoked: Json = self.db.write(self._logged(work, Change(what="token revoke")))
        return revoked


class Tokens:
    """The tokens in a database, as an authenticator asks for them.

    Args:
        db: The database.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def find(self, sha256: str) -> tuple[StaticToken, datetime] | None:
        """Return the token with that hash, and the database's time."""

        def work(tx: Connection) -> tuple[StaticToken, datetime] | None:
            row = queries.by_hash(tx, sha256)
            return None if row is None else (_token(row), self._db.now(tx))

        return self._db.look(work)

    def note_use(self, token_id: str, moment: datetime) -> None:
        """Store when a token was last used."""
        self._db.write(lambda tx: queries.note_use(tx, token_id, moment, BETWEEN_NOTES))


def _row(wanted: TokenRequest, now: datetime) -> Json:
    return {
        "id": wanted.id,
        "owner": wanted.owner,
        "name": wanted.name,
        "sha256": sha256_text(wanted.secret),
        "scopes": sorted(wanted.scopes),
        "created_at": now,
        "expires_at": None if wanted.lasting is None else now + wanted.lasting,
        "last_used_at": None,
        "revoked_at": None,
    }


def _token(row: Any) -> StaticToken:
    return StaticToken(
        id=row.id,
        owner=row.owner,
        scopes=scopes_of(row.scopes),
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )


def _record(row: Any, now: datetime) -> Json:
    if row.revoked_at is not None:
        state = "revoked"
    elif row.expires_at is not None and row.expires_at <= now:
        state = "expired"
    else:
        state = "valid"
    times = ("created_at", "expires_at", "last_used_at", "revoked_at")
    return {
        "id": row.id,
        "name": row.name,
        "owner": row.owner,
        "scopes": list(row.scopes),
        "state": state,
        **{name: isoformat(getattr(row, name)) for name in times},
    }
