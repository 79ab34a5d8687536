"""Phase 4: every weight of the network's matrices becomes −1, 0 or 1, and the network learns to live with it."""

from __future__ import annotations

import copy
import math
import time

import torch
from transformers import PreTrainedModel

from components.shared.evaluation.answers import loss
from components.shared.evaluation.suites import evaluate
from components.shared.models.card import model_card
from components.shared.models.loading import load, save, stored_tensors, wrap
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture, encode, mixture

from .conversion import convert, linears_to_convert, root_mean_squares, unnormed
from .qat import train
from .settings import Settings


class BitNet(Phase):
    """Converts a causal language model to ternary weights and int8 activations (BitNet b1.58) and trains it so."""

    name = "bitnet"
    Settings = Settings

    def validate_input(self) -> None:
        """The tasks exist, and the model has linear layers that can become ternary."""
        check_mixture(self.run.settings.tasks, self.run.settings.levels)
        model, self.tokenizer = load(self.run.artifact.path)
        linears_to_convert(model)
        own = hasattr(model.config, "storage")  # a Cognate, or wrapped before: it can hold coded layers
        self.teacher = (model if own else wrap(model)).eval().requires_grad_(False)

    def execute(self) -> None:
        """The story: measure, convert, measure what conversion alone does, train, measure again, publish."""
        run, settings = self.run, self.run.settings
        held_out = mixture(settings.tasks, settings.levels, "search", run.seed, 0, settings.held_out_items)
        self.losses = {"full precision": loss(self.teacher, self.tokenizer, held_out)}

        plain = copy.deepcopy(self.teacher)
        convert(plain, {})
        self.losses["ternary without training"] = loss(plain, self.tokenizer, held_out)
        del plain

        student = self._converted()
        run.progress.start("quantisation-aware training", settings.steps)
        curve = train(
            student,
            self.teacher if settings.distillation else None,
            self.tokenizer,
            settings,
            seed=run.seed,
            checkpoints=run.checkpoints,
            report=self._report,
        )
        run.progress.done()
        self.losses["ternary"] = loss(student, self.tokenizer, held_out)
        self._publish(student, curve)

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def _converted(self) -> PreTrainedModel:
        """The ternary network at the start: the input's weights, and norms calibrated on training items."""
        settings = self.run.settings
        student = copy.deepcopy(self.teacher).requires_grad_(True)
        gains: dict[str, float] = {}
        if settings.sublayer_norm:
            items = mixture(
                settings.tasks,
                settings.levels,
                "train",
                self.run.seed,
                settings.steps,
                settings.calibration_items,
            )
            batches = (
                {"input_ids": encode(items[i : i + 64], self.tokenizer).input_ids}
                for i in range(0, len(items), 64)
            )
            gains = root_mean_squares(student, unnormed(linears_to_convert(student)), batches)
        convert(student, gains)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.teacher.to(device)
        return student.to(device)

    def _report(self, step: int, entropy: float, kl: float) -> None:
        self.run.progress.step(step - self.run.progress.at, loss=entropy, kl=kl)
        if step % 10 == 0:
            self.run.tracker.metrics({"loss": entropy, "kl": kl}, step=step)

    def _publish(self, student: PreTrainedModel, curve: dict[str, list[float]]) -> None:
        run, evaluation = self.run, self.run.config.evaluation
        facts = {"parameters": f"{student.num_parameters():,}", "weights": "ternary, five trits a byte"}
        save(
            student.cpu(),
            self.tokenizer,
            run.output,
            card=model_card("Ternary model", __doc__ or "", facts=facts),
        )
        stored, _ = load(run.output)
        scores = evaluate(
            stored,
            self.tokenizer,
            split="report",
            items=evaluation.items,
            seed=run.seed,
            batch=evaluation.batch,
        )
        run.scores = {suite: score.as_dict() for suite, score in scores.items()}
        run.extra["curves"] = {
            "quantisation-aware training": {
                "x": curve["step"],
                "xlabel": "step",
                "ylabel": "nats a token",
                "series": {"answer": curve["loss"], "KL to full precision": curve["kl"]},
            }
        }
        run.extra["sizes"] = {"stored": _bytes_by_kind(student), "before": _bytes_by_kind(self.teacher)}
        self._measure(stored)

    def _measure(self, stored: PreTrainedModel) -> None:
        """Losses, what was retained, sizes and speeds."""
        uniform = math.log(stored.config.vocab_size)
        before, without, after = (
            self.losses[name] for name in ("full precision", "ternary without training", "ternary")
        )
        self.metrics = {
            "loss_before": before,
            "loss_without_training": without,
            "loss_after": after,
            "loss_increase": after - before,
            "bytes_per_parameter": sum(_bytes_by_kind(stored).values()) / self.teacher.num_parameters(),
            "tokens_per_second_before": _tokens_per_second(self.teacher.cpu()),
            "tokens_per_second": _tokens_per_second(stored),
        }
        if uniform > before:
            self.metrics["retention"] = (uniform - after) / (uniform - before)
        self.run.extra["controls"] = [
            {
                "claim": "quantisation-aware training recovers what rounding to ternary destroys",
                "arm": "ternary, trained",
                "value": after,
                "control": "ternary, only rounded",
                "control_value": without,
                "unit": "held-out loss, nats a token",
                "higher_is_better": False,
                "holds": after < without,
            }
        ]


def _bytes_by_kind(model: PreTrainedModel) -> dict[str, int]:
    """How many bytes the weights take in the safetensors file, by how they are stored."""
    tensors, storage = stored_tensors(model)
    sizes: dict[str, int] = {}
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        kind = storage[path]["codec"] if leaf == "code" else str(tensor.dtype).removeprefix("torch.")
        sizes[kind] = sizes.get(kind, 0) + tensor.numel() * tensor.element_size()
    return sizes


@torch.no_grad()
def _tokens_per_second(model: PreTrainedModel, rows: int = 16, length: int = 64, repeats: int = 4) -> float:
    """Tokens a second of a whole forward pass, best of a few; a timing, not part of any digest."""
    ids = torch.arange(rows * length).reshape(rows, length) % model.config.vocab_size
    model(input_ids=ids)  # decodes lazily stored weights
    best = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        model(input_ids=ids)
        best = min(best, time.perf_counter() - began)
    return rows * length / best
