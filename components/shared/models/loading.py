"""Models in and out of artifacts: build, load, save."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from components.shared.runtime.errors import ArtifactError

from .hub.configuration_cognate import CognateConfig
from .hub.modeling_cognate import CognateForCausalLM

HUB = Path(__file__).parent / "hub"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
AUTO_MAP = {
    "cognate": {
        "AutoConfig": "configuration_cognate.CognateConfig",
        "AutoModelForCausalLM": "modeling_cognate.CognateForCausalLM",
    },
}


AutoConfig.register(
    "cognate", CognateConfig
)  # our own artifacts load from here, not from the code inside them
AutoModelForCausalLM.register(CognateConfig, CognateForCausalLM)
transformers_logging.disable_progress_bar()


def build(config: CognateConfig, *, seed: int) -> CognateForCausalLM:
    """A fresh network, the same for the same (config, seed); torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CognateForCausalLM(config)


def load(
    path: Path | str, *, trainable: bool = False, device: torch.device | str = "cpu"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer of an artifact or of any Hugging Face causal LM directory, in evaluation mode.

    :param trainable: turn ternary weights into latent weights whose re-quantisation is exact, ready for training.
    :raises ArtifactError: not a model directory, or its weights are not safetensors (nothing is ever unpickled).
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise ArtifactError("not a model directory", where=str(folder), why="it has no config.json")
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        raise ArtifactError(
            "the model has no safetensors weights",
            where=str(folder),
            why=f"only {', '.join(pickles)}, which would have to be unpickled"
            if pickles
            else "no weights at all",
            fix="convert the weights to safetensors (model.save_pretrained in transformers does so)",
        )
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model.to(device).eval(), tokenizer


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, *, card: str) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)` loads.

    Safetensors (sharded above 5 GB), config with auto_map, the modelling code that this model needs, tokenizer,
    generation settings and the model card. The same model writes the same bytes.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = model.config.to_diff_dict()
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    for name in ("_name_or_path", "auto_map"):
        config.pop(name, None)
    if model.config.model_type in AUTO_MAP:
        config["auto_map"] = AUTO_MAP[model.config.model_type]
        entry = config["auto_map"]["AutoModelForCausalLM"].partition(".")[0]
        for name, source in travelling_code(entry, set()).items():
            (path / f"{name}.py").write_text(source)
    (path / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(path)
    save_weights({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    tokenizer.save_pretrained(path)
    (path / "README.md").write_text(card)


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """model.safetensors, or shards of at most 5 GB with their index."""
    plan = split_torch_state_dict_into_shards(
        tensors, max_shard_size="5GB", filename_pattern="model{suffix}.safetensors"
    )
    for file, names in plan.filename_to_tensors.items():
        save_file({name: tensors[name] for name in names}, path / file, metadata={"format": "pt"})
        (path / file).chmod(0o644)  # safetensors writes 0600, which another user in a pod could not read
    if plan.is_sharded:
        index: dict[str, Any] = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def travelling_code(entry: str, needs: set[str]) -> dict[str, str]:
    """The hub files that `entry` imports, transitively: module name → source.

    A line that ends in `# if NAME` is left out unless NAME is in `needs`.
    """
    sources: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        lines = (HUB / f"{name}.py").read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (mark := re.search(r"# if (\w+)$", line)) or mark[1] in needs]
        sources[name] = "".join(kept)
        waiting += re.findall(r"^\s*from \.(\w+) import", sources[name], flags=re.MULTILINE)
    return sources
