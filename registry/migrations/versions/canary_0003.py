"""Canaries: their rules and steps, what servers report on them, and their share in the history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Add the tables; earlier events of aliases concern no canary."""
    op.add_column("alias_event", sa.Column("weight", sa.Integer, nullable=True))
    _create_canary()
    op.create_table(
        "canary_report",
        sa.Column("canary_id", sa.Integer, nullable=False),
        sa.Column("step", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("holder", sa.String(255), nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("stable", sa.Text, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("canary_id", "step", "holder", name="pk_canary_report"),
        sa.ForeignKeyConstraint(["canary_id"], ["canary.id"], name="fk_canary_report_canary_id"),
    )


def _create_canary() -> None:
    op.create_table(
        "canary",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("adapter_id", sa.Integer, nullable=False),
        sa.Column("alias", sa.String(63), nullable=False),
        sa.Column("stable_version_id", sa.Integer, nullable=False),
        sa.Column("target_version_id", sa.Integer, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("step_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime, nullable=True),
        sa.Column("by", sa.String(255), nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_canary"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapter.id"], name="fk_canary_adapter_id"),
        sa.ForeignKeyConstraint(
            ["stable_version_id"], ["version.id"], name="fk_canary_stable_version_id"
        ),
        sa.ForeignKeyConstraint(
            ["target_version_id"], ["version.id"], name="fk_canary_target_version_id"
        ),
    )
    op.create_index("ix_canary_adapter_id_alias", "canary", ["adapter_id", "alias"])
    op.create_index("ix_canary_state", "canary", ["state"])
