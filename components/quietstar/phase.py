"""Phase quietstar: the model learns to think before it predicts, and is held against pauses of equal compute."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.suites import draw, evaluate
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_stable_decay
from components.shared.runtime.checkpoint import Checkpoint, Snapshot
from components.shared.runtime.errors import InputError, PhaseFailed
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.tasks.item import Item

from .exam import Marks, Way, sit
from .findings import claims, curve_of, show
from .lesson import Arm, lesson
from .settings import Course, Settings
from .vocabulary import Words, teach_words

Curves = dict[str, dict[str, list[float]]]

ARMS: tuple[Arm, ...] = ("pause", "thoughts")
SAMPLES = 6
WARMUP, DECAY = 0.05, 0.3  # shares of the steps in which the learning rate rises and falls
CARD = (
    "It was trained by Quiet-STaR (arXiv 2403.09629). Called as usual it answers at once. With thoughts.py, which lies "
    "beside it, it thinks first: `think(model, input_ids)` gives the mixed predictions at every position, and "
    "`speak(model, input_ids, limit=…, stop=…)` generates with a thought before every token."
)


class Pupil(NamedTuple):
    """One arm's model and what trains it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    words: Words
    rule: Optimizer


def levels_of(course: Course, task: str) -> list[int]:
    """The levels of one task."""
    return course.levels[task] if isinstance(course.levels, dict) else course.levels


