"""Limits on how many runs run at once, and a queue that is read in order.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "endpoint_limit",
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("max_running", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "max_running > 0", name=op.f("ck_endpoint_limit_max_running")
        ),
        sa.PrimaryKeyConstraint("endpoint", name=op.f("pk_endpoint_limit")),
    )
    op.add_column(
        "run",
        sa.Column("limited", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.drop_index("ix_run_queue", table_name="run")
    _index("ix_run_queue", ["limited", sa.text("priority DESC"), "created_at", "id"])
    _index("ix_run_limited", ["flow_id", "created_at", "id"], " AND limited")


def downgrade() -> None:
    op.drop_index("ix_run_limited", table_name="run")
    op.drop_index("ix_run_queue", table_name="run")
    _index("ix_run_queue", ["priority", "created_at", "id"])
    op.drop_column("run", "limited")
    op.drop_table("endpoint_limit")


def _index(name: str, columns: list[str | sa.TextClause], more: str = "") -> None:
    waiting = sa.text(f"status = 'PENDING'{more}")
    op.create_index(
        name, "run", columns, sqlite_where=waiting, postgresql_where=waiting
    )
