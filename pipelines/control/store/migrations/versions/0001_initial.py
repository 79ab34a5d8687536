"""All tables as they were at first."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NEVER_CHANGED = "the audit is only added to"
AUDIT_IS_ONLY_ADDED_TO = {
    "sqlite": (
        "CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit "
        f"BEGIN SELECT RAISE(ABORT, '{NEVER_CHANGED}'); END",
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        f"BEGIN SELECT RAISE(ABORT, '{NEVER_CHANGED}'); END",
    ),
    "postgresql": (
        "CREATE OR REPLACE FUNCTION audit_only_added() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{NEVER_CHANGED}'; END $$",
        "CREATE TRIGGER audit_only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_added()",
    ),
}
"""Triggers: no declaration of tables has them, and no later step is written of them by itself."""


def upgrade() -> None:
    """Make it so."""
    op.create_table(
        "admission",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float(), nullable=False),
        sa.Column("why", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_admission")),
    )
    op.create_table(
        "alert",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("annotations", sa.JSON(), nullable=False),
        sa.Column("starts", sa.Float(), nullable=False),
        sa.Column("received", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_alert")),
    )
    op.create_index(op.f("ix_alert_received"), "alert", ["received"])
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("family", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("expires", sa.Float(), nullable=True),
        sa.Column("used", sa.Float(), nullable=True),
        sa.Column("revoked", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_key_sha256")),
    )
    op.create_index(op.f("ix_api_key_family"), "api_key", ["family"])
    op.create_index(op.f("ix_api_key_principal"), "api_key", ["principal"])
    op.create_index(op.f("ix_api_key_run"), "api_key", ["run"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("action", sa.String(length=100), nullable=False),
        sa.Column("object", sa.String(length=400), nullable=False),
        sa.Column("outcome", sa.String(length=32), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index(op.f("ix_audit_time"), "audit", ["time"])
    op.create_table(
        "confirmation",
        sa.Column("nonce", sa.String(length=64), nullable=False),
        sa.Column("expires", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_confirmation")),
    )
    op.create_index(op.f("ix_confirmation_expires"), "confirmation", ["expires"])
    op.create_table(
        "controller",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("host", sa.String(length=200), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.Column("pools", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_controller")),
    )
    op.create_table(
        "deployment",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("target", sa.String(length=32), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "target", name=op.f("pk_deployment")),
    )
    op.create_table(
        "execution",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run", "task", "attempt", name=op.f("pk_execution")),
    )
    op.create_index("ix_execution_finished", "execution", ["finished"])
    op.create_index("ix_execution_phase_finished", "execution", ["phase", "finished"])
    op.create_table(
        "idempotency",
        sa.Column("principal", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("body", sa.String(length=64), nullable=False),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created"), "idempotency", ["created"])
    op.create_table(
        "job",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("every", sa.Float(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("started", sa.Float(), nullable=True),
        sa.Column("finished", sa.Float(), nullable=True),
        sa.Column("next", sa.Float(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job")),
    )
    op.create_table(
        "log",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log")),
    )
    op.create_table(
        "metric",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("step", sa.Float(), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run", "task", "name", "step", name=op.f("pk_metric")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_metric_phase_name_time", "metric", ["phase", "name", "time"])
    op.create_table(
        "metric_name",
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.PrimaryKeyConstraint("phase", "name", name=op.f("pk_metric_name")),
    )
    op.create_table(
        "model",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("variant", sa.String(length=64), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("scores", sa.JSON(), nullable=False),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("registered", sa.String(length=200), nullable=False),
        sa.Column("text", sa.String(length=600), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_model")),
    )
    op.create_index("ix_model_bytes_digest", "model", ["bytes", "digest"])
    op.create_index("ix_model_finished_digest", "model", ["finished", "digest", "text"])
    op.create_index("ix_model_phase_finished", "model", ["phase", "finished", "digest"])
    op.create_index("ix_model_phase_score", "model", ["phase", "score", "digest", "kind", "bytes"])
    op.create_index(op.f("ix_model_run"), "model", ["run"])
    op.create_index("ix_model_score_digest", "model", ["score", "digest"])
    op.create_table(
        "model_parent",
        sa.Column("child", sa.String(length=80), nullable=False),
        sa.Column("parent", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("child", "parent", name=op.f("pk_model_parent")),
    )
    op.create_index(op.f("ix_model_parent_parent"), "model_parent", ["parent"])
    op.create_table(
        "model_tag",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("tag", sa.String(length=100), nullable=False),
        sa.PrimaryKeyConstraint("digest", "tag", name=op.f("pk_model_tag")),
    )
    op.create_index(op.f("ix_model_tag_tag"), "model_tag", ["tag"])
    op.create_table(
        "model_use",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("role", sa.String(length=8), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "run", "task", "role", name=op.f("pk_model_use")),
    )
    op.create_index(op.f("ix_model_use_run"), "model_use", ["run"])
    op.create_table(
        "phase_execution",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("cpu_seconds", sa.Float(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=False),
        sa.Column("finished", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run", "phase", name=op.f("pk_phase_execution")),
    )
    op.create_index(
        "ix_phase_execution_order",
        "phase_execution",
        ["phase", "profile", "finished", "seconds", "cpu_seconds", "failures", "succeeded"],
    )
    op.create_table(
        "principal",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=400), nullable=False),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_principal")),
        sa.UniqueConstraint("name", name=op.f("uq_principal_name")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(length=16), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(), nullable=False),
        sa.Column("phases", sa.JSON(), nullable=False),
        sa.Column("failing", sa.String(length=200), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created", sa.Float(), nullable=False),
        sa.Column("started", sa.Float(), nullable=True),
        sa.Column("finished", sa.Float(), nullable=True),
        sa.Column("eta", sa.Float(), nullable=True),
        sa.Column("asked", sa.String(length=16), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("kfp_id", sa.String(length=64), nullable=False),
        sa.Column("kfp_host", sa.Text(), nullable=False),
        sa.Column("gpus", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("holder_host", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("process", sa.JSON(), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index(op.f("ix_run_created"), "run", ["created"])
    op.create_index("ix_run_created_id", "run", ["created", "id"])
    op.create_index("ix_run_queue", "run", ["state", "priority", "created"])
    op.create_index(op.f("ix_run_state"), "run", ["state"])
    op.create_table(
        "series",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("name", sa.String(length=300), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("step", sa.Float(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("run", "task", "name", name=op.f("pk_series")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_series_phase_name_time", "series", ["phase", "name", "time"])
    op.create_index("ix_series_time", "series", ["time"])
    op.create_table(
        "compaction",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("store", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("blocks", sa.JSON(), nullable=False),
        sa.Column("producers", sa.JSON(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_compaction_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_compaction")),
    )
    op.create_table(
        "event",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("time", sa.Float(), nullable=False),
        sa.Column("channel", sa.String(length=16), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("producer", sa.String(length=200), nullable=False),
        sa.Column("n", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_event_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "seq", name=op.f("pk_event")),
        sa.UniqueConstraint("run", "producer", "n", name=op.f("uq_event_run_producer_n")),
    )
    op.create_table(
        "task",
        sa.Column("run", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=400), nullable=False),
        sa.Column("phase", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("status", sa.JSON(), nullable=False),
        sa.Column("progress", sa.JSON(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["run.id"], name=op.f("fk_task_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "task", name=op.f("pk_task")),
    )
    for statement in AUDIT_IS_ONLY_ADDED_TO[op.get_bind().dialect.name]:
        op.execute(statement)
