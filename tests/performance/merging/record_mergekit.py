"""Records what mergekit makes of small seeded models, for tests/unit/shared/merging to hold ours to.

    PYTHON-WITH-MERGEKIT tests/performance/merging/record_mergekit.py

Writes mergekit.safetensors and constructs.safetensors there: a tensor `case/name` for each tensor of each case of
mergekit_cases.py, and for each construct of mergekit_constructs.py one vector of all its tensors, in the order of their
names; in their metadata the versions of mergekit and torch. Constructs that mergekit refuses are printed with its
reason. The files are small and committed; nothing of mergekit itself is in them.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import yaml
from mergekit.config import MergeConfiguration
from mergekit.io.tasks import LoaderCache
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

TESTS = Path(__file__).parents[2] / "unit" / "shared" / "merging"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


def merged(content: Any, out: Path) -> dict[str, torch.Tensor]:
    """What mergekit makes of a configuration, in the current folder."""
    LoaderCache().loaders.clear()  # it knows models by their names, and every case has models of the same names
    options = MergeOptions(
        write_model_card=False, quiet=True, lora_merge_cache=str(out.parent / "loras"), random_seed=0
    )
    run_merge(MergeConfiguration.model_validate(content), str(out), options=options)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(out.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def main() -> None:
    cases, constructs = module("mergekit_cases"), module("mergekit_constructs")
    recorded: dict[str, torch.Tensor] = {}
    for case, (half, text) in cases.CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            cases.write_models(Path(folder), half=half)
            os.chdir(folder)
            made = merged(yaml.safe_load(text), Path(folder) / "out")
            recorded |= {f"{case}/{name}": tensor for name, tensor in made.items()}
    versions = {package: version(package) for package in ("mergekit", "torch")}
    save_file(recorded, TESTS / "mergekit.safetensors", metadata=versions)
    vectors: dict[str, torch.Tensor] = {}
    for name, construct in constructs.CONSTRUCTS.items():
        with tempfile.TemporaryDirectory() as folder:
            constructs.write_models(Path(folder))
            if "union" in name:
                constructs.add_tokens(Path(folder))
            os.chdir(folder)
            try:
                for content in yaml.safe_load_all(construct.text):
                    made = merged(content, Path(folder) / content.get("name", "out"))
            except Exception as error:  # whatever mergekit refuses with
                print(f"refused: {name}: {str(error).splitlines()[-1]}")
                continue
            vectors[name] = torch.cat([made[key].float().flatten() for key in sorted(made)])
    save_file(vectors, TESTS / "constructs.safetensors", metadata=versions)
    print(f"{len(recorded)} tensors of {len(cases.CASES)} cases, {len(vectors)} constructs, {versions}")


if __name__ == "__main__":
    main()
