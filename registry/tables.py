"""The catalog's tables. `registry/migrations` creates them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# Times are UTC, written without a zone: SQLite keeps none.

adapter = Table(
    "adapter",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("created_at", DateTime, nullable=False),
)

# Immutable: a trigger refuses updates.
version = Table(
    "version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapter.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String(71), nullable=False, index=True),
    Column("manifest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("base_fingerprint", String(71), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("created_by", String(255), nullable=False),
    UniqueConstraint("adapter_id", "number"),
    UniqueConstraint("adapter_id", "digest"),
)

alias = Table(
    "alias",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapter.id"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("version_id", ForeignKey("version.id"), nullable=False),
    Column("updated_at", DateTime, nullable=False),
    UniqueConstraint("adapter_id", "name"),
)

# Append-only: triggers refuse updates and deletes.
alias_event = Table(
    "alias_event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapter.id"), nullable=False),
    Column("alias", String(63), nullable=False),
    Column("kind", String(16), nullable=False),  # "set" or "rollback"
    Column("from_version_id", ForeignKey("version.id"), nullable=True),
    Column("to_version_id", ForeignKey("version.id"), nullable=False),
    Column("at", DateTime, nullable=False),
    Column("by", String(255), nullable=False),
    Column("why", Text, nullable=False),
)

# Who is using a version, until when: what garbage collection must spare.
lease = Table(
    "lease",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", String(71), nullable=False),
    Column("holder", String(255), nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("expires_at", DateTime, nullable=False, index=True),
    UniqueConstraint("digest", "holder"),
)
