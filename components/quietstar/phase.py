"""Phase quietstar: the model learns to think before it predicts, and is held against pauses of equal compute."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import numpy as np
from torch.optim import Optimizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.curves import curve
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.suites import draw
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.optim.optimizer import build_optimizer
from components.shared.optim.schedule import warmup_stable_decay
from components.shared.runtime.checkpoint.checkpoints import Checkpoint
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.tasks.item import Item
from components.shared.tasks.room import Room, positions_of
from components.shared.training.device import device
from components.shared.training.loop import TrainingLoop, report_to, shares_of_rows

from .component import PHASE
from .evaluation import ItemScores, Mode, evaluate
from .findings import claims, thought_samples
from .settings import Settings, TaskMixture
from .training_loss import ArmName, StepLoss, text_loss, thought_loss
from .vocabulary import ThoughtTokens, add_thought_tokens

__all__ = ["QuietStar"]

ARMS: tuple[ArmName, ...] = ("pause", "thoughts")
SAMPLES = 6
WARMUP, DECAY = 0.05, 0.3  # shares of the steps in which the learning rate rises and falls
CARD = (
    "It was trained by Quiet-STaR (arXiv 2403.09629). Called as usual it answers at once. With thoughts.py, which lies "
    "beside it, it thinks first: `think(model, input_ids)` gives the mixed predictions at every position, and "
    "`generate_with_thoughts(model, input_ids, limit=…, stops=…)` generates with a thought before every token."
)


@dataclass
class Arm:
    """One arm's model and what trains it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    tokens: ThoughtTokens
    optimizers: dict[str, Optimizer]


