"""The small proof of Quiet-STaR: do thoughts win over pauses, does REINFORCE, and does it matter what is thought?

    python tests/performance/quietstar_proof.py              # seeds 0 and 1, about nine CPU-minutes each
    python tests/performance/quietstar_proof.py --short      # a minute: that it runs, not what it shows

A network of two layers and 96 dimensions reads chains of five operations modulo ten (`3+4*2-1*7+5=`). Half of its
documents work the chain out in <think> … </think>, and of these 40% are junk: random digits with the right answer
behind them. It learns to think from the documents; to think well is left to REINFORCE. Every arm then starts from
that network and trains for as many steps; the pause arm has as many tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from components.quietstar.evaluation import ItemScores, Mode, evaluate
from components.quietstar.training_loss import ArmName, StepLoss, text_loss, thought_loss
from components.quietstar.vocabulary import add_thought_tokens
from components.shared.evaluation.statistics import paired_interval
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import set_rate, warmup_stable_decay
from components.shared.tasks.batches import Batch, encode
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.loop import TrainingLoop

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: (a + b) % 10,
    "-": lambda a, b: (a - b) % 10,
    "*": lambda a, b: a * b % 10,
}
LENGTH, PASSES = 5, 4
SCRATCH, JUNK = 0.5, 0.4


def chain(rng: random.Random, *, scratch: float, junk: float) -> Item:
    """Five operations from left to right; the scratch is the five results, or five random digits."""
    value = rng.randrange(10)
    prompt, results = str(value), []
    for _ in range(LENGTH):
        name, operand = rng.choice("+-*"), rng.randrange(10)
        prompt += f"{name}{operand}"
        value = OPERATIONS[name](value, operand)
        results.append(str(value))
    worked = "".join(rng.choices("0123456789", k=LENGTH)) if rng.random() < junk else "".join(results)
    return Item(
        "chain", 1, "train", f"{prompt}=", str(value), scratch=worked if rng.random() < scratch else ""
    )


def documents(seed: int, name: str, step: int, size: int, *, scratch: float) -> list[Item]:
    """The documents of a step. There are ten billion chains: held-out ones are simply drawn under another name."""
    rng = random.Random(f"{seed}/{name}/{step}")
    return [chain(rng, scratch=scratch, junk=JUNK) for _ in range(size)]


def pretrain(seed: int, options: argparse.Namespace) -> nn.Module:
    model = build(
        CognateConfig(hidden_size=96, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4),
        seed=seed,
    )
    optimizer = build_optimizer(model, "muon", options.pretrain_lr)
    tokenizer = byte_tokenizer()
    model.train()
    for step in range(options.pretrain):
        set_rate(optimizer, warmup_stable_decay(step, options.pretrain, 20, options.pretrain // 3))
        batch = encode(documents(seed, "documents", step, 64, scratch=SCRATCH), tokenizer)
        loss = model(input_ids=batch.input_ids, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0:
            print(f"  pretraining {step}/{options.pretrain}: {loss.item():.3f} nats", flush=True)
    return model.eval()


def train(
    base: nn.Module, arm: ArmName, seed: int, options: argparse.Namespace, policy_weight: float, steps: int
) -> nn.Module:
    """One arm, from the pretrained network."""
    tokenizer = byte_tokenizer()
    model, tokens = add_thought_tokens(copy.deepcopy(base), tokenizer, LENGTH, seed=seed)
    optimizer = build_optimizer(model, "muon", options.lr)
    loop = TrainingLoop(model, {"model": optimizer}, clip=1.0, where=arm, fix="lower --lr")
    generator = torch.Generator().manual_seed(seed)

    def loss_of(part: tuple[str, Batch]) -> StepLoss:
        kind, rows = part
        if kind == "text":
            return text_loss(model, rows, 1.0)
        return thought_loss(
            model,
            rows,
            arm,
            tokens,
            generator,
            reinforce=policy_weight > 0 and loop.step >= options.opening,
            positions=1,
            passes=PASSES,
            length=LENGTH,
            talk=2,
            temperature=1.0,
            policy_temperature=1.0,
            policy_weight=policy_weight,
            clamp=True,
        )

    model.train()
    for step in range(steps):
        rows = options.batch * (PASSES if arm == "pause" else 1)
        text = encode(documents(seed, "text", step, options.batch, scratch=SCRATCH), tokenizer)
        questions = encode(documents(seed, "questions", step, rows, scratch=0.0), tokenizer)
        rate = warmup_stable_decay(step, options.steps, 10, options.steps // 3)
        update = loop.update([("questions", questions), ("text", text)], loss_of, rate=rate)
        if step % 50 == 0:
            figures = " ".join(f"{name} {value:.3f}" for name, value in update.metrics.items())
            print(f"  {arm} {step}/{steps}: {figures}", flush=True)
    return model.eval()


def prove(seed: int, options: argparse.Namespace) -> dict[str, ItemScores]:
    """All arms of one seed, on the same held-out chains."""
    items = documents(seed, "held out", 0, options.items, scratch=0.0)
    tokenizer = byte_tokenizer()

    def scores(model: nn.Module, mode: Mode) -> ItemScores:
        model, tokens = add_thought_tokens(model, tokenizer, LENGTH, seed=seed)
        return evaluate(model, tokenizer, items, mode, tokens, batch=256)

    def trained(arm: ArmName, policy_weight: float, steps: int) -> nn.Module:
        return train(base, arm, seed, options, policy_weight, steps)

    base = pretrain(seed, options)
    results = {
        "pretrained, no thought": scores(copy.deepcopy(base), "no thought"),
        "pause tokens": scores(trained("pause", 0.0, options.steps), "pause"),
        "thoughts before REINFORCE": scores(trained("thoughts", 0.0, options.opening), "thoughts"),
        "thoughts, no policy loss": scores(trained("thoughts", 0.0, options.steps), "thoughts"),
    }
    thinker = trained("thoughts", 1.0, options.steps)
    results["thoughts + REINFORCE"] = scores(thinker, "thoughts")
    results["shuffled thoughts"] = scores(thinker, "shuffled")
    results["the same model, no thought"] = scores(thinker, "no thought")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--pretrain", type=int, default=3000, help="steps of 64 documents")
    parser.add_argument("--pretrain-lr", type=float, default=5e-3)
    parser.add_argument("--steps", type=int, default=600, help="of each arm")
    parser.add_argument("--opening", type=int, default=100, help="first steps without REINFORCE")
    parser.add_argument("--batch", type=int, default=32, help="questions a step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--items", type=int, default=512, help="held-out chains")
    parser.add_argument("--short", action="store_true", help="a tenth of the steps and one seed")
    options = parser.parse_args()
    if options.short:
        options.seeds = options.seeds[:1]
        options.pretrain, options.steps, options.opening = 200, 24, 8
    torch.set_num_threads(1)
    for seed in options.seeds:
        began = time.process_time()
        results = prove(seed, options)
        print(
            f"\nseed {seed}, {time.process_time() - began:.0f} CPU-seconds, {options.items} held-out chains\n"
        )
        print("| arm | nats a token | accuracy | lead over pause tokens, nats (95%) |\n|---|---|---|---|")
        for name, each in results.items():
            lead, low, high = paired_interval(results["pause tokens"].nll, each.nll)
            print(
                f"| {name} | {np.mean(each.nll):.3f} | {np.mean(each.right):.1%} | {lead:+.3f} ({low:+.3f}, {high:+.3f}) |"
            )
        print(flush=True)


if __name__ == "__main__":
    main()
