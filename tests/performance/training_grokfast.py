"""Grokking, by optimiser: steps until multiplication modulo p is understood, half of the table shown.

    python tests/performance/training_grokfast.py [--short] [--seeds 3]

Grokfast (arXiv 2405.20233) reports its speed-up against Adam without weight decay. AdamW with weight decay 1 and Muon are
the baselines that it has to beat; all arms use components/shared/optim. An arm that does not get there says so.
"""

from __future__ import annotations

import argparse
import time

import torch

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import build_optimizer

UNDERSTOOD = 0.95
EVERY = 10
# name: optimiser, learning rate, weight decay, Grokfast. Muon's .0125, scaled to AdamW's size, is the original's .02 at
# width 64.
ARMS = {
    "AdamW, no decay": ("adamw", 1e-3, 0.0, None),
    "AdamW, decay 1": ("adamw", 1e-3, 1.0, None),
    "AdamW, decay 1, Grokfast": ("adamw", 1e-3, 1.0, Grokfast()),
    "Muon, decay .1": ("muon", 1.25e-2, 0.1, None),
}


def steps_to_understand(p: int, limit: int, seed: int, arm: str) -> tuple[int | None, float]:
    """(steps until 95% of the held-out half are right, or None; the best held-out accuracy seen)."""
    kind, lr, decay, slow = ARMS[arm]
    shape = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = build(CognateConfig(vocab_size=p + 2, **shape), seed=seed)
    optimizer = build_optimizer(model, kind, lr, decay, slow)
    draw = torch.Generator().manual_seed(seed)
    a, b = torch.cartesian_prod(torch.arange(p), torch.arange(p)).T
    table = torch.stack([a, torch.full_like(a, p), b, torch.full_like(a, p + 1)], dim=1)
    order = torch.randperm(len(table), generator=draw)
    shown, hidden = order[: len(order) // 2], order[len(order) // 2 :]
    answers, best = a * b % p, 0.0
    for step in range(1, limit + 1):
        picked = shown[torch.randint(len(shown), (512,), generator=draw)]
        loss = torch.nn.functional.cross_entropy(model(table[picked]).logits[:, -1], answers[picked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % EVERY == 0:
            with torch.no_grad():
                right = model(table[hidden]).logits[:, -1].argmax(-1) == answers[hidden]
            best = max(best, float(right.float().mean()))
            if best >= UNDERSTOOD:
                return step, best
    return None, best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="Muon alone, 1500 steps, one seed")
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    p, limit, seeds = (59, 1500, 1) if given.short else (59, 6000, given.seeds)
    print(f"p = {p}, at most {limit} steps, seeds 0–{seeds - 1}; steps to {UNDERSTOOD:.0%} held out")
    for arm in ["Muon, decay .1"] if given.short else ARMS:
        began = time.process_time()
        found = [steps_to_understand(p, limit, seed, arm) for seed in range(seeds)]
        told = ", ".join(str(step) if step else f">{limit} (best {best:.0%})" for step, best in found)
        print(f"{arm:26s} {told:40s} {time.process_time() - began:5.1f} CPU s", flush=True)


if __name__ == "__main__":
    main()
