"""Alembic's entry: runs migrations on the connection that the catalog hands over."""

from __future__ import annotations

from alembic import context

from registry.tables import metadata

connection = context.config.attributes["connection"]
# The catalog has begun the transaction and commits it, so all migrations land or none.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
