"""What turned and recoloured copies of ARC's puzzles are worth: equal networks, one trained on puzzles, one on copies.

    python -m tests.performance.tasks.arc_augmentation [--steps 300] [--levels 1 2] [--batch 8] [--seeds 2] [--two]

Both see equally many items of the training set. What counts is the loss on puzzles of the same set that neither saw (the
splits search and select, as they are), in nats a token; the evaluation set is not looked at. `--two` adds two attempts.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from components.shared.evaluation.answers import nll
from components.shared.evaluation.arc import two_attempts
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.generators.arc import rows
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.head import next_token_loss

SHAPE = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}


def main() -> None:
    """A row for each mixture and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--levels", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--two", action="store_true")
    options = parser.parse_args()
    tokenizer = byte_tokenizer()
    unseen = [
        row.item("arc", level, row.split)
        for level in options.levels
        for row in rows("", level)
        if row.split in ("search", "select")
    ]
    print(
        f"{len(unseen)} items of unseen puzzles, levels {options.levels}, {options.steps} steps of {options.batch}"
    )
    print("| trained on | seed | loss on its own items, last tenth | loss on unseen puzzles |")
    print("|---|---|---|---|")
    for name in ("arc", "arc/augmented"):
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = build(CognateConfig(max_position_embeddings=4096, **SHAPE), seed=seed)
            optimizer, losses = build_optimizer(model, "muon", 0.003), []
            model.train()
            for step in range(options.steps):
                items = mixture({name: 1.0}, options.levels, "train", seed, step, options.batch)
                optimizer.zero_grad()
                loss = next_token_loss(model, encode(items, tokenizer))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                losses.append(float(loss.detach()))
            total, tokens = nll(model, tokenizer, unseen, batch=options.batch)
            own = float(np.mean(losses[-max(1, options.steps // 10) :]))
            print(f"| {name} | {seed} | {own:.3f} | {total.sum() / tokens.sum():.3f} |", flush=True)
            if options.two:
                right = two_attempts(model, tokenizer, unseen, batch=options.batch)
                print(f"pass@1 {right[0].mean():.3f}, pass@2 {right.any(axis=0).mean():.3f}", flush=True)


if __name__ == "__main__":
    main()
