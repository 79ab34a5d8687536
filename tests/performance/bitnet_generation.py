"""Tokens a second of a whole ternary model: full precision, decoded weights, integer kernels.

    OMP_NUM_THREADS=1 python tests/performance/bitnet_generation.py                  # 4 layers of 2048, made up
    OMP_NUM_THREADS=1 python tests/performance/bitnet_generation.py --tiny           # the cognate of profile tiny
    OMP_NUM_THREADS=1 python tests/performance/bitnet_generation.py --input DIR      # any ternary artifact

One thread, wall time, the best of three: greedy generation of 32 tokens with a cache, and one forward of a prompt of 256
tokens. Speeds do not depend on what the weights are. `full precision` is the same network with the decoded weights as
float32 and no rounding of activations; `memory` is what the weights of the ternary layers take while they compute.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.cognate.settings import Settings as CognateSettings
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.hub.coded import CodedLinear, install
from components.shared.models.hub.configuration_cognate import CognateConfig
from components.shared.models.loading import build, load
from components.shared.models.ternary_inference import accelerate
from components.shared.runtime.config import compose
from components.shared.tasks.tokenizer import VOCAB_SIZE

NEW, PROMPT = 32, 256


def ternary(config: CognateConfig) -> Any:
    """An untrained Cognate whose blocks are stored ternary."""
    model = build(config, seed=0).eval().requires_grad_(False)
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and ".layers." in path:
            code = encode_ternary(module.weight)
            install(model, path, *stored("ternary", code, tuple(module.weight.shape), activations="int8"))
    return model


@torch.inference_mode()
def rates(model: Any) -> tuple[float, float]:
    """Tokens a second: generated, and read."""

    def seconds(run: Callable[[], object]) -> float:
        run()
        times = []
        for _ in range(3):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return min(times)

    def generate() -> None:
        ids, cache = torch.tensor([[1, 2, 3, 4]]), None
        for _ in range(NEW):
            out = model(input_ids=ids, past_key_values=cache, use_cache=True)
            ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values

    prompt = torch.arange(PROMPT)[None] % 256
    return NEW / seconds(generate), PROMPT / seconds(lambda: model(input_ids=prompt))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=4)
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
    print(f"{'':16} {'generated/s':>12} {'read/s':>9} {'memory':>8}")
    figures = {"decoded": (rates(model), 32.0)}
    for layer in layers.values():
        del layer.spec["activations"]
    figures = {"full precision": (rates(model), 32.0)} | figures
    for layer in layers.values():
        layer.spec["activations"], layer.decoded = "int8", None
    done = accelerate(model)
    bits = 8 * sum(layers[path].__dict__["ternary"].packed.nbytes for path in done) / count
    figures["integers"] = rates(model), bits
    for name, ((generated, read), size) in figures.items():
        print(f"{name:16} {generated:12.1f} {read:9.0f} {size * count / 8 / 2**20:5.1f} MiB")


if __name__ == "__main__":
    main()
