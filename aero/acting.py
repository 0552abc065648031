"""Whom a workspace acts for, and the log of what they change over HTTP."""

import copy
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Connection

from aero.auth.base import Identity
from aero.db.queries import tokens as queries
from aero.db.session import Database

Work = Callable[[Connection], Any]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A request that may change something.

    Attributes:
        what: Its method and route.
        about: What its path names.
    """

    what: str
    about: Mapping[str, Any]
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class Acting:
    """The part of `Aero` that knows whom it acts for."""

    owner: str
    agent: str
    identity: Identity | None = None
    _change: Change | None = None

    @property
    def db(self) -> Database:
        """The workspace's database."""
        raise NotImplementedError

    def acting_as(self, identity: Identity, change: Change | None = None) -> Self:
        """Return this workspace as somebody else's: what they create is theirs.

        It shares database and engine with this one, and is not to be closed.

        Args:
            identity: Who asks.
            change: The request; what it changes is logged in the same transaction.
        """
        view = copy.copy(self)
        view.identity = identity
        view.owner = identity.id
        view.agent = f"{identity.name}@{self.agent.rpartition('@')[2]}"
        view._change = change
        return view

    def _logged(self, work: Work) -> Work:
        """Return `work` with an entry in the audit log, if it is to be logged."""
        change = self._change
        if change is None:
            return work

        def both(tx: Connection) -> Any:
            result = work(tx)
            row = {"id": change.id, "at": self.db.now(tx), "who": self.owner}
            about = {**change.about, **_named(result)}
            queries.log(tx, {**row, "what": change.what, "about": about})
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
