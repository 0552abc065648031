"""What belongs to somebody, and who else sees it."""

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column


class Shared:
    """The columns of what has an owner; `group_id` is set when a group sees it."""

    owner: Mapped[str]
    visibility: Mapped[str] = mapped_column(server_default="private")
    group_id: Mapped[str | None]


def conditions() -> tuple[CheckConstraint, ...]:
    """Return what the database sees to, anew for each table."""
    return (
        CheckConstraint(
            "visibility IN ('private', 'group', 'public')", name="visibility"
        ),
        CheckConstraint(
            "(visibility = 'group') = (group_id IS NOT NULL)", name="group"
        ),
    )
