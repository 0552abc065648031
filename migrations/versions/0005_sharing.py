"""Who sees what: visibility of data, flows and functions; members of static groups.

Revision: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OWNED = ("data", "flow", "function")


def upgrade() -> None:
    op.create_table(
        "membership",
        sa.Column("group_id", sa.Text(), nullable=False),
        sa.Column("member", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "role IN ('viewer', 'editor', 'admin')", name=op.f("ck_membership_role")
        ),
        sa.PrimaryKeyConstraint("group_id", "member", name=op.f("pk_membership")),
    )
    op.create_index(op.f("ix_membership_member"), "membership", ["member"])
    for table in _OWNED:
        _add_columns(table)


def _add_columns(table: str) -> None:
    # As constraints of columns: SQLite can add these without making the table anew.
    op.add_column(
        table,
        sa.Column(
            "visibility",
            sa.Text(),
            sa.CheckConstraint(
                "visibility IN ('private', 'group', 'public')",
                name=op.f(f"ck_{table}_visibility"),
            ),
            server_default="private",
            nullable=False,
        ),
    )
    op.add_column(
        table,
        sa.Column(
            "group_id",
            sa.Text(),
            sa.CheckConstraint(
                "(visibility = 'group') = (group_id IS NOT NULL)",
                name=op.f(f"ck_{table}_group"),
            ),
            nullable=True,
        ),
    )


def downgrade() -> None:
    for table in _OWNED:
        op.drop_column(table, "group_id")
        op.drop_column(table, "visibility")
    op.drop_index(op.f("ix_membership_member"), table_name="membership")
    op.drop_table("membership")
