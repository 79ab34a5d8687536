"""Phase 4: every weight of the network's matrices becomes −1, 0 or 1, and the network learns to live with it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from transformers import PreTrainedModel

from components.shared.data.texts import open_texts
from components.shared.evaluation.answers import batches, nll
from components.shared.evaluation.perplexity import file_score
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.speed import speed
from components.shared.models.card import model_card
from components.shared.models.half import round_to_half
from components.shared.models.loading import load, save, wrap
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.measured import STAND_INS
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.runtime.store.local_copy import local_file
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.tasks.corpora import tasks_of
from components.shared.tasks.item import Item, Split
from components.shared.tasks.room import Room, positions_of
from components.shared.training.device import device
from components.shared.training.head import causal_lm
from components.shared.training.loop import report_to, rows_in_part
from components.shared.training.packed import readable
from components.shared.training.paged import paged

from .component import PHASE
from .conversion import convert, linears_to_convert, root_mean_squares
from .findings import Losses, against_rounding, mean, sizes
from .placement import kept, unnormed
from .qat import train
from .settings import Settings

__all__ = ["BitNet"]

MOMENTS = {
    "full precision": "before",
    "ternary without training": "without_training",
    "ternary": "after",
}
"""What is looked at → the ending of its metrics."""

TEXT_SEED = 4
"""Beyond the run's own: rows of text come in another order than in phases cognate (0 to 3) and training (0)."""


class BitNet(Phase[Settings], spec=PHASE):
    """Converts a causal language model to ternary weights and int8 activations (BitNet b1.58) and trains it so."""

    def validate_input(self) -> None:
        """The tasks exist, and the model has linear layers that can become ternary."""
        check_mixture(self.run.settings.tasks, self.run.settings.levels)
        model, self.tokenizer = load(self.run.artifact.path, device=device())
        linears_to_convert(model)
        self.room = Room(self.tokenizer, positions_of(model), self.run.progress.note)
        self.mixture = self.room.fitting(tasks_of(self.run.settings.tasks), self.run.settings.levels)
        own = hasattr(model.config, "storage")  # a Cognate, or wrapped before: it can hold coded layers
        self.teacher = (model if own else wrap(model)).float().requires_grad_(False)

    def execute(self) -> None:
        """The story: measure, convert, measure what conversion alone does, train, measure again, publish."""
        run, settings = self.run, self.run.settings
        self.held_out = self._items("search", 0, settings.held_out_items)
        self.texts = open_texts(
            run,
            settings.tasks,
            self.teacher,
            self.tokenizer,
            run.seed + TEXT_SEED,
            row_tokens=settings.row_tokens,
            size=settings.batch,
            asked=self.held_out,
        )
        self.losses, self.perplexities = dict[str, Losses](), dict[str, float]()
        self._look("full precision", self.teacher)
        self._look("ternary without training", self._rounded())

        student = self._converted()
        if settings.engine.precision == "bfloat16":
            self.teacher.bfloat16()  # what it says is computed so in any case
        run.progress.start("quantisation-aware training", settings.steps)
        with paged(self.teacher, run.work):
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
        high_precision = kept(student)
        self._store(student.cpu())
        del student
        self._report(curve, high_precision)

    def get_metrics(self) -> dict[str, float]:
        """Losses on the search split in nats a token, perplexities of `evaluation.text`, retention, bytes, and timings.

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

    def _items(self, split: Split, step: int, count: int, scratch: float = 0.0) -> list[Item]:
        """Items of the mixture's tasks."""
        return mixture(*self.mixture, split, self.run.seed, step, count, scratch=scratch, room=self.room)

    def _draw(self, step: int) -> list[Batch]:
        """The batches of a step, of items and of text: a function of the seed and the step."""
        s = self.run.settings
        items = self._items("train", step, s.batch, s.scratch)
        items = items[: max(1, s.batch - self.texts.count(s.tasks, step))]
        rows = rows_in_part(s.rows, s.batch, s.engine)
        return [
            *(batch for _, batch in batches(items, self.tokenizer, rows)),
            *self.texts.batches(s.tasks, step),
        ]

    def _calibration(self) -> Iterator[dict[str, torch.Tensor]]:
        """Training items, and the mixture's share of text, that no step of training draws."""
        s = self.run.settings
        items = self._items("train", s.steps, s.calibration_items)
        of_items = (encode(items[start : start + 64], self.tokenizer) for start in range(0, len(items), 64))
        for drawn in (*of_items, *self.texts.batches(s.tasks, s.steps)):
            batch, options = readable(self.teacher, causal_lm(self.teacher), drawn.to(self.teacher.device))
            yield {"input_ids": batch.input_ids, **options}

    def _look(self, name: str, model: PreTrainedModel) -> None:
        """How a model predicts held-out items and, where the run has one, the held-out text."""
        evaluation = self.run.config.evaluation
        self.losses[name] = self._losses(model)
        if evaluation.text:
            place = local_file(evaluation.text)
            text = file_score(model, self.tokenizer, place, most=evaluation.text_tokens)
            self.perplexities[name] = text.perplexity

    def _losses(self, model: PreTrainedModel) -> Losses:
        return Losses(*nll(model, self.tokenizer, self.held_out, batch=self.run.config.evaluation.batch))

    def _store(self, student: PreTrainedModel) -> None:
        """Write the artifact."""
        facts = {"parameters": f"{student.num_parameters():,}", "weights": "ternary, five trits a byte"}
        card = model_card("Ternary model", __doc__ or "", facts=facts)
        save(student, self.tokenizer, self.run.output, card=card, half=True)

    def _report(self, curve: dict[str, list[float]], high_precision: dict[str, str]) -> None:
        """Score and measure what was stored, which alone is in memory beside the teacher."""
        run = self.run
        stored, _ = load(run.output)
        score(run, stored, self.tokenizer)
        if self.perplexities:
            self.perplexities["ternary"] = run.extra[STAND_INS]["perplexity"]
        run.extra["curves"] = {
            "quantisation-aware training": {
                "x": curve["step"],
                "xlabel": "step",
                "ylabel": "nats a token",
                "series": {"answer": curve["loss"], "KL to full precision": curve["kl"]},
            }
        }
        run.extra["sizes"] = sizes(run.artifact.path, run.output)
        run.extra["high_precision"] = high_precision
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
            **{f"loss_{when}": loss[name] for name, when in MOMENTS.items()},
            **{f"perplexity_{MOMENTS[name]}": value for name, value in self.perplexities.items()},
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
