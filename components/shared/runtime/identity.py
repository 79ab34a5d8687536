"""Who a piece of work is: one digest over everything that determines its result."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .artifact.artifact import Artifact
from .config.settings import Config


def identity_of(
    config: Config[Any],
    inputs: Mapping[str, Sequence[Artifact]],
    *,
    step: str,
    parameters: Mapping[str, Any],
    code_version: str,
    with_gates: bool = True,
) -> str:
    """sha256 over phase, step, parameters, configuration, inputs, seed and code.

    :param with_gates: whether other gates make it other work. They do for an artifact, and not for its
        checkpoints: a run that a gate has stopped goes on from its checkpoint when the gate is changed.
    """
    return _digest(
        {
            "phase": config.phase,
            "step": step,
            "parameters": dict(parameters),
            "config": config.digest if with_gates else config.work_digest,
            "inputs": {
                name: [artifact.digest for artifact in artifacts] for name, artifacts in inputs.items()
            },
            "seed": config.seed,
            "code": code_version,
        }
    )


def _digest(facts: Mapping[str, Any]) -> str:
    """sha256 of canonical JSON: sorted keys, no spaces."""
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch, and refuse operations that differ between runs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(True)
