"""Tokens a second of a whole ternary model: full precision, decoded weights, integer kernels.

    OMP_NUM_THREADS=1 python tests/performance/bitnet/bitnet_generation.py                  # 4 layers of 2048, made up
    OMP_NUM_THREADS=1 python tests/performance/bitnet/bitnet_generation.py --tiny           # the cognate of profile tiny
    OMP_NUM_THREADS=1 python tests/performance/bitnet/bitnet_generation.py --input DIR      # any ternary artifact
    … --peer-python PYTHON       # and llama.cpp on the same model as TQ2_0, in an environment with llama-cpp-python

One thread, wall time, the best of six seconds of repetitions: greedy generation of 32 tokens with a cache, and one forward
of a prompt of 256 tokens. Speeds do not depend on what the weights are. `full precision` is the same network with the
decoded weights as float32 and no rounding of activations; `memory` is what the weights of the ternary layers take while
they compute; `first` the seconds of the first 32 tokens and of what is done once: weights decoded, or packed for kernels.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.cognate.settings import Settings as CognateSettings
from components.shared.export.gguf import export
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.coded import CodedLinear, install
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.ternary.inference import accelerate
from components.shared.runtime.config.compose import compose
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

NEW, PROMPT = 32, 256


def ternary(config: CognateConfig) -> Any:
    """An untrained Cognate whose blocks are stored ternary."""
    model = build(config, seed=0).eval().requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and ".layers." in path:
            code = encode_ternary(module.weight)
            install(model, path, *stored("ternary", code, tuple(module.weight.shape), activations="int8"))
    return model


def seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def best(run: Callable[[], object]) -> float:
    times, end = [seconds(run)], time.perf_counter() + 6
    while time.perf_counter() < end:
        times.append(seconds(run))
    return min(times)


@torch.inference_mode()
def rates(model: Any, before: Callable[[], object]) -> tuple[float, float, float]:
    """Seconds of the first answer with what comes `before` it; tokens a second: generated, and read."""

    def generate() -> None:
        ids, cache = torch.tensor([[1, 2, 3, 4]]), None
        for _ in range(NEW):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

    prompt = torch.arange(PROMPT)[None] % 256
    first = seconds(before) + seconds(generate)
    model(input_ids=prompt)
    return first, NEW / best(generate), PROMPT / best(lambda: model(input_ids=prompt))


def peer(python: str, model: Any) -> dict[str, tuple[float, float, float, float]]:
    """The same figures of llama.cpp; it maps its file, so that the first answer says nothing of it."""
    script = Path(__file__).with_name("llama_peer.py")
    with tempfile.TemporaryDirectory() as folder:
        save(model, byte_tokenizer(), Path(folder) / "in", card="")
        export(Path(folder) / "in", Path(folder), "TQ2_0")
        command = [python, script, "speed", f"{folder}/model.gguf", str(NEW), str(PROMPT)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"llama-cpp-python {found['version']}")
    return {"llama.cpp, TQ2_0": (float("nan"), found["generated"], found["read"], 2.0625)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--peer-python")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.input:
        model: Any = load(chosen.input)[0].requires_grad_(False)
    elif chosen.tiny:
        geometry = compose("cognate", CognateSettings, profile="tiny").settings.model.model_dump()
        model = ternary(CognateConfig(vocab_size=VOCAB_SIZE, **geometry))
    else:
        shape = {"hidden_size": chosen.hidden, "intermediate_size": 8 * chosen.hidden // 3 // 256 * 256}
        heads = {"num_attention_heads": chosen.hidden // 128, "num_hidden_layers": chosen.layers}
        model = ternary(CognateConfig(**shape, **heads))
    layers = {path: m for path, m in model.named_modules() if isinstance(m, CodedLinear)}
    count = sum(layer.in_features * layer.out_features for layer in layers.values())
    print(f"{len(layers)} ternary layers of {count:,} weights")
    figures = {"decoded": (*rates(model, lambda: None), 32.0)}
    for layer in layers.values():
        del layer.spec["activations"]
    _, *speeds = rates(model, lambda: None)
    figures = {"full precision": (float("nan"), *speeds, 32.0)} | figures
    for layer in layers.values():
        layer.spec["activations"], layer.decoded = "int8", None
    speeds = list(rates(model, lambda: accelerate(model)))
    bits = 8 * sum(layer.__dict__["ternary"].packed.nbytes for layer in layers.values()) / count
    figures["integers"] = *speeds, bits
    if chosen.peer_python:
        figures |= peer(chosen.peer_python, model)
    else:
        print("llama.cpp was not measured: no --peer-python")
    print(f"{'':16} {'first':>7} {'generated/s':>12} {'read/s':>9} {'memory':>12}")
    for name, (first, generated, read, size) in figures.items():
        print(f"{name:16} {first:7.2f} {generated:12.1f} {read:9.0f} {size * count / 8 / 2**20:8.1f} MiB")


if __name__ == "__main__":
    main()
