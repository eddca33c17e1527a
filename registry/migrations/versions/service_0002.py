"""What a registry of many clients needs: events, referrers, keys, audit, labels, withdrawals."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

_IMMUTABLE = (
    ("UPDATE", "version", "a version is immutable"),
    ("UPDATE", "alias_event", "alias history is append-only"),
    ("DELETE", "alias_event", "alias history is append-only"),
)
_APPEND_ONLY = (
    ("UPDATE", "event", "events are append-only"),
    ("DELETE", "event", "events are append-only"),
    ("UPDATE", "audit", "the audit log is append-only"),
)


def upgrade() -> None:
    """Add the tables; versions and aliases stay as they are."""
    _create_logs()
    _create_keys()
    _create_labels()
    _create_referrers()
    op.create_index("ix_alias_event_adapter_id_alias", "alias_event", ["adapter_id", "alias"])
    if op.get_context().dialect.name == "postgresql":
        for rule in _IMMUTABLE:
            _forbid_in_postgres(*rule)
    for rule in _APPEND_ONLY:
        _forbid(*rule)


def _create_logs() -> None:
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("adapter", sa.String(63), nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("action", sa.String(255), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def _create_keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(16), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("verbs", sa.String(255), nullable=False),
        sa.Column("patterns", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("created_by", sa.String(255), nullable=False),
        sa.Column("expires_at", sa.DateTime, nullable=True),
        sa.Column("revoked_at", sa.DateTime, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
    )
    op.create_table(
        "protected_alias",
        sa.Column("adapter_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("adapter_id", "name", name="pk_protected_alias"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name="fk_protected_alias_adapter_id"
        ),
    )


def _create_labels() -> None:
    op.create_table(
        "withdrawal",
        sa.Column("version_id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version_id", name="pk_withdrawal"),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name="fk_withdrawal_version_id"),
    )
    op.create_table(
        "base",
        sa.Column("fingerprint", sa.String(71), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "name", name="pk_base"),
    )
    op.create_table(
        "tag",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("tag", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("version_id", "tag", name="pk_tag"),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name="fk_tag_version_id"),
    )
    op.create_index("ix_tag_tag", "tag", ["tag"])
    op.create_table(
        "metric",
        sa.Column("version_id", sa.Integer, nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("version_id", "name", name="pk_metric"),
        sa.ForeignKeyConstraint(["version_id"], ["version.id"], name="fk_metric_version_id"),
    )
    op.create_index("ix_metric_name_value", "metric", ["name", "value"])


def _create_referrers() -> None:
    op.create_table(
        "referrer",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("subject", sa.String(71), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("artifact_type", sa.String(255), nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("by", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_referrer"),
        sa.UniqueConstraint("subject", "digest", name="uq_referrer_subject_digest"),
    )


def _forbid(action: str, table: str, reason: str) -> None:
    """Hold in the database what the code promises."""
    if op.get_context().dialect.name == "postgresql":
        _forbid_in_postgres(action, table, reason)
        return
    op.execute(
        f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{reason}'); END"
    )


def _forbid_in_postgres(action: str, table: str, reason: str) -> None:
    name = f"{table}_no_{action.lower()}"
    op.execute(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{reason}'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {name} BEFORE {action} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
    )
