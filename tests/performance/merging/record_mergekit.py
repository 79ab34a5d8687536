"""Records what mergekit makes of small seeded models, for tests/unit/shared/merging/test_oracle.py to hold ours to.

    PYTHON-WITH-MERGEKIT tests/performance/merging/record_mergekit.py

Writes tests/unit/evomerge/mergekit.safetensors: a tensor `case/name` for each tensor of each case of mergekit_cases.py, and
in its metadata the versions of mergekit and torch. The file is small and committed; nothing of mergekit itself is in it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).parents[2] / "unit" / "evomerge"


def main() -> None:
    spec = importlib.util.spec_from_file_location("mergekit_cases", TESTS / "mergekit_cases.py")
    assert spec is not None and spec.loader is not None
    cases = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cases)
    recorded: dict[str, torch.Tensor] = {}
    for case, (half, text) in cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            models, out = Path(folder) / "models", Path(folder) / "out"
            cases.write_models(models, half=half)
            for name in cases.MODELS:
                for word in (f"model: {name}", f"base_model: {name}"):
                    text = text.replace(word + "\n", f"{word.split(':')[0]}: {models / name}\n")
                    text = text.replace(word + "}", f"{word.split(':')[0]}: {models / name}}}")
                    text = text.replace(word + ",", f"{word.split(':')[0]}: {models / name},")
            config = MergeConfiguration.model_validate(yaml.safe_load(text))
            run_merge(
                config,
                str(out),
                options=MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True),
            )
            for file in sorted(out.glob("*.safetensors")):
                recorded |= {f"{case}/{name}": tensor for name, tensor in load_file(file).items()}
    versions = {package: version(package) for package in ("mergekit", "torch")}
    save_file(recorded, TESTS / "mergekit.safetensors", metadata=versions)
    print(f"{len(recorded)} tensors of {len(cases.CASES)} cases, {versions}")


if __name__ == "__main__":
    main()
