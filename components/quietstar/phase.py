"""Phase quietstar: the model learns to think before it predicts, and is held against pauses of equal compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.curves import curve
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.suites import draw
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.optim.optimizer import optimizer
from components.shared.optim.schedule import set_rate, warmup_stable_decay
from components.shared.runtime.checkpoint.checkpoints import Checkpoint, Snapshot
from components.shared.runtime.errors import InputError, PhaseFailed
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.tasks.item import Item

from .component import PHASE
from .exam import Marks, Way, sit
from .findings import claims, show
from .lesson import Arm, lesson
from .settings import Course, Settings
from .vocabulary import Words, teach_words

ARMS: tuple[Arm, ...] = ("pause", "thoughts")
SAMPLES = 6
WARMUP, DECAY = 0.05, 0.3  # shares of the steps in which the learning rate rises and falls
CARD = (
    "It was trained by Quiet-STaR (arXiv 2403.09629). Called as usual it answers at once. With thoughts.py, which lies "
    "beside it, it thinks first: `think(model, input_ids)` gives the mixed predictions at every position, and "
    "`speak(model, input_ids, limit=…, stop=…)` generates with a thought before every token."
)


@dataclass
class Pupil:
    """One arm's model and what trains it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    words: Words
    rules: dict[str, Optimizer]


