"""Tokens a second of a real model made ternary, beside itself in float32 and bfloat16 and ggml's ternary type, in one run.

    OMP_NUM_THREADS=1 python tests/performance/models/ternary_speed.py PATH [--tokens 24 --rounds 5] [--peer-python PYTHON]
    OMP_NUM_THREADS=1 python tests/performance/models/ternary_speed.py --made 30     # layers of SmolLM2-135M's shape

PATH is a Hugging Face folder of a Llama with a tied head. Speeds do not depend on what the weights are, so that they are
only rounded, not trained. Greedy generation of one sequence with a cache, the ways in turn, round by round; seconds of the
one thread's own CPU time, so that other work on the machine takes none of them. The median of all tokens of a way, and its
fastest. `--peer-python` names an environment with ggml-python (ggml_llama.py): the same Llama as a graph of ggml, whose
logits are held against ours first.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import load, wrap
from components.shared.models.remote_code.coded import CodedLinear, install
from components.shared.models.ternary.inference import accelerate, trits_of


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
def seconds_of(model: Any, count: int) -> list[float]:
    """Of each token of greedy generation after a prompt of four tokens."""
    ids, cache = torch.tensor([[1, 2, 3, 4]]), None
    out = model(input_ids=ids, past_key_values=cache, use_cache=True)
    began, found = time.process_time(), []
    for _ in range(count):
        ids, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
        out = model(input_ids=ids, past_key_values=cache, use_cache=True)
        now = time.process_time()
        found.append(now - began)
        began = now
    return found


class Peer:
    """The same model in ggml, in a process of its own."""

    def __init__(self, python: str, coded: Any, length: int) -> None:
        config = coded.inner.config
        with tempfile.TemporaryDirectory() as folder:
            self.write(coded, Path(folder) / "weights.npz")
            command = [
                *(python, str(Path(__file__).with_name("ggml_llama.py")), f"{folder}/weights.npz"),
                *(str(config.num_attention_heads), str(config.num_key_value_heads)),
                *(str(config.rms_norm_eps), str(length)),
            ]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.facts = self.answer()

    @staticmethod
    @torch.inference_mode()
    def write(coded: Any, file: Path) -> None:
        body = coded.inner.model
        arrays: dict[str, Any] = {"norm": body.norm.weight, "embedding": body.embed_tokens.weight.half()}
        arrays["logits"] = coded(input_ids=torch.tensor([[1]])).logits[0, 0]
        for number, layer in enumerate(body.layers):
            arrays[f"{number}.first"] = layer.input_layernorm.weight
            arrays[f"{number}.second"] = layer.post_attention_layernorm.weight
            for path, module in layer.named_modules():
                if isinstance(module, CodedLinear):
                    trits = trits_of(module)
                    assert trits is not None
                    name = f"{number}.{path.rpartition('.')[2]}"
                    arrays[name], arrays[f"{name} scale"] = trits
        np.savez(file, **{name: np.asarray(each) for name, each in arrays.items()})

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("ggml could not compute")
        return json.loads(line)

    def seconds_of(self, way: str, count: int) -> list[float]:
        assert self.process.stdin is not None
        print(way, count, file=self.process.stdin, flush=True)
        found: list[float] = self.answer()
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", nargs="?")
    parser.add_argument("--made", type=int, default=0, help="random layers in place of PATH")
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer-python")
    chosen = parser.parse_args()
    plain = (made(chosen.made) if chosen.made else load(chosen.path)[0]).requires_grad_(False)
    half = copy.deepcopy(plain).bfloat16()
    coded = ternary(copy.deepcopy(plain))
    layers = [module for module in coded.modules() if isinstance(module, CodedLinear)]
    peer = Peer(chosen.peer_python, coded, 4 + chosen.tokens // 2) if chosen.peer_python else None
    accelerate(coded)
    times: dict[str, list[float]] = {}
    for _ in range(chosen.rounds):
        for name, model in {"float32": plain, "bfloat16": half, "ternary": coded}.items():
            times.setdefault(name, []).extend(seconds_of(model, chosen.tokens))
        for way in peer.facts["alike"] if peer else ():
            times.setdefault(f"ggml, {way}", []).extend(peer.seconds_of(way, chosen.tokens))
    print(
        f"{torch.get_num_threads()} threads, {len(layers)} ternary layers, {chosen.rounds * chosen.tokens} tokens a way"
    )
    if peer:
        alike = ", ".join(f"{way} {value:.4f}" for way, value in peer.facts["alike"].items())
        print(f"ggml-python {peer.facts['version']}; correlation of its logits with ours: {alike}")
    else:
        print("ggml was not measured: no --peer-python")
    middle = {name: statistics.median(each) for name, each in times.items()}
    for name, each in times.items():
        print(f"{name:28} {1000 * middle[name]:7.2f} ms a token (fastest {1000 * min(each):7.2f}) "
              f"{1 / middle[name]:7.1f} tokens/s {middle['bfloat16'] / middle[name]:5.2f} x bfloat16 "
              f"({min(times['bfloat16']) / min(each):5.2f} by the fastest)")  # fmt: skip


if __name__ == "__main__":
    main()
