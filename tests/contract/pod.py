"""A pod of Kubeflow Pipelines as a phase sees it: the executor input that its launcher passes, and its disk.

Addresses are those of KFP's object store (minio://); the files lie where `customPath` says, so that no test writes to
/minio. A new pod of the same task has another disk and another execution, and the same run.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.artifact import Manifest, read
from components.shared.runtime.config.compose import compose
from tests.contract.forked import Forked
from tests.contract.toy_phase import CONFIGS, Settings

RUN = "91db5f79-d1b0-4594-95fb-5f0c48db45d5"


@dataclass
class Pod:
    """One pod of a task `toy` whose artifacts KFP keeps below `root`.

    :param root: minio://bucket, or a bucket of another scheme.
    """

    root: str
    disk: Path
    execution: str = "f0bb58f3"
    task: str = "toy"
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def run_root(self) -> str:
        return f"{self.root}/v2/artifacts/toy-pipeline/{RUN}"

    def output(self, name: str) -> dict[str, Any]:
        uri = f"{self.run_root}/{self.task}/{self.execution}/{name}"
        return {"artifacts": [{"name": name, "uri": uri, "customPath": str(self.disk / name)}]}

    def given(self, *overrides: str) -> str:
        """The executor input, with the outputs of a component and what the launcher adds."""
        outputs = {
            "artifacts": {
                "model": self.output("model"),
                "metrics": self.output("metrics"),
                "executor-logs": self.output("executor-logs-0"),
            },
            "outputFile": str(self.disk / "output_metadata.json"),
        }
        values = {
            "settings": compose("toy", Settings, overrides=overrides, configs=CONFIGS).parameter,
            "accelerator_count": "1",
            "checkpoint_root": "",
            **self.parameters,
        }
        return json.dumps({"inputs": {"parameterValues": values}, "outputs": outputs})

    def start(self, *overrides: str) -> Forked:
        told = {"FORGE_PIPELINE_RUN": RUN, "FORGE_TASK": self.task}
        return Forked(
            "tests.contract.toy_phase", ["--executor-input", self.given(*overrides)], os.environ | told
        )

    @property
    def manifest(self) -> Manifest:
        return read(self.disk / "model").manifest

    @property
    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.disk / "metrics").read_text())
        return found

    def metadata(self, name: str) -> dict[str, Any]:
        written = json.loads((self.disk / "output_metadata.json").read_text())
        [found] = written["artifacts"][name]["artifacts"]
        values: dict[str, Any] = found["metadata"]
        return values
