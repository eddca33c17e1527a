"""The catalog's tables. `registry/migrations` creates them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
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
    Column("kind", String(16), nullable=False),  # alias_history.AliasKind
    Column("from_version_id", ForeignKey("version.id"), nullable=True),
    Column("to_version_id", ForeignKey("version.id"), nullable=False),
    Column("at", DateTime, nullable=False),
    Column("by", String(255), nullable=False),
    Column("why", Text, nullable=False),
    Column("weight", Integer, nullable=True),  # a canary's share after it, in per cent
    Index(None, "adapter_id", "alias"),
)

# Trials of a version behind an alias. One per alias runs at a time; ended ones stay.
canary = Table(
    "canary",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("adapter_id", ForeignKey("adapter.id"), nullable=False),
    Column("alias", String(63), nullable=False),
    Column("stable_version_id", ForeignKey("version.id"), nullable=False),
    Column("target_version_id", ForeignKey("version.id"), nullable=False),
    Column("rules", Text, nullable=False),  # JSON
    Column("step", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),  # canary.record.State
    Column("started_at", DateTime, nullable=False),
    Column("step_at", DateTime, nullable=False),
    Column("ended_at", DateTime, nullable=True),
    Column("by", String(255), nullable=False),
    Column("why", Text, nullable=False),
    Column("verdict", Text, nullable=False),
    Index(None, "adapter_id", "alias"),
)

# What each server has seen of a running canary's steps; gone when the canary ends.
canary_report = Table(
    "canary_report",
    metadata,
    Column("canary_id", ForeignKey("canary.id"), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("holder", String(255), primary_key=True),
    Column("at", DateTime, nullable=False),
    Column("stable", Text, nullable=False),  # canary.outcomes.Outcomes as JSON
    Column("target", Text, nullable=False),
    Column("refusal", Text, nullable=False),
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

_LONG = BigInteger().with_variant(Integer, "sqlite")

# The feed, append-only: writers come one at a time, so numbers are in the order of commits.
event = Table(
    "event",
    metadata,
    Column("id", _LONG, primary_key=True),
    Column("at", DateTime, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("adapter", String(63), nullable=False),
    Column("by", String(255), nullable=False),
    Column("data", Text, nullable=False),  # a JSON object
    sqlite_autoincrement=True,
)

# What was asked for over HTTP that changes something, granted or not; append-only.
audit = Table(
    "audit",
    metadata,
    Column("id", _LONG, primary_key=True),
    Column("at", DateTime, nullable=False, index=True),
    Column("by", String(255), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(255), nullable=False),
    Column("status", Integer, nullable=False),
    sqlite_autoincrement=True,
)

# Only a secret's sha256 is kept. Verbs and patterns are separated by spaces.
api_key = Table(
    "api_key",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("verbs", String(255), nullable=False),
    Column("patterns", Text, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("expires_at", DateTime, nullable=True),
    Column("revoked_at", DateTime, nullable=True),
)

# Aliases that only keys with the verb `protect` may move.
protected_alias = Table(
    "protected_alias",
    metadata,
    Column("adapter_id", ForeignKey("adapter.id"), primary_key=True),
    Column("name", String(63), primary_key=True),
)

# Versions that nobody finds any more. Their numbers are not given out again.
withdrawal = Table(
    "withdrawal",
    metadata,
    Column("version_id", ForeignKey("version.id"), primary_key=True, autoincrement=False),
    Column("at", DateTime, nullable=False),
    Column("by", String(255), nullable=False),
    Column("why", Text, nullable=False),
)

# What to search by: names of bases, tags and numbers of versions.
base = Table(
    "base",
    metadata,
    Column("fingerprint", String(71), primary_key=True),
    Column("name", String(255), primary_key=True),
)

tag = Table(
    "tag",
    metadata,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("tag", String(63), primary_key=True, index=True),
)

metric = Table(
    "metric",
    metadata,
    Column("version_id", ForeignKey("version.id"), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("value", Float, nullable=False),
    Index(None, "name", "value"),
)

# Who is told of events. Secrets sign, so they are kept as they are.
webhook = Table(
    "webhook",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("kinds", Text, nullable=False),  # globs, separated by spaces, as the patterns
    Column("patterns", Text, nullable=False),
    Column("cursor", BigInteger, nullable=False),  # the last event that is done with
    Column("failures", Integer, nullable=False),
    Column("next_at", DateTime, nullable=False),
    Column("claimed_until", DateTime, nullable=False),
    Column("created_at", DateTime, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("disabled_at", DateTime, nullable=True),
)

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", _LONG, primary_key=True),
    Column("webhook_id", ForeignKey("webhook.id"), nullable=False, index=True),
    Column("event_id", BigInteger, nullable=False),
    Column("at", DateTime, nullable=False),
    Column("status", Integer, nullable=True),
    Column("error", Text, nullable=False),
    Column("seconds", Float, nullable=False),
)

# What is said later about a version (`subject`): evaluations, approvals, signatures.
referrer = Table(
    "referrer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("subject", String(71), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("artifact_type", String(255), nullable=False),
    Column("manifest", Text, nullable=False),
    Column("at", DateTime, nullable=False),
    Column("by", String(255), nullable=False),
    UniqueConstraint("subject", "digest"),
)
