"""What each part of the recipe is worth: the same conversion and as many steps, with one part left out.

    python tests/performance/bitnet/bitnet_arms.py --input DIR [--seeds 2] [--steps N]

Held-out loss (search split, nats a token of the answer) after training with the profile's settings, a line an arm. With the
tiny profile an arm takes well under a CPU-minute a seed.
"""

from __future__ import annotations

import argparse
import copy
import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from components.bitnet.conversion import convert, linears_to_convert, root_mean_squares
from components.bitnet.placement import unnormed
from components.bitnet.qat import train
from components.bitnet.settings import Settings
from components.shared.evaluation.answers import batches, loss
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, wrap
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.config.compose import compose
from components.shared.tasks.batches import Batch, encode, mixture

ARMS: dict[str, dict[str, Any]] = {
    "the whole recipe": {},
    "without distillation": {"distillation": 0.0},
    "without the norms (SubLN)": {"sublayer_norm": False},
    "without weight decay": {"weight_decay": 0.0},
    "with the quantisation faded in": {"strength_warmup": 30},
}


def draw(settings: Settings, tokenizer: PreTrainedTokenizerBase, seed: int, step: int) -> list[Batch]:
    """The batches of a step."""
    items = mixture(
        settings.tasks, settings.levels, "train", seed, step, settings.batch, scratch=settings.scratch
    )
    return [batch for _, batch in batches(items, tokenizer, settings.rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    base = compose("bitnet", Settings, profile=chosen.profile).settings
    base = base.model_copy(update={"steps": chosen.steps} if chosen.steps else {})
    model, tokenizer = load(chosen.input)
    teacher = (model if hasattr(model.config, "storage") else wrap(model)).eval().requires_grad_(False)
    held_out = mixture(base.tasks, base.levels, "search", 0, 0, base.held_out_items)
    rounded = copy.deepcopy(teacher)
    convert(rounded, {})
    print(f"{'full precision':32} {loss(teacher, tokenizer, held_out):.3f}")
    print(f"{'only rounded':32} {loss(rounded, tokenizer, held_out):.3f}")
    for name, change in ARMS.items():
        settings, found = base.model_copy(update=change), []
        for seed in range(chosen.seeds):
            student, gains = copy.deepcopy(teacher).requires_grad_(True), {}
            if settings.sublayer_norm:
                items = mixture(base.tasks, base.levels, "train", seed, base.steps, base.calibration_items)
                calibration = [{"input_ids": encode(items, tokenizer).input_ids}]
                gains = root_mean_squares(
                    student, unnormed(student, linears_to_convert(student)), calibration
                )
            convert(student, gains)
            with tempfile.TemporaryDirectory() as folder:
                train(
                    student,
                    teacher if settings.distillation else None,
                    build_optimizer(student, settings.optimizer, settings.lr, settings.weight_decay),
                    functools.partial(draw, settings, tokenizer, seed),
                    steps=settings.steps,
                    warmup=settings.warmup,
                    strength_warmup=settings.strength_warmup,
                    distillation=settings.distillation,
                    temperature=settings.temperature,
                    clip=settings.clip,
                    checkpoints=Checkpoints(folder, "0" * 16, every=1e9),
                    report=lambda *_: None,
                )
            round_to_half(student)
            found.append(loss(student, tokenizer, held_out))
        print(f"{name:32} {' '.join(f'{value:.3f}' for value in found)}", flush=True)


if __name__ == "__main__":
    main()
