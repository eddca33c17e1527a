"""The queue's tables. Times are Unix seconds."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

file = Table(
    "tuning_file",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", String(255), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("num_bytes", BigInteger, nullable=False),
    Column("created_at", Integer, nullable=False),
)

# A file's bytes in pieces, so that neither side holds a file in memory.
chunk = Table(
    "tuning_chunk",
    metadata,
    Column("file_key", ForeignKey("tuning_file.key", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# Of files and jobs that not everybody sees. A table of its own: queues of before have it made.
ownership = Table(
    "tuning_owner",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", Text, nullable=False, index=True),
)

job = Table(
    "tuning_job",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("created_at", Integer, nullable=False),
    Column("finished_at", Integer),
    Column("status", String(16), nullable=False, index=True),
    Column("model", String(255), nullable=False),
    Column("base_fingerprint", String(71), nullable=False),
    Column("training_file", String(64), nullable=False),
    Column("validation_file", String(64)),
    Column("adapter", String(63), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("hyperparameters", JSON, nullable=False),
    Column("recipe", JSON, nullable=False),
    Column("labels", JSON, nullable=False),
    Column("fine_tuned_model", String(255)),
    Column("result_file", String(64)),
    Column("trained_tokens", BigInteger),
    Column("error", JSON),
    # Who runs it, and when that was last heard of: kept until the worker lets go of it.
    Column("worker", String(255)),
    Column("seen_at", Float),
    Column("num_attempts", Integer, nullable=False, default=0),
)

event = Table(
    "tuning_event",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_key", ForeignKey("tuning_job.key"), nullable=False, index=True),
    Column("created_at", Integer, nullable=False),
    Column("level", String(8), nullable=False),
    Column("type", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON, nullable=False),
)

checkpoint = Table(
    "tuning_checkpoint",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_key", ForeignKey("tuning_job.key"), nullable=False, index=True),
    Column("created_at", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("model", String(255)),
)