class QuietStar(Phase[Settings], spec=PHASE):
    """Quiet-STaR (arXiv 2403.09629): thought tokens, a mixing head and REINFORCE."""

    def validate_input(self) -> None:
        """Refuse populations, tasks without enough items, and a warm-up that leaves no steps for REINFORCE."""
        settings = self.run.settings
        artifact = self.run.artifact
        if artifact.kind == "population":
            raise InputError(
                "a population is no model",
                where=str(artifact.path),
                fix="give the champion that evomerge published",
            )
        for mix in (settings.questions, settings.text):
            check_mixture(mix.tasks, mix.levels)
        if settings.warmup >= settings.steps:
            raise InputError(
                f"{settings.warmup} warm-up steps of {settings.steps} leave none for REINFORCE",
                where="quietstar.warmup",
                fix="raise quietstar.steps or lower quietstar.warmup",
            )
        self.items = self.held_out_items()

    def execute(self) -> None:
        """Train the pause arm and the thoughts arm from the same input, compare them, publish the second."""
        self.scores: dict[str, ItemScores] = {}
        self.curves: dict[str, dict[str, list[float]]] = {name: {} for name in ARMS}
        saved = self.run.checkpoints.restore()
        if saved is not None:
            self.scores = {name: ItemScores(**each) for name, each in saved.state["scores"].items()}
            self.curves = saved.state["curves"]
        if saved is None or saved.state["arm"] == "pause":
            self.control(saved)
            saved = None
            gc.collect()  # the pause arm's loop stands in cycles; its states are as large as the next arm's
        arm = self.load_arm()
        self.train(arm, "thoughts", saved)
        group.leave()
        modes: tuple[Mode, ...] = ("no thought", "thoughts", "shuffled")
        for mode in modes:
            self.scores[mode] = self.evaluate(arm, mode)
        self.publish(arm)

    def control(self, saved: Checkpoint | None) -> None:
        """The control arm: pauses in place of thoughts, at equal compute. Its model is evaluated and forgotten."""
        arm = self.load_arm()
        if "input" not in self.scores:
            self.scores["input"] = self.evaluate(arm, "no thought")
        self.train(arm, "pause", saved)
        self.scores["pause"] = self.evaluate(arm, "pause")

    def load_arm(self) -> Arm:
        """The input model, with a talk head and the words of thinking."""
        settings = self.run.settings
        model, tokenizer = load(self.run.artifact.path, trainable=True, device=device())
        model, tokens = add_thought_tokens(model, tokenizer, settings.length, seed=self.run.seed)
        talk_head = model.get_submodule("talk_head").requires_grad_(False)
        optimizers = {
            "model": build_optimizer(
                model,
                settings.optimizer,
                settings.lr,
                settings.weight_decay,
                bits=settings.engine.optimizer_bits,
            ),
            "talk head": build_optimizer(talk_head.requires_grad_(True), "adamw", settings.talk_lr),
        }
        return Arm(model, tokenizer, tokens, optimizers)

    def train(self, arm: Arm, name: ArmName, saved: Checkpoint | None) -> None:
        """Train one arm in place; the thoughts arm is evaluated once before REINFORCE begins."""
        run, settings = self.run, self.run.settings
        generator = run.generator(f"thoughts of {name}")
        snapshot = Snapshot({"model": arm.model}, arm.optimizers, {"thoughts": generator})
        before = ARMS.index(name) * settings.steps  # checkpoints are numbered through both arms
        loop = TrainingLoop(
            arm.model,
            arm.optimizers,
            clip=settings.clip,
            engine=settings.engine,
            where=f"quietstar, {name} arm",
            fix="lower quietstar.lr or quietstar.policy_weight",
            snapshot=snapshot,
            checkpoints=run.checkpoints,
            report=report_to(run.progress, run.tracker, prefix=f"{name}/"),
            offset=before,
        )
        if saved is not None:
            snapshot.load(saved)
        loop.step = max(0, snapshot.step - before)

        def loss_of(part: tuple[str, Batch, int]) -> StepLoss:
            kind, rows, number = part
            if kind == "text":
                return text_loss(arm.model, rows, settings.text_weight)
            return thought_loss(
                arm.model,
                rows,
                name,
                arm.tokens,
                generator if pieces == 1 else run.generator(f"thoughts of {name}/{loop.step}/{number}"),
                reinforce=loop.step >= settings.warmup,
                positions=settings.positions,
                passes=settings.passes,
                length=settings.length,
                talk=settings.talk,
                temperature=settings.temperature,
                policy_temperature=settings.policy_temperature,
                policy_weight=settings.policy_weight,
                clamp=settings.clamp,
            )

        pieces = group.world() * settings.engine.accumulate
        warmup, decay = round(WARMUP * settings.steps), round(DECAY * settings.steps)
        arm.model.train()
        run.progress.start(f"train {name}", settings.steps, at=loop.step)
        for step in range(loop.step, settings.steps):
            if name == "thoughts" and step == settings.warmup:
                with loop.whole():
                    self.scores["before REINFORCE"] = self.evaluate(arm, "thoughts")
            batches = self.step_batches(arm, name, step)
            parts = [
                (kind, share, number)
                for kind, rows in batches
                for number, share in enumerate(shares_of_rows(rows, pieces))
            ]
            size = {kind: len(rows.input_ids) for kind, rows in batches}
            shares = [len(rows.input_ids) / size[kind] for kind, rows, _ in parts]
            rate = warmup_stable_decay(step, settings.steps, warmup, decay)
            update = loop.update(parts, loss_of, rate=rate, weights=shares)
            for metric, value in update.metrics.items():
                self.curves[name].setdefault(metric, []).append(round(value, 6))
            scores = {mode: each._asdict() for mode, each in self.scores.items()}
            snapshot.state = {"arm": name, "scores": scores, "curves": self.curves}
            loop.end_step(update.metrics)
        loop.finish()
        arm.model.eval()
        run.progress.done()

    def step_batches(self, arm: Arm, name: ArmName, step: int) -> list[tuple[str, Batch]]:
        """Questions and plain text of a step. The pause arm has as many questions more as the other thinks more often."""
        settings = self.run.settings
        rows = settings.questions.batch * (settings.passes if name == "pause" else 1)
        return [
            ("questions", self.batch(settings.questions, arm, "questions", step, rows, 0.0)),
            ("text", self.batch(settings.text, arm, "text", step, settings.text.batch, settings.scratch)),
        ]

    def batch(self, mix: TaskMixture, arm: Arm, name: str, step: int, size: int, scratch: float) -> Batch:
        """The items of a step: a function of the seed, the mixture's name and the step."""
        seed = int(self.run.numpy(name).integers(2**31))
        room = Room(arm.tokenizer, positions_of(arm.model))
        items = mixture(mix.tasks, mix.levels, "train", seed, step, size, scratch=scratch, room=room)
        return encode(items, arm.tokenizer)

    def held_out_items(self) -> list[Item]:
        """Search items of the questions' tasks and levels, equally many of each."""
        mix, seed = self.run.settings.questions, self.run.seed
        levels = mix.levels if isinstance(mix.levels, dict) else dict.fromkeys(mix.tasks, mix.levels)
        cells = [(task, level) for task in mix.tasks for level in sorted(set(levels[task]))]
        share = -(-self.run.settings.items // len(cells))
        return [item for task, level in cells for item in draw(task, "search", level, share, seed)]

    def evaluate(self, arm: Arm, mode: Mode) -> ItemScores:
        """Evaluate one arm in one mode."""
        self.run.progress.note(f"evaluating {len(self.items)} search items: {mode}")
        batch = self.run.config.evaluation.batch
        return evaluate(arm.model, arm.tokenizer, self.items, mode, arm.tokens, batch=batch)

    def publish(self, arm: Arm) -> None:
        """Score the model on the report split, without and with thinking, and write it."""
        run, model, tokenizer = self.run, arm.model, arm.tokenizer
        score(run, model, tokenizer)
        self.metrics = score_thinking(run, model, tokenizer)
        for name, each in self.scores.items():
            key = name.replace(" ", "_")
            self.metrics |= {
                f"accuracy/{key}": float(np.mean(each.right)),
                f"nll/{key}": float(np.mean(each.nll)),
            }
        run.extra["controls"] = claims(self.scores)
        thoughts = self.curves["thoughts"]
        run.extra["curves"] = {
            f"cross-entropy of the answers, {name} arm": curve(
                {metric: self.curves[name][metric] for metric in ("before", "mixed")}, "nats a token"
            )
            for name in ARMS
        } | {
            "mixing weight": curve({"weight": thoughts["weight"]}, "w"),
            "reward of a thought": curve({"reward": thoughts["reward"]}, "nats over the talk tokens"),
        }
        run.extra["samples"] = thought_samples(model, tokenizer, self.items[:SAMPLES])
        save(model, tokenizer, run.output, card=model_card("A model that thinks before it predicts", CARD))

    def get_metrics(self) -> dict[str, float]:
        """Accuracy and negative log-likelihood (nats a token) of every way of answering, on the search split."""
        return self.metrics
