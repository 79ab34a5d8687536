"""Tokens a second of a real model made ternary, beside itself in float32 and bfloat16, all in one run.

    OMP_NUM_THREADS=1 python tests/performance/models/ternary_speed.py PATH [--tokens 24 --rounds 5]
    OMP_NUM_THREADS=1 python tests/performance/models/ternary_speed.py --made 6      # layers of SmolLM2-135M's shape

PATH is a Hugging Face folder of a Llama or Qwen2. Speeds do not depend on what the weights are, so that they are only
rounded, not trained. Greedy generation of one sequence with a cache, the ways in turn, the fastest token of all rounds of
each: other work on the machine meets all of them alike.
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import load, wrap
from components.shared.models.remote_code.coded import CodedLinear, install
from components.shared.models.ternary.inference import accelerate


def made(layers: int) -> Any:
    """Some layers of SmolLM2-135M's shape with its head of 49,152 tokens, random."""
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def ternary(model: Any) -> Any:
    """The model with the linear layers of its blocks stored ternary."""
    wrapped = wrap(model).eval()
    for path, module in list(wrapped.named_modules()):
        if isinstance(module, nn.Linear) and ".layers." in path:
            install(
                wrapped,
                path,
                *stored("ternary", encode_ternary(module.weight), module.weight.shape, activations="int8"),
            )
    return wrapped


@torch.inference_mode()
def seconds_a_token(model: Any, count: int) -> float:
    """Of greedy generation after a prompt of four tokens."""
    ids, cache = torch.tensor([[1, 2, 3, 4]]), None
    out = model(input_ids=ids, past_key_values=cache, use_cache=True)
    began, best = time.perf_counter(), float("inf")
    for _ in range(count):
        ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        now = time.perf_counter()
        began, best = now, min(best, now - began)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--made", type=int, default=0, help="random layers in place of PATH")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    plain = (made(chosen.made) if chosen.made else load(chosen.path)[0]).requires_grad_(False)
    half = copy.deepcopy(plain).bfloat16()
    coded = ternary(copy.deepcopy(plain))
    accelerate(coded)
    ways = {"float32": plain, "bfloat16": half, "ternary": coded}
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(chosen.rounds):
        for name, model in ways.items():
            best[name] = min(best[name], seconds_a_token(model, chosen.tokens))
    layers = [module for module in coded.modules() if isinstance(module, CodedLinear)]
    print(f"{torch.get_num_threads()} threads, {len(layers)} ternary layers; the fastest token of each way")
    for name, seconds in best.items():
        print(f"{name:24} {1000 * seconds:7.2f} ms a token {1 / seconds:7.1f} tokens/s "
              f"{best['bfloat16'] / seconds:5.2f} x bfloat16")  # fmt: skip


if __name__ == "__main__":
    main()
