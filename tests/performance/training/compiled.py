"""Steps with compiled layers against plain ones: the same losses, and what compiling costs and brings.

    python tests/performance/training/compiled.py [--hidden 64] [--layers 1] [--steps 4] [--rows 2] [--width 12]

It is no unit test because the compiler alone takes longer than a whole file of those. It fails where a loss is apart by
more than 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.optim.optimizer import build_optimizer
from components.shared.training.loop import TrainingLoop
from components.shared.training.settings import EngineSettings


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("hidden", 64), ("layers", 1), ("steps", 4), ("rows", 2), ("width", 12)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    (plain, plain_seconds), (compiled, seconds) = (steps(options, compiles) for compiles in (False, True))
    apart = max(abs(a - b) for a, b in zip(plain, compiled, strict=True))
    print(f"losses apart by {apart:.1e}; seconds of the first step {plain_seconds[0]:.2f} → {seconds[0]:.2f}")
    print(f"of the last {plain_seconds[-1]:.4f} → {seconds[-1]:.4f}")
    return int(apart > 1e-4)


def steps(options: argparse.Namespace, compiles: bool) -> tuple[list[float], list[float]]:
    """Losses and seconds of the steps."""
    torch.manual_seed(0)
    shape = {
        "hidden_size": options.hidden,
        "intermediate_size": 2 * options.hidden,
        "num_hidden_layers": options.layers,
        "num_attention_heads": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=61, **shape)).train()
    loop = TrainingLoop(
        model,
        {"model": build_optimizer(model, "adamw", 1e-3)},
        engine=EngineSettings(compile=compiles),
        clip=1.0,
        where="compiled",
        fix="",
    )
    losses, seconds = [], []
    for step in range(options.steps):
        ids = torch.randint(61, (options.rows, options.width), generator=torch.Generator().manual_seed(step))
        began = time.perf_counter()
        update = loop.update([ids], lambda part: (model(input_ids=part, labels=part).loss, {}), rate=1.0)
        seconds.append(time.perf_counter() - began)
        losses.append(update.loss)
    loop.finish()
    return losses, seconds


if __name__ == "__main__":
    sys.exit(main())
