"""Size against retention of a whole model, from half of float32 down to a hundredth; beside ggml at equal bytes; and what
a smaller, distilled student keeps.

    OMP_NUM_THREADS=1 python tests/performance/compression/model_curve.py --work DIR [--peer-python PYTHON with ggml-python]

Trains a Cognate of two million parameters on the project's tasks (about five CPU-minutes; kept in DIR, like everything
that takes long, so that a second call goes on from there), measures every code of the list on every tensor, and prints:

  ours       the best allocation of codes within a share of the float32 bytes
  ggml       one type for every matrix, and the best allocation within exactly its bytes
  students   smaller networks, compressed into 1.8 % of the model's bytes: a sixth of the parameters, with the model as
             teacher and without; and a quarter of them, trained ternary (phase bitnet's layers) by the same teacher

Bytes are those of all weights: codes, and everything else at 16 bits. The text beside them (tokenizer, configuration, code)
comes on top and is printed. Retention is (L_uniform − L) / (L_uniform − L_float32), L in nats a token of answers to
held-out items (select split), and hides small losses behind small luck: the KL divergence from the model as it is, nats a
token on the same items, does not. A right answer is right to the last token. What chooses sees the search split only.
DIR/curve.png holds the curve with the two goals: 77 % smaller at 94 %, and 98.2 % smaller at 90 %.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch

import components.shared.runtime  # noqa: F401  before torch: how OpenMP waits
from components.bitnet.conversion import convert, linears_to_convert
from components.bitnet.placement import unnormed
from components.bitnet.qat import answer_and_kl
from components.cognate.settings import Settings as CognateSettings
from components.compression.allocation.allocate import Allocation, frontier, within
from components.compression.allocation.comparison import RetentionScale
from components.compression.allocation.evaluator import Evaluator, codable
from components.compression.allocation.mapped import map_weights
from components.compression.allocation.sensitivity import measure_sensitivities, rate_points
from components.compression.allocation.tensors import Tensors
from components.compression.allocation.workers import Workers
from components.compression.codecs.registry import presets
from components.shared.evaluation.answers import batches, correct
from components.shared.evaluation.suites import SUITES, suite_items
from components.shared.models.build import build
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import set_rate, warmup_cosine
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.config.compose import compose
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.batches import mixture, without_scratch
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

MODEL = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4}
STUDENT = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
TERNARY = {"hidden_size": 160, "intermediate_size": 320, "num_hidden_layers": 2, "num_attention_heads": 4}
SHARES = (0.5, 0.35, 0.25, 0.23, 0.18, 0.125, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.018, 0.01)
CODES = [
    *("int8", "uniform 1/16", "ectcq 6", "ectcq 5", "ectcq 4", "ectcq 3", "ectcq 2.5", "ectcq 2"),
    *("ectcq 1.585", "ectcq 1", "ectcq 0.27", "hadamard ectcq 2", "vptq 1.5", "vptq 1"),
]
TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "IQ4_XS", "Q3_K", "IQ3_XXS", "Q2_K", "IQ2_XXS", "IQ1_S")
GOALS = ((0.23, 0.94), (0.018, 0.90))
TOKENIZER = byte_tokenizer()


def train(
    shape: dict[str, int],
    folder: Path,
    steps: int,
    teacher: Any = None,
    *,
    lr: float = 0.006,
    ternary: bool = False,
) -> Any:
    """A trained Cognate, kept in `folder`; with a teacher its loss is answers + KL to what the teacher says.

    :param ternary: its matrices are trained through their ternary quantisation, and stored so.
    """
    if not (folder / "config.json").exists():
        trunk = compose("cognate", CognateSettings, profile="tiny").settings.trunk
        model = build(CognateConfig(vocab_size=VOCAB_SIZE, **shape), seed=0)
        if ternary:
            convert(model, dict.fromkeys(unnormed(model, linears_to_convert(model)), 1.0))
        model.train()
        rule = build_optimizer(model, "muon", lr, 0.0)
        began = time.process_time()
        for step in range(steps):
            set_rate(rule, warmup_cosine(step, steps, 20))
            items = mixture(trunk.tasks, trunk.levels, "train", 0, step, 64, scratch=0.2)
            for _, batch in batches(items, TOKENIZER, 64):
                answer, divergence = answer_and_kl(model, teacher, batch, 1.0)
                (answer + divergence).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            rule.step()
            rule.zero_grad()
            if step % 50 == 49:
                print(
                    f"  step {step + 1}: {float(answer.detach()):.3f}, {time.process_time() - began:.0f} CPU s",
                    flush=True,
                )
        save(model.eval(), TOKENIZER, folder, card="")
    model = load(folder)[0].requires_grad_(False)
    round_to_half(model)
    return model


def items(split: Any, count: int) -> list[Any]:
    found = (item for suite in SUITES for item in suite_items(suite, split=split, items=count, seed=0))
    return [without_scratch(item) for item in found]


class Scores(NamedTuple):
    """Retention, the share of answers right to the last token, and KL from the model as it is, nats a token."""

    retention: float
    right: float
    divergence: float

    def __str__(self) -> str:
        return f"{self.retention:9.4f} {self.right:7.4f} {self.divergence:9.5f}"


class Subject:
    """A model, its measured tensors and the frontier of its allocations."""

    def __init__(self, model: Any, work: Path, name: str, workers: Workers) -> None:
        self.evaluator, self.modules = Evaluator(model, TOKENIZER, 64), codable(model, 2048)
        own = {id(getattr(module, "weight", None)) for module in self.modules.values()}
        self.rest = 2 * sum(p.numel() for p in model.parameters() if id(p) not in own)
        select = items("select", 64)
        self.scale = RetentionScale(select, self.evaluator.loss(select), self.evaluator.uniform_loss())
        self.reference = self.evaluator.reference(select)

        weights = map_weights(self.modules, work / f"{name}.weights")
        checkpoints = Checkpoints(str(work / f"{name}.parts"), "0" * 16, every=20)
        progress, codes = Progress(name), work / f"{name}.codes"
        grams = self.evaluator.hessians(items("train", 32), work / f"{name}.hessians", progress)
        self.tensors = Tensors(weights, grams, checkpoints, workers, progress, codes, seed=0)
        self.tensors.measure(CODES, 1 << 22)
        measure_sensitivities(self.tensors, self.evaluator, items("search", 24), progress)
        progress.done()
        self.allocations = frontier(rate_points(self.tensors.points, self.tensors.sensitivity))

    def score(self, weights: Mapping[str, np.ndarray | torch.Tensor]) -> Scores:
        """The model with these weights, on the select split."""
        with self.evaluator.with_weights(weights):
            loss = self.evaluator.loss(self.scale.items)
            right = correct(self.evaluator.model, TOKENIZER, self.scale.items)
            divergence = self.evaluator.kl_increase(self.reference)
        retention = (self.scale.uniform - loss) / (self.scale.uniform - self.scale.before)
        return Scores(retention, float(right.mean()), divergence)

    def best(self, budget: int) -> Allocation | None:
        """Within so many bytes, everything that is no code taken off."""
        return within(self.allocations, budget - self.rest)


def ggml(subject: Subject, peer: str) -> Iterator[tuple[str, int, Scores]]:
    """Type → bytes of all weights, and the scores: every matrix in that type, its columns weighted by the
    diagonals of our Hessians (an importance matrix)."""
    script = Path(__file__).with_name("ggml_model.py")
    given = {path: subject.tensors.weight(path) for path in subject.modules}
    importance = {}
    for path, w in given.items():
        hessian = subject.tensors.hessians.get(path)
        seen = np.ones(w.shape[1]) if hessian is None else np.load(hessian, mmap_mode="r").diagonal()
        importance[f"{path} importance"] = np.maximum(seen, 1e-8).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder) / "there.npz", Path(folder) / "back.npz"
        np.savez(there, **given, **importance)
        for kind in TYPES:
            command = [peer, str(script), "round-trip", kind, str(there), str(back)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            with np.load(back) as decoded:
                scores = subject.score({path: decoded[path] for path in given})
            yield kind, json.loads(done.stdout)["bytes"] + subject.rest, scores


Points = list[tuple[float, float]]
"""Share of the float32 bytes, retention."""


def draw(ours: Points, theirs: Points, students: Points, file: Path) -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(*zip(*ours, strict=True), marker="o", label="a code for each tensor")
    for points, marker, colour, label in (
        (theirs, "x", "C3", "ggml, one type for all"),
        (students, "s", "C1", "smaller students, coded"),
        (list(GOALS), "*", "C2", "goals: 23 % at .94, 1.8 % at .90"),
    ):
        if points:
            axes.scatter(*zip(*points, strict=True), marker=marker, color=colour, label=label, s=60, zorder=3)
    lowest = min(retention for _, retention in [*ours, *theirs, *students, *GOALS])
    axes.set(
        xscale="log", xlabel="share of the float32 bytes", ylabel="retention", ylim=(lowest - 0.02, 1.01)
    )
    ticks = [0.01, 0.018, 0.03, 0.05, 0.1, 0.23, 0.5]
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=100, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--peer-python")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with Workers(1) as workers:
        run(chosen, workers)


def run(chosen: argparse.Namespace, workers: Workers) -> None:
    unknown = [name for name in CODES if name not in presets()]
    assert not unknown, f"no presets: {unknown}"

    model = train(MODEL, chosen.work / "model", chosen.steps)
    full = 4 * model.num_parameters()
    text = sum(
        file.stat().st_size for file in (chosen.work / "model").iterdir() if file.suffix != ".safetensors"
    )
    subject = Subject(model, chosen.work, "model", workers)
    print(
        f"{model.num_parameters():,} parameters, {full:,} bytes in float32; text beside them {text:,} bytes"
    )
    print(f"loss {subject.scale.before:.3f} nats a token, of a uniform guess {subject.scale.uniform:.3f}")
    print(f"{'share':>7} {'bytes':>10} {'bits':>6} {'retention':>9} {'right':>7} {'KL':>9}")
    print(f"{1.0:7.3f} {full:10,} {32.0:6.2f} {subject.score({})}")
    ours = []
    for share in SHARES:
        allocation = subject.best(int(share * full))
        if allocation is None:
            print(
                f"{share:7.3f} {int(share * full):10,}  the least is {subject.allocations[0].bytes + subject.rest:,}"
            )
            continue
        size = allocation.bytes + subject.rest
        scores = subject.score(subject.tensors.decoded(allocation.presets))
        ours.append((size / full, scores.retention))
        print(f"{share:7.3f} {size:10,} {32 * size / full:6.2f} {scores}", flush=True)

    theirs = []
    if chosen.peer_python:
        print("ggml's types, and ours within the same bytes: retention, right answers, KL")
        for kind, size, scores in ggml(subject, chosen.peer_python):
            theirs.append((size / full, scores.retention))
            allocation = subject.best(size)
            same = (
                subject.score(subject.tensors.decoded(allocation.presets))
                if allocation
                else "too small for ours"
            )
            print(f"{kind:8} {size:10,} {32 * size / full:6.2f} {scores}   {same}", flush=True)
    else:
        print("ggml was not measured: no --peer-python")
    budget, steps = int(GOALS[1][0] * full), 3 * chosen.steps // 2
    students: tuple[tuple[str, dict[str, int], Any, bool], ...] = (
        ("distilled", STUDENT, model, False),
        ("without a teacher", STUDENT, None, False),
        ("distilled, ternary", TERNARY, model, True),
    )
    print(
        f"students in {budget:,} bytes, {GOALS[1][0]:.1%} of the model's: what they keep of what the model knows"
    )
    print(
        f"{'student':20} {'parameters':>10} {'float32: kept, right':>22} {'coded: kept, right':>20} {'bytes':>8}"
    )
    smaller: Points = []
    for name, shape, teacher, ternary in students:
        folder = "student-" + name.replace(",", "").replace(" ", "-")
        student = train(shape, chosen.work / folder, steps, teacher, lr=0.008, ternary=ternary)
        small = Subject(student, chosen.work, folder, workers)
        span = subject.scale.uniform - subject.scale.before
        plain = (subject.scale.uniform - small.scale.before) / span
        count = sum(small.tensors.weight(path).size for path in small.modules) + small.rest // 2
        allocation = small.best(budget)
        retention, right, size = float("nan"), float("nan"), small.allocations[0].bytes + small.rest
        if allocation is not None:
            retention, right, _ = small.scores(small.tensors.decoded(allocation.presets))
            size = allocation.bytes + small.rest
            smaller.append((size / full, plain * retention))
        figures = f"{plain:13.4f} {small.scores({}).right:8.4f} {plain * retention:11.4f} {right:8.4f}"
        print(f"{name:20} {count:10,} {figures} {size:8,}", flush=True)
    draw(ours, theirs, smaller, chosen.work / "curve.png")


if __name__ == "__main__":
    main()