class QuietStar(Phase):
    """Quiet-STaR (arXiv 2403.09629): thought tokens, a mixing head and REINFORCE."""

    name = "quietstar"
    Settings = Settings

    def validate_input(self) -> None:
        """Refuse populations, tasks that do not exist and more warm-up than there are steps."""
        settings: Settings = self.run.settings
        artifact = self.run.artifact
        if artifact.kind == "population":
            raise InputError(
                "a population is no model",
                where=str(artifact.path),
                fix="give the champion that evomerge published",
            )
        for course in (settings.questions, settings.text):
            check_mixture(course.tasks, course.levels)
        if settings.warmup > settings.steps:
            raise InputError(
                f"{settings.warmup} warm-up steps do not fit into {settings.steps}",
                where="quietstar.warmup",
                fix="raise quietstar.steps or lower quietstar.warmup",
            )

    def execute(self) -> None:
        """Train the pause arm and the thoughts arm from the same input, compare them, publish the second."""
        run = self.run
        self.items = self.questions_of_the_exam()
        saved = run.checkpoints.restore()
        marks: dict[str, Marks] = {}
        curves: Curves = {}
        first: Arm = "pause"
        if saved is not None:
            first = saved.state["arm"]
            marks = {name: Marks(**each) for name, each in saved.state["marks"].items()}
            curves = saved.state["curves"]
        for arm in ARMS[ARMS.index(first) :]:
            pupil = self.enrol()
            if arm == "pause" and "input" not in marks:
                marks["input"] = self.sit(pupil, "no thought")
            self.train(
                pupil, arm, marks, curves, saved if saved is not None and saved.state["arm"] == arm else None
            )
            if arm == "pause":
                marks["pause"] = self.sit(pupil, "pause")
        for way in ("no thought", "thoughts", "shuffled"):
            marks[way] = self.sit(pupil, way)  # type: ignore[arg-type]
        self.publish(pupil, marks, curves)

    def enrol(self) -> Pupil:
        """The input model, with a talk head and the words of thinking."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = load(self.run.artifact.path, trainable=True, device=device)
        settings: Settings = self.run.settings
        model, words = teach_words(model, tokenizer, settings.length, seed=self.run.seed)
        rule = optimizer(model, settings.optimizer, settings.lr, settings.weight_decay)
        return Pupil(model, tokenizer, words, rule)

    def train(
        self,
        pupil: Pupil,
        arm: Arm,
        marks: dict[str, Marks],
        curves: Curves,
        saved: Checkpoint | None,
    ) -> None:
        """Train one arm in place; the thoughts arm is examined once before REINFORCE begins."""
        run, settings = self.run, self.run.settings
        generator = run.generator(f"thoughts of {arm}")
        loop = Snapshot({"model": pupil.model}, {"rule": pupil.rule}, {"thoughts": generator}, {"arm": arm})
        done = ARMS.index(arm) * settings.steps  # checkpoints are numbered through both arms
        if saved is not None:
            loop.load(saved)
        curve = curves.setdefault(arm, {})
        pupil.model.train()
        begin = max(0, loop.step - done)
        run.progress.start(f"train {arm}", settings.steps, at=begin)
        for step in range(begin, settings.steps):
            if arm == "thoughts" and step == settings.warmup:
                marks["before REINFORCE"] = self.sit(pupil, "thoughts")
            set_rate(
                pupil.rule,
                warmup_stable_decay(
                    step, settings.steps, round(WARMUP * settings.steps), round(DECAY * settings.steps)
                ),
            )
            text = self.batch(settings.text, pupil, "text", step, settings.text.batch, settings.scratch)
            rows = settings.questions.batch * (settings.passes if arm == "pause" else 1)
            questions = self.batch(settings.questions, pupil, "questions", step, rows, 0.0)
            made = lesson(
                pupil.model,
                text,
                questions,
                arm,
                pupil.words,
                settings,
                generator,
                reinforce=step >= settings.warmup,
            )
            pupil.rule.zero_grad()
            made.loss.backward()
            nn.utils.clip_grad_norm_(pupil.model.parameters(), settings.clip)
            if not torch.isfinite(made.loss):
                raise PhaseFailed(
                    f"the loss is {made.loss.item()} at step {step} of the {arm} arm",
                    where="quietstar",
                    fix="lower quietstar.lr or quietstar.policy_weight",
                )
            pupil.rule.step()
            for name, value in made.metrics.items():
                curve.setdefault(name, []).append(round(value, 6))
            run.progress.step(1, **made.metrics)
            run.tracker.metrics({f"{arm}/{name}": value for name, value in made.metrics.items()}, step=step)
            if run.checkpoints.due():
                loop.state |= {"marks": {k: v._asdict() for k, v in marks.items()}, "curves": curves}
                loop.save(run.checkpoints, done + step + 1)
                run.checkpoints.stop_if_asked()
        pupil.model.eval()
        run.progress.done()

    def batch(self, course: Course, pupil: Pupil, name: str, step: int, size: int, scratch: float) -> Batch:
        """The items of a step: a function of the seed, the course's name and the step."""
        seed = int(self.run.numpy(name).integers(2**31))
        items = mixture(course.tasks, course.levels, "train", seed, step, size, scratch=scratch)
        return encode(items, pupil.tokenizer)

    def questions_of_the_exam(self) -> list[Item]:
        """Search items of the questions' tasks, as evenly as they divide."""
        course, seed = self.run.settings.questions, self.run.seed
        cells = [(task, level) for task in course.tasks for level in levels_of(course, task)]
        share = -(-self.run.settings.items // len(cells))
        return [item for task, level in cells for item in draw(task, "search", level, share, seed)]

    def sit(self, pupil: Pupil, way: Way) -> Marks:
        """Examine one arm in one way."""
        self.run.progress.note(f"examining {len(self.items)} search items: {way}")
        return sit(
            pupil.model, pupil.tokenizer, self.items, way, pupil.words, batch=self.run.config.evaluation.batch
        )

    def publish(self, pupil: Pupil, marks: dict[str, Marks], curves: Curves) -> None:
        """Score the model on the report split, without and with thinking, and write it."""
        run = self.run
        model, tokenizer, _, _ = pupil
        run.progress.note("scoring the report split, without thinking and with it")
        common: dict[str, Any] = {
            "split": "report",
            "items": run.config.evaluation.items,
            "seed": run.seed,
            "batch": run.config.evaluation.batch,
        }
        run.scores = {suite: score.as_dict() for suite, score in evaluate(model, tokenizer, **common).items()}
        thinker = partial(answers_with_thoughts, model, tokenizer)
        thinking = evaluate(thinker, tokenizer, suites=["reasoning"], **common)["reasoning"]

        self.metrics = {
            "thinking/reasoning": thinking.score,
            "plain/reasoning": run.scores["reasoning"]["score"],
        }
        for name, each in marks.items():
            key = name.replace(" ", "_")
            self.metrics |= {
                f"accuracy/{key}": float(np.mean(each.right)),
                f"nll/{key}": float(np.mean(each.nll)),
            }
        run.extra["thinking"] = {"reasoning": thinking.as_dict()}
        run.extra["controls"] = claims(marks)
        run.extra["curves"] = {
            **{
                f"cross-entropy of the answers, {arm} arm": curve_of(
                    curves[arm], ("before", "mixed"), "nats a token"
                )
                for arm in ARMS
            },
            "mixing weight": curve_of(curves["thoughts"], ("weight",), "w"),
            "reward of a thought": curve_of(curves["thoughts"], ("reward",), "nats over the talk tokens"),
        }
        run.extra["samples"] = show(model, tokenizer, self.items[:SAMPLES])
        save(model, tokenizer, run.output, card=model_card("A model that thinks before it predicts", CARD))

    def get_metrics(self) -> dict[str, float]:
        """Accuracy and negative log-likelihood (nats a token) of every way of answering, on the search split."""
        return self.metrics