class QuietStar(Phase[Settings], spec=PHASE):
    """Quiet-STaR (arXiv 2403.09629): thought tokens, a mixing head and REINFORCE."""

    def validate_input(self) -> None:
        """Refuse populations, tasks without enough items, and a warm-up that leaves no steps for REINFORCE."""
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
        if settings.warmup >= settings.steps:
            raise InputError(
                f"{settings.warmup} warm-up steps of {settings.steps} leave none for REINFORCE",
                where="quietstar.warmup",
                fix="raise quietstar.steps or lower quietstar.warmup",
            )
        self.items = self.draw_exam()

    def execute(self) -> None:
        """Train the pause arm and the thoughts arm from the same input, compare them, publish the second."""
        self.marks: dict[str, Marks] = {}
        self.curves: dict[str, dict[str, list[float]]] = {arm: {} for arm in ARMS}
        saved = self.run.checkpoints.restore()
        if saved is not None:
            self.marks = {name: Marks(**each) for name, each in saved.state["marks"].items()}
            self.curves = saved.state["curves"]
        if saved is None or saved.state["arm"] == "pause":
            self.control(saved)
            saved = None
        pupil = self.enrol()
        self.train(pupil, "thoughts", saved)
        ways: tuple[Way, ...] = ("no thought", "thoughts", "shuffled")
        for way in ways:
            self.marks[way] = self.sit(pupil, way)
        self.publish(pupil)

    def control(self, saved: Checkpoint | None) -> None:
        """The control arm: pauses in place of thoughts, at equal compute. Its model is examined and forgotten."""
        pupil = self.enrol()
        if "input" not in self.marks:
            self.marks["input"] = self.sit(pupil, "no thought")
        self.train(pupil, "pause", saved)
        self.marks["pause"] = self.sit(pupil, "pause")

    def enrol(self) -> Pupil:
        """The input model, with a talk head and the words of thinking."""
        settings: Settings = self.run.settings
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model, tokenizer = load(self.run.artifact.path, trainable=True, device=device)
        model, words = teach_words(model, tokenizer, settings.length, seed=self.run.seed)
        talk_head = model.get_submodule("talk_head").requires_grad_(False)
        rule = optimizer(model, settings.optimizer, settings.lr, settings.weight_decay)
        head = optimizer(talk_head.requires_grad_(True), "adamw", settings.talk_lr)
        return Pupil(model, tokenizer, words, {"model": rule, "talk head": head})

    def train(self, pupil: Pupil, arm: Arm, saved: Checkpoint | None) -> None:
        """Train one arm in place; the thoughts arm is examined once before REINFORCE begins."""
        run, settings = self.run, self.run.settings
        generator = run.generator(f"thoughts of {arm}")
        loop = Snapshot({"model": pupil.model}, pupil.rules, {"thoughts": generator})
        before = ARMS.index(arm) * settings.steps  # checkpoints are numbered through both arms
        if saved is not None:
            loop.load(saved)
        first = max(0, loop.step - before)
        warmup, decay = round(WARMUP * settings.steps), round(DECAY * settings.steps)
        pupil.model.train()
        run.progress.start(f"train {arm}", settings.steps, at=first)
        for step in range(first, settings.steps):
            if arm == "thoughts" and step == settings.warmup:
                self.marks["before REINFORCE"] = self.sit(pupil, "thoughts")
            for rule in pupil.rules.values():
                set_rate(rule, warmup_stable_decay(step, settings.steps, warmup, decay))
            text = self.batch(settings.text, pupil, "text", step, settings.text.batch, settings.scratch)
            rows = settings.questions.batch * (settings.passes if arm == "pause" else 1)
            questions = self.batch(settings.questions, pupil, "questions", step, rows, 0.0)
            reinforce = step >= settings.warmup
            made = lesson(
                pupil.model, text, questions, arm, pupil.words, settings, generator, reinforce=reinforce
            )
            pupil.model.zero_grad()
            made.loss.backward()
            nn.utils.clip_grad_norm_(pupil.model.parameters(), settings.clip)
            if not torch.isfinite(made.loss):
                raise PhaseFailed(
                    f"the loss is {made.loss.item()} at step {step} of the {arm} arm",
                    where="quietstar",
                    fix="lower quietstar.lr or quietstar.policy_weight",
                )
            for rule in pupil.rules.values():
                rule.step()
            for name, value in made.metrics.items():
                self.curves[arm].setdefault(name, []).append(round(value, 6))
            run.progress.step(1, **made.metrics)
            run.tracker.metrics({f"{arm}/{name}": value for name, value in made.metrics.items()}, step=step)
            if run.checkpoints.due():
                marks = {name: each._asdict() for name, each in self.marks.items()}
                loop.state = {"arm": arm, "marks": marks, "curves": self.curves}
                loop.save(run.checkpoints, before + step + 1)
                run.checkpoints.stop_if_asked()
        pupil.model.eval()
        run.progress.done()

    def batch(self, course: Course, pupil: Pupil, name: str, step: int, size: int, scratch: float) -> Batch:
        """The items of a step: a function of the seed, the course's name and the step."""
        seed = int(self.run.numpy(name).integers(2**31))
        items = mixture(course.tasks, course.levels, "train", seed, step, size, scratch=scratch)
        return encode(items, pupil.tokenizer)

    def draw_exam(self) -> list[Item]:
        """Search items of the questions' tasks and levels, equally many of each."""
        course, seed = self.run.settings.questions, self.run.seed
        levels = (
            course.levels if isinstance(course.levels, dict) else dict.fromkeys(course.tasks, course.levels)
        )
        cells = [(task, level) for task in course.tasks for level in sorted(set(levels[task]))]
        share = -(-self.run.settings.items // len(cells))
        return [item for task, level in cells for item in draw(task, "search", level, share, seed)]

    def sit(self, pupil: Pupil, way: Way) -> Marks:
        """Examine one arm in one way."""
        self.run.progress.note(f"examining {len(self.items)} search items: {way}")
        return sit(
            pupil.model, pupil.tokenizer, self.items, way, pupil.words, batch=self.run.config.evaluation.batch
        )

    def publish(self, pupil: Pupil) -> None:
        """Score the model on the report split, without and with thinking, and write it."""
        run, model, tokenizer = self.run, pupil.model, pupil.tokenizer
        score(run, model, tokenizer)
        self.metrics = score_thinking(run, model, tokenizer)
        for name, each in self.marks.items():
            key = name.replace(" ", "_")
            self.metrics |= {
                f"accuracy/{key}": float(np.mean(each.right)),
                f"nll/{key}": float(np.mean(each.nll)),
            }
        run.extra["controls"] = claims(self.marks)
        thoughts = self.curves["thoughts"]
        run.extra["curves"] = {
            f"cross-entropy of the answers, {arm} arm": curve(
                {name: self.curves[arm][name] for name in ("before", "mixed")}, "nats a token"
            )
            for arm in ARMS
        } | {
            "mixing weight": curve({"weight": thoughts["weight"]}, "w"),
            "reward of a thought": curve({"reward": thoughts["reward"]}, "nats over the talk tokens"),
        }
        run.extra["samples"] = show(model, tokenizer, self.items[:SAMPLES])
        save(model, tokenizer, run.output, card=model_card("A model that thinks before it predicts", CARD))

    def get_metrics(self) -> dict[str, float]:
        """Accuracy and negative log-likelihood (nats a token) of every way of answering, on the search split."""
        return self.metrics
