"""Who sees what, and who may change it: asked of the transaction they do it in.

The transactions of a request carry their viewer. A thing is seen by its owner, by
everybody if it is public, and by who has a role in its group; versions follow their
Data, runs and records follow their flow. A transaction without a viewer sees all and
may do all: those of an embedded workspace, of the engine and of administrators.
"""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from aero.auth.base import Identity, Role, greatest
from aero.db.models import Data, Flow, Function, Provenance, Run
from aero.db.queries import groups
from aero.db.queries.common import table
from aero.error import ForbiddenError
from aero.types import Json, Sharing, Visibility

HIDDEN = "(hidden)"
"""Stands for a name that is not to be seen."""

_OWNED = {Data, Flow, Function}
_OF_A_FLOW = {Run, Provenance}


class Viewer:
    """Whom a transaction is for.

    Args:
        identity: Who asks. To its groups come the static ones that it is a member of,
            which are read once, when they first matter.
    """

    def __init__(self, identity: Identity) -> None:
        self.id = identity.id
        self._given = identity.groups
        self._roles: Mapping[str, Role] | None = None

    def roles(self, tx: Connection) -> Mapping[str, Role]:
        """Return the viewer's role in each of its groups, the greatest it was given."""
        if self._roles is None:
            static = [(g, Role(name)) for g, name in groups.of_member(tx, self.id)]
            self._roles = greatest([*self._given.items(), *static])
        return self._roles


def viewer_of(tx: Connection) -> Viewer | None:
    """Return whom a transaction is for, None where all is seen and allowed."""
    found: Viewer | None = tx.get_execution_options().get("aero_viewer")
    return found


def visible(tx: Connection, model: Any) -> tuple[ColumnElement[bool], ...]:
    """Return what a query has to ask of a model's rows: nothing, or one condition."""
    viewer = viewer_of(tx)
    if viewer is None:
        return ()
    if model in _OF_A_FLOW:
        # Of another name, since the query may join the flow, too.
        flow = table(Flow).alias("seen_flow")
        seen = _shared(tx, viewer, flow.c)
        return (exists(select(flow.c.id).where(flow.c.id == model.flow_id, seen)),)
    if model not in _OWNED:
        raise TypeError(f"{model.__name__} is not for viewers.")
    return (_shared(tx, viewer, table(model).c),)


def seen_among(tx: Connection, model: Any, ids: Collection[str]) -> Collection[str]:
    """Return which of these rows of a model the viewer sees, deleted ones too."""
    seen = visible(tx, model)
    if not seen:
        return ids
    return set(
        tx.execute(select(model.id).where(model.id.in_(list(ids)), *seen)).scalars()
    )


def _shared(tx: Connection, viewer: Viewer, columns: Any) -> ColumnElement[bool]:
    conditions = [
        columns.owner == viewer.id,
        columns.visibility == Visibility.PUBLIC.value,
    ]
    roles = viewer.roles(tx)
    if roles:
        # Never NULL, so that what is not visible can be asked for as well.
        of_group = columns.visibility == Visibility.GROUP.value
        conditions.append(and_(of_group, columns.group_id.in_(sorted(roles))))
    return or_(*conditions)


def columns_of(model: Any, prefix: str) -> list[Any]:
    """Return the columns that `sees` and `require` look at, named with a prefix."""
    names = ("owner", "visibility", "group_id")
    return [table(model).c[name].label(f"{prefix}{name}") for name in names]


def role_in(tx: Connection, row: Any, prefix: str = "") -> Role | None:
    """Return what the viewer may do to a row of what has an owner, None: not see it."""
    viewer = viewer_of(tx)
    if viewer is None or getattr(row, f"{prefix}owner") == viewer.id:
        return Role.ADMIN
    visibility = getattr(row, f"{prefix}visibility")
    if visibility == Visibility.GROUP:
        return viewer.roles(tx).get(getattr(row, f"{prefix}group_id"))
    return Role.VIEWER if visibility == Visibility.PUBLIC else None


def sees(tx: Connection, row: Any, prefix: str = "") -> bool:
    """Whether the viewer sees a row that was found by another way than `visible`."""
    return role_in(tx, row, prefix) is not None


def hidden(version_id: str) -> Json:
    """Return what is told of a version that the viewer does not see."""
    return {"id": version_id, "hidden": True}


def require(
    tx: Connection, row: Any, role: Role, what: str, *, prefix: str = ""
) -> None:
    """Refuse a change unless the viewer has a role, in the group of a row that it sees.

    Args:
        tx: The transaction.
        row: Of what has an owner, who may do all.
        role: EDITOR to change and run it, ADMIN to delete and share it.
        what: The row in words: `data`, `flow` or `function`.
        prefix: Of the columns' names.

    Raises:
        ForbiddenError: The viewer has not.
    """
    found = role_in(tx, row, prefix)
    if found is None or not found.includes(role):
        group = getattr(row, f"{prefix}group_id") if found is not None else None
        whom = f"of the group {group!r}" if group else "of a group it is shared with"
        raise ForbiddenError(
            f"The {what} belongs to somebody else: be its owner, or {role.value} "
            f"{whom}, to do that.",
            role=role.value,
        )


def require_membership(tx: Connection, sharing: Sharing) -> None:
    """Refuse to share with a group that the viewer is no editor of, if it exists.

    Raises:
        ForbiddenError: The viewer is none.
    """
    viewer = viewer_of(tx)
    if viewer is None or sharing.group is None:
        return
    role = viewer.roles(tx).get(sharing.group)
    if role is None or not role.includes(Role.EDITOR):
        raise ForbiddenError(
            f"You are not an editor of the group {sharing.group!r}: name a group that "
            "you are an editor or admin of.",
            role=Role.EDITOR.value,
        )
