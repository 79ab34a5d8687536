"""Phase 4: every weight of the network's matrices becomes −1, 0 or 1, and the network learns to live with it."""

from __future__ import annotations

import copy
import math

import torch
from transformers import PreTrainedModel

from components.shared.evaluation.answers import batches, nll
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.speed import speed
from components.shared.models.card import model_card
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, save, wrap
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.training.device import device
from components.shared.training.loop import report_to, rows_in_part

from .component import PHASE
from .conversion import convert, linears_to_convert, root_mean_squares
from .findings import Losses, against_rounding, mean, sizes
from .placement import kept, unnormed
from .qat import train
from .settings import Settings

__all__ = ["BitNet"]


class BitNet(Phase[Settings], spec=PHASE):
    """Converts a causal language model to ternary weights and int8 activations (BitNet b1.58) and trains it so."""

    def validate_input(self) -> None:
        """The tasks exist, and the model has linear layers that can become ternary."""
        check_mixture(self.run.settings.tasks, self.run.settings.levels)
        model, self.tokenizer = load(self.run.artifact.path, device=device())
        linears_to_convert(model)
        own = hasattr(model.config, "storage")  # a Cognate, or wrapped before: it can hold coded layers
        self.teacher = (model if own else wrap(model)).float().requires_grad_(False)

    def execute(self) -> None:
        """The story: measure, convert, measure what conversion alone does, train, measure again, publish."""
        run, settings = self.run, self.run.settings
        self.held_out = mixture(
            settings.tasks, settings.levels, "search", run.seed, 0, settings.held_out_items
        )
        self.losses = {"full precision": self._losses(self.teacher)}
        self.losses["ternary without training"] = self._losses(self._rounded())

        student = self._converted()
        if settings.engine.precision == "bfloat16":
            self.teacher.bfloat16()  # what it says is computed so in any case
        run.progress.start("quantisation-aware training", settings.steps)
        curve = train(
            student,
            self.teacher if settings.distillation else None,
            build_optimizer(
                student,
                settings.optimizer,
                settings.lr,
                settings.weight_decay,
                bits=settings.engine.optimizer_bits,
            ),
            self._draw,
            steps=settings.steps,
            warmup=settings.warmup,
            strength_warmup=settings.strength_warmup,
            distillation=settings.distillation,
            temperature=settings.temperature,
            clip=settings.clip,
            engine=settings.engine,
            checkpoints=run.checkpoints,
            report=report_to(run.progress, run.tracker, every=10),
        )
        run.progress.done()
        group.leave()
        round_to_half(student)
        self.losses["ternary"] = self._losses(student)
        self._publish(student.cpu(), curve)

    def get_metrics(self) -> dict[str, float]:
        """Losses on the search split in nats a token, retention, bytes, and timings (`…_per_second`).

        `size_reduction` and `inference_speedup` are ratios, input to output and output to input: larger is better.
        """
        return self.metrics

    def _rounded(self) -> PreTrainedModel:
        """The control: the input's weights made ternary and nothing else. It shares them."""
        model = copy.deepcopy(self.teacher, {id(weight): weight for weight in self.teacher.parameters()})
        convert(model, {})
        return model

    def _converted(self) -> PreTrainedModel:
        """The ternary network at the start: the input's weights, and norms calibrated on training items."""
        settings, gains = self.run.settings, {}
        student = copy.deepcopy(self.teacher).requires_grad_(True)
        if settings.sublayer_norm:
            paths = unnormed(student, linears_to_convert(student))
            gains = root_mean_squares(student, paths, self._calibration())
        convert(student, gains)
        return student

    def _draw(self, step: int) -> list[Batch]:
        """The batches of a step: a function of the seed and the step."""
        s = self.run.settings
        items = mixture(s.tasks, s.levels, "train", self.run.seed, step, s.batch, scratch=s.scratch)
        return [batch for _, batch in batches(items, self.tokenizer, rows_in_part(s.rows, s.batch, s.engine))]

    def _calibration(self) -> list[dict[str, torch.Tensor]]:
        """Batches of training items that no step of training draws."""
        s = self.run.settings
        items = mixture(s.tasks, s.levels, "train", self.run.seed, s.steps, s.calibration_items)
        return [
            {"input_ids": encode(items[i : i + 64], self.tokenizer).input_ids.to(self.teacher.device)}
            for i in range(0, len(items), 64)
        ]

    def _losses(self, model: PreTrainedModel) -> Losses:
        return Losses(*nll(model, self.tokenizer, self.held_out, batch=self.run.config.evaluation.batch))

    def _publish(self, student: PreTrainedModel, curve: dict[str, list[float]]) -> None:
        """Store the model; what is measured from here on is what was stored."""
        run = self.run
        facts = {"parameters": f"{student.num_parameters():,}", "weights": "ternary, five trits a byte"}
        card = model_card("Ternary model", __doc__ or "", facts=facts)
        save(student, self.tokenizer, run.output, card=card, half=True)
        stored, _ = load(run.output)
        score(run, stored, self.tokenizer)
        run.extra["curves"] = {
            "quantisation-aware training": {
                "x": curve["step"],
                "xlabel": "step",
                "ylabel": "nats a token",
                "series": {"answer": curve["loss"], "KL to full precision": curve["kl"]},
            }
        }
        run.extra["sizes"] = sizes(run.artifact.path, run.output)
        run.extra["high_precision"] = kept(student)
        self.metrics = self._measure(stored)
        run.extra["controls"] = [
            against_rounding(self.losses["ternary"], self.losses["ternary without training"], run.seed)
        ]
        self.metrics |= score_thinking(run, stored, self.tokenizer)

    def _measure(self, stored: PreTrainedModel) -> dict[str, float]:
        """Losses, what was retained, sizes and speeds."""
        loss = {name: mean(each) for name, each in self.losses.items()}
        before, after = loss["full precision"], loss["ternary"]
        bytes_before, bytes_after = (
            sum(self.run.extra["sizes"][when].values()) for when in ("before", "stored")
        )
        metrics = {
            "loss_before": before,
            "loss_without_training": loss["ternary without training"],
            "loss_after": after,
            "loss_increase": after - before,
            "bytes_before": bytes_before,
            "bytes_after": bytes_after,
            "bits_per_parameter": 8 * bytes_after / self.teacher.num_parameters(),
        }
        uniform = math.log(stored.config.get_text_config().vocab_size)
        if uniform > before:
            metrics["retention"] = (uniform - after) / (uniform - before)
        for name, model in (("before", self.teacher.cpu()), ("after", stored)):
            timing = speed(model, self.tokenizer, self.held_out[:64])
            metrics[f"tokens_per_second_{name}"] = timing["tokens_per_second"]
        metrics["size_reduction"] = bytes_before / bytes_after
        metrics["inference_speedup"] = (
            metrics["tokens_per_second_after"] / metrics["tokens_per_second_before"]
        )
        return metrics
