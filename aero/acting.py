"""Whom a workspace acts for, and the log of what they change."""

import copy
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from sqlalchemy import Connection

from aero import channels, query
from aero.auth.base import Identity, Scope
from aero.config import ClientConf
from aero.db.queries import audit as queries
from aero.db.session import Database
from aero.db.sight import Viewer
from aero.types import Json

Work = Callable[[Connection], Any]

_KEYS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:aero:idempotency-key")


@dataclass(frozen=True, kw_only=True)
class Change:
    """A request or a command that may change something.

    Attributes:
        what: Its method and route, or the command.
        about: What its path or its arguments name.
    """

    what: str
    about: Mapping[str, Any] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Acting:
    """The part of `Aero` that knows whom it acts for."""

    settings: ClientConf
    owner: str
    agent: str
    identity: Identity | None = None
    _change: Change | None = None
    _db: Database

    @property
    def db(self) -> Database:
        """The workspace's database."""
        raise NotImplementedError

    def acting_as(self, identity: Identity, change: Change | None = None) -> Self:
        """Return this workspace as somebody else's: what they create is theirs.

        They see what they may see, which for an administrator is everything. It shares
        database and engine with this one, and is not to be closed.

        Args:
            identity: Who asks.
            change: The request; what it changes is logged in the same transaction.
        """
        view = copy.copy(self)
        view.identity = identity
        view.owner = identity.id
        view.agent = f"{identity.name}@{self.agent.rpartition('@')[2]}"
        view._change = change
        if not identity.may(Scope.ADMIN):
            view._db = self._db.seen_by(Viewer(identity))
        return view

    def audit(self) -> Iterator[Json]:
        """Yield the entries of the audit log, newest first: who, what, when, about."""
        return query.pages(self.db, query.audit_page())

    def _new_id(self, idempotency_key: str | None) -> str:
        """Return the id of what is to be made, the same for the same key."""
        if idempotency_key is None:
            return str(uuid.uuid4())
        return str(uuid.uuid5(_KEYS, f"{self.owner}:{idempotency_key}"))

    def _check_targets(self, found: Iterable[str]) -> None:
        """Refuse whom a flow may not tell of its failures, if this one asks."""
        channels.check(found, self.settings, from_afar=self.identity is not None)

    def _logged(self, work: Work, command: Change | None = None) -> Work:
        """Return `work` with an entry in the audit log, if it is to be logged.

        Args:
            work: A writing transaction.
            command: What is logged where no request asked for it.
        """
        change = self._change or command
        if change is None:
            return work
        if command is not None:
            change = replace(change, about={**change.about, **command.about})

        def both(tx: Connection) -> Any:
            result = work(tx)
            row = {"id": change.id, "at": self.db.now(tx), "who": self.owner}
            about = {**change.about, **_named(result)}
            queries.add(tx, {**row, "what": change.what, "about": about})
            return result

        return both


def _named(result: Any) -> dict[str, list[str]]:
    """Return the ids of what was changed, since names and prefixes pass."""
    if isinstance(result, tuple):  # and what of it was stopped
        result = result[0]
    if isinstance(result, Mapping):
        result = result.get("id")
    if isinstance(result, str):
        return {"ids": [result]}
    return {"ids": result} if isinstance(result, list) else {}
