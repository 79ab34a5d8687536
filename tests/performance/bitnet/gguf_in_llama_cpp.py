"""What llama.cpp makes of an exported GGUF file, beside what our model says.

    OMP_NUM_THREADS=1 python tests/performance/bitnet/gguf_in_llama_cpp.py --input DIR [--items 48]
                      --peer-python PYTHON of an environment with llama-cpp-python (pip builds it from source)

DIR is a ternary artifact in the shape of a Llama, its rows of whole blocks of 256 weights. A small one is made by

    python -m components.cognate --set variant=standard --output A --profile tiny evaluation.items=32 \\
        'cognate.model={hidden_size: 256, intermediate_size: 512, num_hidden_layers: 2, num_attention_heads: 4}' \\
        cognate.trunk.opening.steps=0 cognate.trunk.steps=200 cognate.standard.steps=100
    python -m components.bitnet --input A --output DIR --profile tiny evaluation.items=32 [bitnet.sublayer_norm=false]

Texts are items of the report split with their answers. llama.cpp rounds activations to 8 bits in blocks of 256 (Q8_K) where
our model does so token by token, so that the two differ as much as two ways of rounding do. `rounded as ggml` is our model
with Q8_K and float16 scales, beside llama.cpp with keys and values in float32: what is left there is float16 in the head.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.bitnet.settings import Settings
from components.shared.export.gguf import BLOCK, Type, export
from components.shared.models.loading import load
from components.shared.models.remote_code.coded import CodedLinear
from components.shared.models.ternary.inference import trits_of
from components.shared.runtime.config.compose import compose
from components.shared.tasks.batches import encode, mixture

NEW = 12


class Ggml(nn.Module):
    """A ternary layer as ggml computes it: a float16 scale; activations in blocks of 256, the largest of which is ∓127."""

    def __init__(self, layer: CodedLinear) -> None:
        super().__init__()
        found = trits_of(layer)
        assert found is not None
        trits, scale = found
        self.weight = torch.from_numpy(trits * np.float32(np.float16(scale)))
        self.norm = layer.norm

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.norm is None else self.norm(x)
        blocks = x.unflatten(-1, (-1, BLOCK))
        largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
        scale = -127 / torch.where(largest == 0, 1, largest)
        return F.linear(((blocks * scale).round() / scale).flatten(-2), self.weight)


def texts_of(tokenizer: Any, count: int) -> dict[str, tuple[Tensor, int]]:
    """By name the ids (1, tokens) of an item, and how many of them are its prompt."""
    tasks = compose("bitnet", Settings, profile="tiny").settings
    found = {}
    for number, item in enumerate(mixture(tasks.tasks, tasks.levels, "report", 0, 0, count)):
        batch = encode([item], tokenizer)
        found[f"item {number}"] = batch.input_ids, int((batch.labels[0] != -100).int().argmax())
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--items", type=int, default=48)
    parser.add_argument("--peer-python", required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = load(chosen.input)
    model.eval()
    texts = texts_of(tokenizer, chosen.items)
    own, greedy = {}, {}
    for name, (ids, prompt) in texts.items():
        own[name], so_far = model(input_ids=ids).logits[0], ids[:, :prompt]
        for _ in range(NEW):
            so_far = torch.cat((so_far, model(input_ids=so_far).logits[:, -1:].argmax(-1)), 1)
        greedy[name] = so_far[0, prompt:]
    for path, layer in list(model.named_modules()):
        if isinstance(layer, CodedLinear) and layer.spec.get("activations") == "int8":
            parent, _, last = path.rpartition(".")
            setattr(model.get_submodule(parent), last, Ggml(layer))
    rounded = {name: model(input_ids=ids).logits[0] for name, (ids, _) in texts.items()}

    def of_all(by_name: dict[str, Tensor]) -> Tensor:
        return torch.cat([by_name[name] for name in texts])

    def loss(by_name: dict[str, Tensor]) -> float:
        """Nats a token of the answers."""
        answers = [F.cross_entropy(by_name[name][at - 1 : -1], ids[0, at:], reduction="none")
                   for name, (ids, at) in texts.items()]  # fmt: skip
        return float(torch.cat(answers).mean())

    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "texts.npz", Path(folder) / "answer.npz"
        arrays = {name: ids[0].numpy().astype(np.int32) for name, (ids, _) in texts.items()}
        np.savez(given, **arrays, **{f"{name} prompt": np.array(at) for name, (_, at) in texts.items()})
        print(f"{len(texts)} texts of {sum(map(len, arrays.values()))} tokens; our loss {loss(own):.4f}")
        for kind in get_args(Type):
            export(chosen.input, Path(folder) / kind, kind)
            script = Path(__file__).with_name("llama_peer.py")
            file = Path(folder) / kind / "model.gguf"
            command = [chosen.peer_python, script, "texts", file, given, str(NEW), answer]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            found = dict(np.load(answer))
            version = str(found.pop("version"))
            said = {name: torch.from_numpy(array) for name, array in found.items()}
            exact = {name: said[f"{name} float32"] for name in texts}
            spread = of_all(own).std()
            print(
                f"{kind} in llama.cpp (llama-cpp-python {version}), {file.stat().st_size:,} bytes: loss {loss(said):.4f}"
            )
            same = (of_all(said).argmax(-1) == of_all(own).argmax(-1)).float().mean()
            alike = sum(torch.equal(said[f"{name} greedy"].long(), greedy[name]) for name in texts)
            print(
                f"  the likeliest token is the same after {same:.2%} of all, {NEW} greedy ones after {alike} prompts"
            )
            for label, ours, theirs in [("our model", own, said), ("rounded as ggml", rounded, exact)]:
                apart = (of_all(ours) - of_all(theirs)).abs() / spread
                print(f"  {label:16} logits apart, in their standard deviations: root mean square "
                      f"{apart.square().mean().sqrt():.1e}, largest {apart.max():.1e}")  # fmt: skip


if __name__ == "__main__":
    main()
