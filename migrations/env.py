"""Alembic's entry: runs within the transaction that `aero.db.schema` opened."""

from alembic import context

from aero.db import schema
from aero.db.models import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
    **schema.comparison(connection),
)
context.run_migrations()
