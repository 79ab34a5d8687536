"""The steps that bring a database up to date, and how Alembic takes them."""
