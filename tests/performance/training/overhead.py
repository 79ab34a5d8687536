"""What the training loop costs over a bare loop of torch that does the same: forward, backward, clip, step.

    python tests/performance/training/overhead.py [--hidden 256] [--layers 4] [--steps 40] [--rounds 5]

Both train the same network on the same batches, a step each in turn, so that other work on the machine meets both alike;
the median over rounds of the ratio of CPU seconds is said.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import set_rate
from components.shared.tasks.batches import Batch
from components.shared.training.loop import TrainingLoop, token_shares


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("hidden", 256),
        ("layers", 4),
        ("steps", 40),
        ("rounds", 5),
        ("rows", 16),
        ("width", 64),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bare, ours = network(options), network(options)
    optimizer = build_optimizer(bare, "adamw", 1e-3)
    loop = TrainingLoop(
        ours, {"model": build_optimizer(ours, "adamw", 1e-3)}, clip=1.0, where="overhead", fix=""
    )

    def loss_of(batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        return ours(input_ids=batch.input_ids, labels=batch.labels).loss, {}

    ratios = []
    for number in range(options.rounds + 1):
        spent = [0.0, 0.0]
        for step in range(options.steps):
            generator = torch.Generator().manual_seed(step)
            ids = torch.randint(512, (options.rows, options.width), generator=generator)
            batch = Batch(ids, ids, torch.ones_like(ids))
            began = time.process_time()
            set_rate(optimizer, 1.0)
            optimizer.zero_grad()
            loss = bare(input_ids=batch.input_ids, labels=batch.labels).loss
            loss.backward()
            nn.utils.clip_grad_norm_(bare.parameters(), 1.0)
            optimizer.step()
            float(loss.detach())
            middle = time.process_time()
            loop.update([batch], loss_of, rate=1.0, weights=token_shares([batch]))
            spent = [spent[0] + middle - began, spent[1] + time.process_time() - middle]
        if number:  # the first round warms up
            ratios.append(spent[1] / spent[0])
            print(f"bare {spent[0]:.2f} s, loop {spent[1]:.2f} s: {100 * (ratios[-1] - 1):+.2f}%", flush=True)
    same = all(torch.equal(a, b) for a, b in zip(bare.parameters(), ours.parameters(), strict=True))
    parameters = sum(p.numel() for p in ours.parameters())
    print(
        f"{parameters:,} parameters, weights equal: {same}; overhead {100 * (statistics.median(ratios) - 1):+.2f}% (median)"
    )


def network(options: argparse.Namespace) -> LlamaForCausalLM:
    """A Llama of the size asked for, the same each time."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=512,
            hidden_size=options.hidden,
            intermediate_size=2 * options.hidden,
            num_hidden_layers=options.layers,
            num_attention_heads=4,
        )
    )


if __name__ == "__main__":
    main()
