"""Whom flows tell of failures, and an outbox of what they are told.

Revision: 0006
"""

import sqlalchemy as sa
from alembic import op

from aero.db.base import JsonValue, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("flow", sa.Column("notify", JsonValue(), nullable=True))
    op.add_column("flow", sa.Column("failing_since", UtcDateTime(), nullable=True))
    op.add_column("flow", sa.Column("failing_key", sa.Text(), nullable=True))
    op.create_table(
        "notice",
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("flow_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("run_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("facts", JsonValue(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", UtcDateTime(), nullable=True),
        sa.Column("sent_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["flow_id"], ["flow.id"], name=op.f("fk_notice_flow_id")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["run.id"],
            name=op.f("fk_notice_run_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
    )
    waiting = sa.text("not_before IS NOT NULL")
    op.create_index(
        "ix_notice_waiting",
        "notice",
        ["not_before"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
    op.create_index(
        op.f("ix_notice_flow_id_created_at"), "notice", ["flow_id", "created_at"]
    )
    op.create_index(op.f("ix_notice_run_id"), "notice", ["run_id"])


def downgrade() -> None:
    op.drop_table("notice")
    op.drop_column("flow", "failing_key")
    op.drop_column("flow", "failing_since")
    op.drop_column("flow", "notify")
