"""Static tokens: made, listed and revoked by `aero token`, stored as hashes only."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

from aero.auth.base import Identity, Scope, refused
from aero.hashing import sha256_text

PREFIX = "aero_"
"""Begins every token, so that people and scanners know one where it does not belong."""

BETWEEN_NOTES = timedelta(minutes=1)
"""How long the use of a token is not stored again."""

_BYTES = 32
_LONGEST = 200
_REMEMBERED = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class StaticToken:
    """What is stored of a token, but its hash."""

    id: str
    owner: str
    scopes: frozenset[Scope]
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class TokenStore(Protocol):
    """Where static tokens are."""

    def find(self, sha256: str) -> tuple[StaticToken, datetime] | None:
        """Return the token with that hash, and the store's time, by which it ends."""
        ...

    def note_use(self, token_id: str, moment: datetime) -> None:
        """Store when a token was last used."""
        ...


class StaticTokens:
    """Knows who asks by the tokens in a store, which is asked every time.

    Args:
        store: Where they are.
    """

    loopback_only = False
    scheme: Mapping[str, Any] = MappingProxyType(
        {
            "type": "http",
            "scheme": "bearer",
            "description": "A token that `aero token create` made.",
        }
    )

    def __init__(self, store: TokenStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._noted: OrderedDict[str, datetime] = OrderedDict()

    def identify(self, token: str | None) -> Identity:
        """Return the owner of a token, who has its scopes.

        Raises:
            UnauthorizedError: It is missing, unknown, expired or revoked.
        """
        if token is None or not token.startswith(PREFIX) or len(token) > _LONGEST:
            raise refused()
        # Of a secret of 256 random bits a plain hash is enough, and finding it by an
        # index tells nobody anything about it.
        found = self._store.find(sha256_text(token))
        if found is None:
            raise refused()
        known, now = found
        expired = known.expires_at is not None and known.expires_at <= now
        if expired or known.revoked_at is not None:
            raise refused()
        if self._is_news(known, now):
            self._store.note_use(known.id, now)
        return Identity(id=known.owner, name=known.owner, scopes=known.scopes)

    def _is_news(self, known: StaticToken, now: datetime) -> bool:
        """Whether to store that a token was used, which one request a minute does."""
        with self._lock:
            times = (known.last_used_at, self._noted.get(known.id))
            if any(t is not None and now - t < BETWEEN_NOTES for t in times):
                return False
            self._noted[known.id] = now
            self._noted.move_to_end(known.id)
            if len(self._noted) > _REMEMBERED:
                self._noted.popitem(last=False)
            return True


def new_secret() -> str:
    """Return a new token: the prefix and 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_BYTES)
