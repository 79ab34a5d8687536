"""What ternary weights cost and save: a step of training through them, inference, loading, bytes.

    python tests/performance/bitnet/bitnet_speed.py             # an untrained cognate of the tiny profile, with all modules
    python tests/performance/bitnet/bitnet_speed.py --input DIR # any model that phase bitnet takes

One thread; CPU time for training, best wall time of three for inference. Speeds do not depend on what the weights are.
"""

from __future__ import annotations

import argparse
import copy
import resource
import tempfile
import time
from pathlib import Path

import torch
from transformers import PreTrainedModel

from components.bitnet.conversion import convert, linears_to_convert
from components.bitnet.placement import unnormed
from components.bitnet.qat import answer_and_kl
from components.bitnet.settings import Settings
from components.cognate.settings import Settings as CognateSettings
from components.shared.evaluation.answers import batches
from components.shared.evaluation.speed import speed
from components.shared.models.build import build
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, save, wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.config.compose import compose
from components.shared.tasks.batches import mixture
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds_a_step(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    tokenizer: object,
    settings: Settings,
    steps: int,
) -> float:
    optimizer = build_optimizer(student.train(), settings.optimizer, settings.lr, settings.weight_decay)
    began = time.process_time()
    for step in range(steps + 1):
        if step == 1:  # the first one also builds what later ones reuse
            began = time.process_time()
        items = mixture(
            settings.tasks, settings.levels, "train", 0, step, settings.batch, scratch=settings.scratch
        )
        optimizer.zero_grad()
        for _, batch in batches(items, tokenizer, settings.rows):
            answer, kl = answer_and_kl(student, teacher, batch, settings.temperature)
            (answer + kl).backward()
        optimizer.step()
    student.eval()
    return (time.process_time() - began) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input", type=Path)
    parser.add_argument("--profile", default="tiny")
    parser.add_argument("--steps", type=int, default=10)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    settings = compose("bitnet", Settings, profile=chosen.profile).settings
    if chosen.input:
        model, tokenizer = load(chosen.input)
    else:
        geometry = compose("cognate", CognateSettings, profile=chosen.profile).settings.model.model_dump()
        config = CognateConfig(vocab_size=VOCAB_SIZE, memory=True, refinement=True, **geometry)
        model, tokenizer = build(config, seed=0), byte_tokenizer()
    teacher = (model if hasattr(model.config, "storage") else wrap(model)).eval().requires_grad_(False)
    count, before = teacher.num_parameters(), peak_bytes()
    plain, student = (copy.deepcopy(teacher).requires_grad_(True) for _ in range(2))
    convert(student, dict.fromkeys(unnormed(student, linears_to_convert(student)), 1.0))
    print(f"{count:,} parameters, {settings.batch} items a step in rows of {settings.rows}")
    for name, network, guide in (
        ("ternary, with its teacher", student, teacher),
        ("ternary, alone", student, None),
        ("full precision, alone", plain, None),
    ):
        seconds = seconds_a_step(network, guide, tokenizer, settings, chosen.steps)
        print(f"a step of training, {name}: {seconds:.3f} CPU s")
    memory = (peak_bytes() - before) / count
    print(
        f"peak memory of these: {memory:.0f} bytes a parameter, both networks, their teacher and their optimisers"
    )

    round_to_half(student)
    items = mixture(settings.tasks, settings.levels, "search", 0, 0, 128)
    with tempfile.TemporaryDirectory() as folder:
        places = {"full precision": Path(folder) / "full", "ternary": Path(folder) / "ternary"}
        save(teacher, tokenizer, places["full precision"], card="")
        save(student, tokenizer, places["ternary"], card="", half=True)
        for name, place in places.items():
            began = time.perf_counter()
            stored, _ = load(place)
            loading = time.perf_counter() - began
            timing = speed(stored, tokenizer, items)
            weights = sum(file.stat().st_size for file in place.glob("*.safetensors"))
            whole = sum(file.stat().st_size for file in place.iterdir())
            print(
                f"{name}: {weights:,} bytes of weights, {whole:,} in all; loads in {loading:.2f} s; "
                f"{timing['tokens_per_second']:,.0f} tokens/s; one item in {1000 * timing['latency_seconds']:.1f} ms"
            )


if __name__ == "__main__":
    main()
