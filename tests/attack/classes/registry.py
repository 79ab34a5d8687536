"""The classes of attack, and what they need imported: once, before any attempt is forked."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import components.shared.runtime  # noqa: F401 - before torch: how OpenMP's threads wait
from tests.attack.campaign import AttackClass
from tests.attack.classes import damage, disks, folders, inputs, kill, network, term, workers

CLASSES: Mapping[str, AttackClass] = {
    module.__name__.rpartition(".")[2]: module
    for module in (kill, term, workers, disks, network, damage, folders, inputs)
}
WARM = (
    "boto3", "hydra", "mlflow.tracking", "tokenizers", "transformers.models.llama.modeling_llama",
    "components.shared.evaluation.suites", "components.shared.models.loading", "pipelines.cli.rendering.table",
    "pipelines.generate", "pipelines.local.execute", "pipelines.report.page", "pipelines.runs.prune",
    "components.shared.runtime.store.s3",
)  # fmt: skip
for name in WARM:
    importlib.import_module(name)
