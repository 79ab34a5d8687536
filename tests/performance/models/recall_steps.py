"""How soon a fresh Cognate finds again what was said: steps of training until recall is right, by how the network begins.

    OMP_NUM_THREADS=1 python -m tests.performance.models.recall_steps [--steps 160] [--seeds 3]

Profile tiny's network and batch on task recall alone, levels 1 to 3, Muon at .004. Beginnings:

  as built          blocks begin small beside the embedding, one head of the first block looks one token back
  no head           the same without that head and without the embedding's mean
  wide              without the head, and what blocks write as wide as all else: N(0, 1/fan_in)

Printed are the shares of 200 items of the search split at level 1 that are answered right, without worked steps.
"""

from __future__ import annotations

import argparse

import torch

from components.shared.evaluation.answers import correct
from components.shared.evaluation.suites import draw
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import set_rate
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.head import next_token_loss

SHAPE = {"hidden_size": 128, "intermediate_size": 344, "num_hidden_layers": 3, "num_attention_heads": 4}
BEGINNINGS = ("as built", "no head", "wide")
BATCH, RATE, WARMUP, EVERY = 64, 0.004, 20, 20


def main() -> None:
    """Train each beginning on each seed, and print what is right every 20 steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    for beginning in BEGINNINGS:
        for seed in range(asked.seeds):
            shares = " ".join(f"{share:.2f}" for share in learn(beginning, seed, asked.steps))
            print(f"{beginning:9} seed {seed}: {shares}", flush=True)


def begun(beginning: str, seed: int) -> CognateForCausalLM:
    """A network before training."""
    config = CognateConfig(**SHAPE)
    if beginning == "as built":
        return build(config, seed=seed)
    torch.manual_seed(seed)
    model = CognateForCausalLM(config)
    if beginning == "wide":
        for layer in model.model.layers:
            for out in (layer.self_attn.o_proj, layer.mlp.down_proj):
                torch.nn.init.normal_(out.weight, std=out.in_features**-0.5)
    return model


def learn(beginning: str, seed: int, steps: int) -> list[float]:
    """The share that is right after every 20 steps."""
    tokenizer, model = byte_tokenizer(), begun(beginning, seed).train()
    items = draw("recall", "search", 1, 200, 0)
    optimizer = build_optimizer(model, "muon", RATE, 0.0)
    shares = []
    for step in range(steps):
        batch = encode(
            mixture({"recall": 1.0}, [1, 2, 3], "train", seed, step, BATCH, scratch=0.5), tokenizer
        )
        next_token_loss(model, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        set_rate(optimizer, min(1.0, (step + 1) / WARMUP))
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % EVERY == 0:
            shares.append(float(correct(model.eval(), tokenizer, items).mean()))
            model.train()
    return shares


if __name__ == "__main__":
    main()
