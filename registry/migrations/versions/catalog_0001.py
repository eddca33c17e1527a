"""Adapters, versions, aliases with their history, and leases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "adapter",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adapter"),
        sa.UniqueConstraint("name", name="uq_adapter_name"),
    )
    op.create_table(
        "version",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("adapter_id", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("base_fingerprint", sa.String(71), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_version"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name="fk_version_adapter_id"),
        sa.UniqueConstraint("adapter_id", "number", name="uq_version_adapter_id_number"),
        sa.UniqueConstraint("adapter_id", "digest", name="uq_version_adapter_id_digest"),
    )
    op.create_index("ix_version_digest", "version", ["digest"])
    _create_aliases()
    op.create_table(
        "lease",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_lease"),
        sa.UniqueConstraint("digest", "holder", name="uq_lease_digest_holder"),
    )
    op.create_index("ix_lease_expires_at", "lease", ["expires_at"])
    _forbid("UPDATE", "version", "a version is immutable")
    _forbid("UPDATE", "alias_event", "alias history is append-only")
    _forbid("DELETE", "alias_event", "alias history is append-only")


def _create_aliases() -> None:
    op.create_table(
        "alias",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("adapter_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alias"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name="fk_alias_adapter_id"),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name="fk_alias_version_id"),
        sa.UniqueConstraint("adapter_id", "name", name="uq_alias_adapter_id_name"),
    )
    op.create_table(
        "alias_event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("adapter_id", sa.Integer, nullable=False),
        sa.Column("alias", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("from_version_id", sa.Integer, nullable=True),
        sa.Column("to_version_id", sa.Integer, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alias_event"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name="fk_alias_event_adapter_id"),
        sa.ForeignKeyConstraint(
            ["from_version_id"], ["version.id"], name="fk_alias_event_from_version_id"
        ),
        sa.ForeignKeyConstraint(
            ["to_version_id"], ["version.id"], name="fk_alias_event_to_version_id"
        ),
    )


def _forbid(action: str, table: str, reason: str) -> None:
    """Hold in the database what the code promises. SQLite's spelling."""
    if op.get_context().dialect.name == "sqlite":
        op.execute(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{reason}'); END"
        )
