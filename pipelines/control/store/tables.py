"""The tables. Times are Unix seconds of the database's clock; JSON is plain JSON on both databases."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
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

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# -- the log of events

log = Table(
    "log",
    METADATA,
    # One row: the name of this log. A restored or emptied database has another, so that an old cursor is known for one.
    Column("id", Integer, primary_key=True),
    Column("name", String(32), nullable=False),
)

run = Table(
    "run",
    METADATA,
    Column("id", String(200), primary_key=True),  # its name, which is its folder's
    Column("state", String(16), nullable=False, index=True),
    Column("version", Integer, nullable=False, default=1),
    Column("last_seq", Integer, nullable=False, default=0),  # of its events: raised under this row's lock
    Column("target", String(16), nullable=False, default="local"),  # local, kubeflow
    Column("origin", String(16), nullable=False, default="api"),  # api, command: who began it
    Column(
        "owner", String(64), nullable=False, default=""
    ),  # a principal's id; empty for runs of the command line
    Column("priority", Integer, nullable=False, default=0),
    Column("profile", String(64), nullable=False, default=""),
    Column("seed", BigInteger),
    Column("request", JSON, nullable=False, default=dict),  # what was asked for
    Column("parameters", JSON, nullable=False, default=dict),  # of the pipeline, complete
    Column(
        "phases", JSON, nullable=False, default=dict
    ),  # the strip: {phase: {state, share, stage, eta, attempts}}
    Column("failing", String(200), nullable=False, default=""),  # the task that failed, for the list
    Column("why", Text, nullable=False, default=""),  # it waits, was lost, has failed
    Column("error", JSON),  # {what, where, why, fix}
    Column("created", Float, nullable=False, index=True),
    Column("started", Float),
    Column("finished", Float),
    Column("eta", Float),  # Unix seconds at which it may end
    Column("asked", String(16), nullable=False, default=""),  # "cancel": what whoever holds it shall do
    Column("asked_at", Float),
    Column("folder", Text, nullable=False, default=""),
    Column("root", Text, nullable=False, default=""),  # where its artifacts and its pods' chunks are
    Column("kfp_id", String(64), nullable=False, default=""),
    Column("kfp_host", Text, nullable=False, default=""),
    Column("gpus", Integer, nullable=False, default=0),  # that one process of it wants
    Column("memory_bytes", BigInteger, nullable=False, default=0),  # the preflight's estimate
    # The lease: whoever renews it is at the run. An epoch is never given twice.
    Column("holder", String(64), nullable=False, default=""),
    Column("holder_host", String(200), nullable=False, default=""),
    Column("epoch", Integer, nullable=False, default=0),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column(
        "process", JSON
    ),  # {pid, started, host, boot}: the group that does the work, so that no stranger is killed
    Column("pinned", Boolean, nullable=False, default=False),
    Index("ix_run_queue", "state", "priority", "created"),
    Index("ix_run_created_id", "created", "id"),
)

controller = Table(
    "controller",
    METADATA,
    # The processes that carry runs out, and what their machines have for them.
    Column("name", String(64), primary_key=True),
    Column("host", String(200), nullable=False),
    Column("seen", Float, nullable=False),
    Column("pools", JSON, nullable=False),
)

event = Table(
    "event",
    METADATA,
    Column("run", String(200), ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("time", Float, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("task", String(400), nullable=False, default=""),
    Column("attempt", Integer, nullable=False, default=0),
    Column("producer", String(200), nullable=False),
    Column("n", BigInteger, nullable=False),
    Column("data", JSON, nullable=False),
    UniqueConstraint("run", "producer", "n"),
)

compaction = Table(
    "compaction",
    METADATA,
    # An ended run's events up to `last_seq` are no rows any more but one object beside its artifacts.
    Column("run", String(200), ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("store", Text, nullable=False),  # the address at which the object's store is opened
    Column("key", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column(
        "blocks", JSON, nullable=False
    ),  # [[first seq, offset], …] of the parts that are read by themselves
    Column(
        "producers", JSON, nullable=False
    ),  # {producer: [[first n, last n], …]}: what comes again is known
    Column("time", Float, nullable=False),
)

task = Table(
    "task",
    METADATA,
    # What a run's events add up to, task by task: written in the transaction that appends them.
    Column("run", String(200), ForeignKey("run.id", ondelete="CASCADE"), primary_key=True),
    Column("task", String(400), primary_key=True),
    Column("phase", String(32), nullable=False, default=""),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("status", JSON, nullable=False, default=dict),  # the newest `TaskStatus`
    Column("progress", JSON, nullable=False, default=dict),  # the newest `Progress`, and its time
    Column("position", Integer, nullable=False, default=0),  # in the order of the graph
)

idempotency = Table(
    "idempotency",
    METADATA,
    Column("principal", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("body", String(64), nullable=False),  # sha256
    Column("run", String(200), nullable=False),
    Column("created", Float, nullable=False, index=True),
)

# -- models and what was measured

model = Table(
    "model",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("run", String(200), nullable=False, default="", index=True),
    Column("task", String(400), nullable=False, default=""),
    Column("phase", String(32), nullable=False),
    Column("kind", String(32), nullable=False, default="model"),
    Column("variant", String(64), nullable=False, default=""),
    Column("address", Text, nullable=False),
    Column("parameters", BigInteger, nullable=False, default=0),
    Column("bytes", BigInteger, nullable=False, default=0),
    Column("score", Float),
    Column("scores", JSON, nullable=False, default=dict),
    Column("finished", Float, nullable=False),
    Column("owner", String(64), nullable=False, default=""),
    Column("pinned", Boolean, nullable=False, default=False),
    Column("registered", String(200), nullable=False, default=""),  # its name in MLflow's registry
    Column(
        "text", String(600), nullable=False, default=""
    ),  # what is searched: run, task, variant, in lower case
    Index("ix_model_finished_digest", "finished", "digest", "text"),
    Index("ix_model_phase_finished", "phase", "finished", "digest"),
    # SQLite has no statistics and takes the index with most equal columns: none begins with `kind`, which most share.
    Index("ix_model_phase_score", "phase", "score", "digest", "kind", "bytes"),  # the report reads it alone
    Index("ix_model_score_digest", "score", "digest"),
    Index("ix_model_bytes_digest", "bytes", "digest"),
)

model_parent = Table(
    "model_parent",
    METADATA,
    Column("child", String(80), primary_key=True),
    Column("parent", String(80), primary_key=True, index=True),
)

model_tag = Table(
    "model_tag",
    METADATA,
    Column("digest", String(80), primary_key=True),
    Column("tag", String(100), primary_key=True, index=True),
)

model_use = Table(
    "model_use",
    METADATA,
    # Which task made a model, or took one from the cache, and where its copy lies; and which tasks have read it.
    Column("digest", String(80), primary_key=True),
    Column("run", String(200), primary_key=True, index=True),
    Column("task", String(400), primary_key=True),
    Column("role", String(8), primary_key=True),  # made, read
    Column("address", Text, nullable=False, default=""),  # of the copy that was made
    Column("time", Float, nullable=False),
)

deployment = Table(
    "deployment",
    METADATA,
    # A model in the form of another program: where it was written to.
    Column("digest", String(80), primary_key=True),
    Column("target", String(32), primary_key=True),
    Column("address", Text, nullable=False),
    Column("state", String(16), nullable=False),  # writing, written, failed
    Column("notes", JSON, nullable=False, default=list),
    Column("owner", String(64), nullable=False, default=""),
    Column("created", Float, nullable=False),
)

metric = Table(
    "metric",
    METADATA,
    Column("run", String(200), primary_key=True),
    Column("task", String(400), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("step", Float, primary_key=True),
    Column("phase", String(32), nullable=False, default=""),
    Column("value", Float, nullable=False),
    Column("time", Float, nullable=False),
    Index("ix_metric_phase_name_time", "phase", "name", "time"),
    sqlite_with_rowid=False,  # a curve lies together on disk
)

series = Table(
    "series",
    METADATA,
    # The newest point of each curve: lists and comparisons read these, and not the curves.
    Column("run", String(200), primary_key=True),
    Column("task", String(400), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("phase", String(32), nullable=False, default=""),
    Column("step", Float, nullable=False),
    Column("value", Float, nullable=False),
    Column("time", Float, nullable=False),
    Index("ix_series_phase_name_time", "phase", "name", "time"),
    Index("ix_series_time", "time"),
    sqlite_with_rowid=False,
)

metric_name = Table(
    "metric_name",
    METADATA,
    Column("phase", String(32), primary_key=True),
    Column("name", String(300), primary_key=True),
)

execution = Table(
    "execution",
    METADATA,
    # One a finished task: what `PipelineMetrics.track_phase_execution` of the documents keeps.
    Column("run", String(200), primary_key=True),
    Column("task", String(400), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("phase", String(32), nullable=False),
    Column("profile", String(64), nullable=False, default=""),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False, default=0.0),
    Column("memory_bytes", BigInteger, nullable=False, default=0),
    Column("succeeded", Boolean, nullable=False),
    Column("exit_code", Integer),  # of one that failed: which kind of error it was
    Column("finished", Float, nullable=False),
    Index("ix_execution_phase_finished", "phase", "finished"),
    Index("ix_execution_finished", "finished"),
)

phase_execution = Table(
    "phase_execution",
    METADATA,
    # What the executions of a phase's tasks add up to in one run: what the report of performance counts as one.
    Column("run", String(200), primary_key=True),
    Column("phase", String(32), primary_key=True),
    Column("profile", String(64), nullable=False, default=""),
    Column("seconds", Float, nullable=False),
    Column("cpu_seconds", Float, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),  # the largest of its tasks
    Column("failures", Integer, nullable=False),  # attempts that failed
    Column("succeeded", Boolean, nullable=False),  # the last attempt that ended did
    Column("finished", Float, nullable=False),
    Index(
        "ix_phase_execution_order",  # the report reads it alone
        "phase",
        "profile",
        "finished",
        "seconds",
        "cpu_seconds",
        "failures",
        "succeeded",
    ),
)

# -- who may what

principal = Table(
    "principal",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("subject", String(400), nullable=False, default=""),  # of OIDC
    Column("created", Float, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
)

api_key = Table(
    "api_key",
    METADATA,
    # Of keys, refresh tokens, one-time links and run tokens only the sha256 is known.
    Column("id", String(32), primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),  # key, refresh, link, run
    Column("principal", String(64), nullable=False, default="", index=True),
    Column("run", String(200), nullable=False, default="", index=True),  # of a run token
    Column("family", String(32), nullable=False, default="", index=True),  # of refresh tokens
    Column("name", String(200), nullable=False, default=""),
    Column("scopes", JSON, nullable=False, default=list),  # "resource:action"; empty for all of the role
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("used", Float),
    Column("revoked", Float),
)

audit = Table(
    "audit",
    METADATA,
    # Only added to: a trigger, which the first step makes, refuses all else.
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False, index=True),
    Column("principal", String(64), nullable=False, default=""),
    Column("name", String(200), nullable=False, default=""),
    Column("action", String(100), nullable=False),
    Column("object", String(400), nullable=False, default=""),
    Column("outcome", String(32), nullable=False),
    Column("request_id", String(64), nullable=False, default=""),
    Column("address", String(64), nullable=False, default=""),
    Column("detail", JSON, nullable=False, default=dict),
)

alert = Table(
    "alert",
    METADATA,
    # What Alertmanager has posted last of each alert.
    Column("fingerprint", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("state", String(16), nullable=False),  # firing, resolved
    Column("labels", JSON, nullable=False, default=dict),
    Column("annotations", JSON, nullable=False, default=dict),
    Column("starts", Float, nullable=False),
    Column("received", Float, nullable=False, index=True),
)

admission = Table(
    "admission",
    METADATA,
    # One row at most: new runs wait until then.
    Column("id", Integer, primary_key=True),
    Column("until", Float, nullable=False),
    Column("why", String(400), nullable=False),
)

confirmation = Table(
    "confirmation",
    METADATA,
    # What was confirmed once and cannot be again, until it expires.
    Column("nonce", String(64), primary_key=True),
    Column("expires", Float, nullable=False, index=True),
)

job = Table(
    "job",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("every", Float, nullable=False),
    Column("holder", String(64), nullable=False, default=""),
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("started", Float),
    Column("finished", Float),
    Column("next", Float, nullable=False, default=0.0),
    Column("result", JSON),
)
