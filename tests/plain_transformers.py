"""Artifacts in plain transformers: in a process that cannot import this project, even where it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

IDS = torch.tensor([[257, *b"copy dax="]])
"""What `logits` asks of a model: (1, 10) int64."""


def run(script: str, *arguments: Path, cwd: Path) -> None:
    """Run a script there; it must succeed.

    :param arguments: what it finds in sys.argv.
    :param cwd: where it runs, and keeps its Hugging Face cache.
    """
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean |= {"HF_HOME": str(cwd / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.modules['components'] = None\n{script}", *map(str, arguments)],
        cwd=cwd, env=clean, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def logits(model: Path, cwd: Path, checks: str = "") -> torch.Tensor:
    """What the model of a folder says to IDS.

    :param checks: lines that run with `model` loaded.
    :returns: (1, 10, V) float32.
    """
    script = f"""
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
{checks}
torch.save(model(torch.tensor({IDS.tolist()})).logits.detach(), sys.argv[2])
"""
    run(script, model, cwd / "logits.pt", cwd=cwd)
    tensor: torch.Tensor = torch.load(cwd / "logits.pt", weights_only=True)
    return tensor
