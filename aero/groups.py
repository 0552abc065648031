"""What `aero group` does: static groups, beside those of Globus."""

from sqlalchemy import Connection

from aero import records
from aero.acting import Acting, Change
from aero.auth.base import Role
from aero.db.queries import groups as queries
from aero.error import InvalidValueError, NotFoundError
from aero.types import Json, group_name


def role_named(name: str) -> Role:
    """Return the role of that name.

    Raises:
        InvalidValueError: There is none.
    """
    try:
        return Role(name)
    except ValueError:
        raise InvalidValueError(
            f"There is no role {name!r}: write {', '.join(Role)}."
        ) from None


class GroupKeeping(Acting):
    """The methods of `Aero` that say who belongs to which group."""

    def add_member(self, group: str, member: str, role: str = Role.VIEWER) -> Json:
        """Make somebody a member of a group, or give a member another role.

        A group is there as soon as it has a member. The role counts from the member's
        next request on.

        Args:
            group: The name of the group, or the id of one of Globus.
            member: Whose role it is: the owner of a token, or an id of Globus Auth.
            role: `viewer`, `editor` or `admin`.

        Returns:
            The record: `group`, `member` and `role`.

        Raises:
            InvalidValueError: A value cannot be used.
        """
        if not isinstance(member, str) or not member.strip():
            raise InvalidValueError(f"{member!r} is nobody: write a user's name.")
        row: Json = {
            "group_id": group_name(group),
            "member": member,
            "role": role_named(role).value,
        }
        record: Json = {"group": group, "member": member, "role": row["role"]}
        change = Change(what="group add", about=record)
        self.db.write(self._logged(lambda tx: queries.put(tx, row), change))
        return record

    def remove_member(self, group: str, member: str) -> Json:
        """Take somebody's role in a group away; return the record it had.

        Raises:
            NotFoundError: There is no such member.
        """
        found = [m for m in self.list_members(group) if m["member"] == member]
        if not found:
            raise NotFoundError(
                f"{member!r} is no member of the group {group!r}: 'aero group list' "
                "shows the members."
            )
        change = Change(what="group remove", about=found[0])

        def work(tx: Connection) -> None:
            queries.remove(tx, group, member)

        self.db.write(self._logged(work, change))
        return found[0]

    def list_members(self, group: str | None = None) -> list[Json]:
        """Return the members of one static group, or of all, by group and name."""
        return self.db.look(
            lambda tx: [records.member(row) for row in queries.listed(tx, group)]
        )
