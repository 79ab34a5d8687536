"""The standard cognate beside a Llama of the same geometry, trained on the same bytes in the same order: bits per byte.

    python -m tests.performance.models.cognate_against_llama --train valid.txt --held-out test.txt [--steps 300 --seeds 3]

Both have tied embeddings over the bytes and equal numbers of parameters; each begins as its own code makes it begin. AdamW,
warm-up, and a linear fall to zero. What is compared is the mean over windows of the held-out file that do not overlap.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig

VOCABULARY = 272


def main() -> None:
    """Train both on each seed, and print what they are worth."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--window", type=int, default=192)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--windows", type=int, default=128, help="of the held-out file")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    stream, held_out = (torch.tensor(list(path.read_bytes())) for path in (asked.train, asked.held_out))
    exam = held_out[: asked.windows * asked.window].view(asked.windows, asked.window)
    for seed in range(asked.seeds):
        bits = {}
        for name in ("cognate", "llama"):
            model = _model(name, asked.hidden, asked.layers, seed)
            began = time.monotonic()
            _train(model, stream, asked.steps, asked.rows, asked.window, asked.lr, seed)
            bits[name] = _bits(model, exam)
            parameters = sum(p.numel() for p in model.parameters())
            print(
                f"seed {seed}  {name:<8} {parameters:>9,} parameters  {bits[name]:.4f} bits per byte  "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
        print(f"seed {seed}  cognate / llama {bits['cognate'] / bits['llama'] - 1:+.2%}", flush=True)


def _model(name: str, hidden: int, layers: int, seed: int) -> nn.Module:
    """A fresh network of that kind."""
    shape = {
        "vocab_size": VOCABULARY, "hidden_size": hidden, "intermediate_size": int(hidden * 2.6875),
        "num_hidden_layers": layers, "num_attention_heads": 4, "tie_word_embeddings": True,
    }  # fmt: skip
    if name == "cognate":
        return build(CognateConfig(**shape), seed=seed)
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**shape, pad_token_id=256, bos_token_id=257, eos_token_id=258))


def _train(
    model: nn.Module, stream: Tensor, steps: int, rows: int, window: int, lr: float, seed: int
) -> None:
    """Windows of the stream, drawn by the seed: both networks see the same."""
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    warmup = max(1, steps // 20)
    model.train()
    for step in range(steps):
        starts = torch.randint(len(stream) - window, (rows,), generator=draws)
        batch = torch.stack([stream[start : start + window] for start in starts.tolist()])
        rate = min((step + 1) / warmup, (steps - step) / (steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = lr * rate
        optimizer.zero_grad()
        logits = model(input_ids=batch).logits[:, :-1]
        F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.no_grad()
def _bits(model: nn.Module, exam: Tensor) -> float:
    """Mean cross-entropy in bits of each byte but the first of a window."""
    model.eval()
    losses = [
        F.cross_entropy(model(input_ids=part).logits[:, :-1].flatten(0, 1), part[:, 1:].flatten()).item()
        for part in exam.split(16)
    ]
    return sum(losses) / len(losses) / math.log(2)


if __name__ == "__main__":
    main()
