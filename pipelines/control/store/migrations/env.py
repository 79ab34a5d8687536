"""How Alembic runs here: on the connection that `migrate` has locked the database with, never by itself."""

from alembic import context

from pipelines.control.store.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name
    == "sqlite",  # which can change no column of a table that is there
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
