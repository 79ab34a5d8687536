"""What a step of training a cognate costs: CPU time, padding, and memory, for the trunk and each variant.

    python tests/performance/cognate_speed.py                     # the tiny profile, about a minute
    python tests/performance/cognate_speed.py --profile small --steps 2

One thread; CPU time and not wall time, so that a busy machine does not matter much. Memory is what the process's peak
grows by from before the network is built, in a process of its own for each line.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import torch

from components.cognate.course import token_loss
from components.cognate.settings import VARIANTS, Settings
from components.shared.evaluation.answers import batches
from components.shared.models.build import build, extend
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.config.compose import compose
from components.shared.tasks.batches import mixture
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer
from components.shared.training.loop import TrainingLoop, token_shares


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(profile: str, name: str, rows: int, steps: int) -> tuple[int, float, float, float]:
    """Parameters, CPU seconds a step, share of padding, and bytes of peak memory a parameter."""
    torch.set_num_threads(1)
    settings = compose("cognate", Settings, profile=profile).settings
    course, tokenizer = getattr(settings, name), byte_tokenizer()
    before = peak_bytes()
    plain = build(CognateConfig(vocab_size=VOCAB_SIZE, **settings.model.model_dump()), seed=0)
    model = (
        extend(plain, memory=name == "memory", refinement=name == "reasoning") if name in VARIANTS else plain
    )
    optimizer = build_optimizer(model.train(), settings.optimizer, course.lr, settings.weight_decay)
    loop = TrainingLoop(model, {"model": optimizer}, clip=settings.clip, where=name, fix="lower lr")
    seconds, real, whole = 0.0, 0, 0
    for step in range(steps + 1):
        began = time.process_time()
        items = mixture(course.tasks, course.levels, "train", 0, step, settings.batch, scratch=course.scratch)
        parts = [batch for _, batch in batches(items, tokenizer, rows)]
        loop.update(parts, lambda batch: token_loss(model, batch), rate=1.0, weights=token_shares(parts))
        if step:  # the first one also builds what later ones reuse
            seconds += time.process_time() - began
            real += sum(int(part.attention_mask.sum()) for part in parts)
            whole += sum(part.input_ids.numel() for part in parts)
    count = model.num_parameters()
    return count, seconds / steps, 1 - real / whole, (peak_bytes() - before) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args()
    batch = compose("cognate", Settings, profile=chosen.profile).settings.batch
    print(
        f"{'course':10} {'parameters':>11} {'rows':>5} {'CPU s a step':>13} {'padding':>8} {'bytes a parameter':>18}"
    )
    context = multiprocessing.get_context("spawn")
    for name in ("trunk", *VARIANTS):
        for rows in (batch, batch // 4):
            with context.Pool(1) as pool:
                count, seconds, padding, memory = pool.apply(
                    measure, (chosen.profile, name, rows, chosen.steps)
                )
            print(f"{name:10} {count:11,} {rows:5} {seconds:13.3f} {padding:8.0%} {memory:18.0f}", flush=True)


if __name__ == "__main__":
    main()
