"""With whom data, flows and functions are shared."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Connection

from aero import records, resolve
from aero.auth.base import Role
from aero.db.queries import data as data_queries
from aero.db.queries import flows as flow_queries
from aero.db.queries import functions as function_queries
from aero.db.sight import require, require_membership
from aero.types import Json, Sharing, shared_kind

_Find = Callable[[Connection, str], Any]
_Set = Callable[..., None]
_Shape = Callable[[Connection, Sequence[Any]], list[Json]]

_KINDS: dict[str, tuple[_Find, _Set, _Shape]] = {
    "data": (resolve.data, data_queries.set_values, records.data),
    "flow": (resolve.flow, flow_queries.set_values, records.flows),
    "function": (
        resolve.function,
        function_queries.set_values,
        lambda _tx, rows: [records.function(row) for row in rows],
    ),
}


class Share:
    """Shares a thing as asked, and with nobody else.

    What belongs to a flow is not shared with it: its Data and its function are things
    of their own. Its runs and their records are seen by who sees the flow.

    Who may do it is asked once: repeated, its transaction may have ended its own right.

    Args:
        kind: `data`, `flow` or `function`.
        ref: Its id, a prefix of that or its name.
        sharing: With whom.

    Raises:
        InvalidValueError: There is no such kind.
    """

    def __init__(self, kind: str, ref: str, sharing: Sharing) -> None:
        self._kind = shared_kind(kind)
        self._ref = ref
        self._sharing = sharing
        self._found: Any = None

    def __call__(self, tx: Connection) -> Json:
        """Return its record.

        Raises:
            NotFoundError: There is no such thing.
            ForbiddenError: It belongs to somebody else, or the group is one of others.
        """
        find, set_values, shape = _KINDS[self._kind]
        if self._found is None:
            found = find(tx, self._ref)
            require(tx, found, Role.ADMIN, self._kind)
            require_membership(tx, self._sharing)
            self._found = found
        columns = self._sharing.columns
        set_values(tx, self._found.id, **columns)
        changed = SimpleNamespace(**{**self._found._mapping, **columns})
        return shape(tx, [changed])[0]
