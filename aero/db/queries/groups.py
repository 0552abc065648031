"""The members of static groups."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select

from aero.db.models import Membership
from aero.db.queries.common import upsert


def of_member(tx: Connection, member: str) -> list[tuple[str, str]]:
    """Return (group, role) of all groups that somebody belongs to."""
    return [(row.group_id, row.role) for row in tx.execute(_OF, {"member": member})]


_OF = select(Membership.group_id, Membership.role).where(
    Membership.member == bindparam("member")
)


def listed(tx: Connection, group: str | None = None) -> list[Row[Any]]:
    """Return the members of one group or of all, by group and name."""
    statement = select(*Membership.__table__.c)
    if group is not None:
        statement = statement.where(Membership.group_id == group)
    return list(tx.execute(statement.order_by(Membership.group_id, Membership.member)))


def put(tx: Connection, row: Mapping[str, Any]) -> None:
    """Insert a member, or give the one there is another role."""
    upsert(tx, Membership, [row], keys=["group_id", "member"])


def remove(tx: Connection, group: str, member: str) -> None:
    """Delete a member, who may have been deleted already."""
    tx.execute(
        delete(Membership).where(
            Membership.group_id == group, Membership.member == member
        )
    )
