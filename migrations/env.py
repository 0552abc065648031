"""Alembic's entry: runs within the transaction that `aero.db.schema` opened."""

from alembic import context

from aero.db.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
