"""Reproductions are edges of the lineage graph too.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_edge = sa.table(
    "version_edge",
    sa.column("child"),
    sa.column("parent"),
    sa.column("reproduced", sa.Boolean()),
)
_version = sa.table("data_version", sa.column("id"), sa.column("key"))
_made = sa.table(
    "provenance_contribution",
    sa.column("provenance_id"),
    sa.column("version_id"),
    sa.column("is_new", sa.Boolean()),
)
_used = sa.table(
    "provenance_derivation", sa.column("provenance_id"), sa.column("version_id")
)


def upgrade() -> None:
    with op.batch_alter_table("version_edge") as table:
        table.add_column(
            sa.Column(
                "reproduced", sa.Boolean(), nullable=False, server_default=sa.false()
            )
        )
        table.drop_constraint("pk_version_edge", type_="primary")
        table.create_primary_key("pk_version_edge", ["child", "parent", "reproduced"])
    with op.batch_alter_table("version_edge") as table:
        table.alter_column("reproduced", server_default=None)
    child, parent = _version.alias("child"), _version.alias("parent")
    pairs = (
        sa.select(child.c.key, parent.c.key, sa.true())
        .select_from(_made)
        .join(_used, _used.c.provenance_id == _made.c.provenance_id)
        .join(child, child.c.id == _made.c.version_id)
        .join(parent, parent.c.id == _used.c.version_id)
        .where(_made.c.is_new.is_(False))
        .distinct()
    )
    op.execute(_edge.insert().from_select(["child", "parent", "reproduced"], pairs))


def downgrade() -> None:
    op.execute(_edge.delete().where(_edge.c.reproduced.is_(True)))
    with op.batch_alter_table("version_edge") as table:
        table.drop_constraint("pk_version_edge", type_="primary")
        table.create_primary_key("pk_version_edge", ["child", "parent"])
        table.drop_column("reproduced")
