"""Phase 6: what the model does when it is told to, it comes to do by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from components.shared.evaluation.answers import correct
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.models.card import model_card
from components.shared.models.latents import save_trained, spread_latents
from components.shared.models.loading import load
from components.shared.runtime.checkpoint.snapshot import SNAPSHOT, Snapshot
from components.shared.runtime.checkpoint.state_codec import unpack
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import check_mixture, encode, mixture
from components.shared.tasks.generators.behaviours import FAMILIES
from components.shared.tasks.item import Item, Split
from components.shared.tasks.room import Room, positions_of
from components.shared.tasks.tokenizer import CHAT_TEMPLATE
from components.shared.training.device import device
from components.shared.training.loop import report_to
from components.shared.training.low_rank import adapt, merge, unchanged

from .bake import bake
from .behaviour import BehaviourScores, behaviour_scores
from .component import PHASE
from .distillation_set import DistillationSet, anchor_set, prompted_set
from .findings import curves, gates
from .questions import instructed, irrelevant, relevant
from .settings import Bake, Settings

__all__ = ["Baking"]


class Baking(Phase[Settings], spec=PHASE):
    """Bakes behaviours into the weights (anchored prompt baking): tool calls, memory use, retrieval, persona.

    Each bake is kept only where the behaviour itself appears without its instruction and nothing else is lost.
    """

    def validate_input(self) -> None:
        """The tasks have items at their levels, the model loads, and takes items of that length."""
        settings = self.run.settings
        check_mixture(settings.anchor_tasks, settings.anchor_levels)
        self.model, self.tokenizer = load(self.run.artifact.path, trainable=True, device=device())
        spread_latents(self.model, self.run.generator("latents"))
        self.room = Room(self.tokenizer, positions_of(self.model), self.run.progress.note)
        self.anchors = self.room.fitting(settings.anchor_tasks, settings.anchor_levels)
        encode(
            self._anchored("search", settings.held_out), self.tokenizer
        )  # what cannot be learnt is refused

    def execute(self) -> None:
        """The story: one bake after another, each kept or rolled back by what the model then does; then publish."""
        run, settings = self.run, self.run.settings
        self.state: dict[str, Any] = {"bake": 0, "within": 0, "done": 0, "curve": [], "results": []}
        self.state["reference"] = self._known()
        self._resume()
        for setting in settings.bakes[self.state["bake"] :]:
            self._bake(setting)
            self.state |= {
                "bake": self.state["bake"] + 1,
                "within": 0,
                "done": self.state["done"] + setting.steps,
                "curve": [],
            }
            Snapshot({"model": self.model}, state=self.state).save(run.checkpoints, self.state["done"])
            run.checkpoints.stop_if_asked()
        run.progress.done()
        group.leave()
        self._publish()

    def get_metrics(self) -> dict[str, float]:
        """Bakes kept, what was forgotten, and of each behaviour its rates with and without the instruction."""
        return self.metrics

    def _resume(self) -> None:
        """Between two bakes: the model so far. Within one: the model from which it started; `bake` restores the rest."""
        saved = self.run.checkpoints.restore()
        if saved is None:
            return
        weights = unpack(saved.state[SNAPSHOT]["modules"]["model"], saved.tensors)
        self.model.load_state_dict(unchanged(weights))
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}

    def _bake(self, setting: Bake) -> None:
        """One bake, from the teacher's answers to the gate. The teacher is the model itself, before it is changed."""
        run, settings, name = self.run, self.run.settings, setting.behaviour
        ceiling = self._scores(self.model, name, "prompted", "search").rate
        start = self._scores(self.model, name, "baked", "search").rate
        irrelevant_accuracy = self._irrelevant_accuracy(name)
        prompted, anchors = self._prompted(name), self._anchors(name)

        run.progress.start(f"bake {name}", setting.steps, at=self.state["within"])
        parameters = adapt(self.model, settings.rank, run.generator(f"lora/{name}"))
        bake(
            self.model,
            parameters,
            prompted,
            anchors,
            steps=setting.steps,
            batch=settings.batch,
            lr=settings.lr,
            anchor=settings.anchor,
            seed=run.seed * 101 + self.state["bake"],
            engine=settings.engine,
            checkpoints=run.checkpoints,
            state=self.state,
            report=report_to(run.progress, run.tracker, prefix=f"{name}/", offset=self.state["done"]),
        )
        run.progress.done()
        with (
            parametrize.cached()
        ):  # else the changed weights are made, and made ternary, anew for every token
            after, known = self._scores(self.model, name, "baked", "search"), self._known()
            lost = {what: reference - known[what] for what, reference in self.state["reference"].items()}
            lost["questions to leave alone"] = irrelevant_accuracy - self._irrelevant_accuracy(name)
        result: dict[str, Any] = {
            "behaviour": name,
            "prompted": ceiling,
            "before": start,
            "after": after.rate,
            "min_rate": start + setting.least * (ceiling - start),
            "false_trigger_rate": after.false_trigger_rate,
            "max_false_trigger_rate": settings.false_trigger_rate,
            "forgotten": max(lost.values()),
            "max_forgotten": settings.forgetting,
            "curve": self.state["curve"],
        }
        result["kept"] = after.rate > start and all(gate["passed"] for gate in gates(result))
        self.state["results"].append(result)
        merge(self.model, keep=result["kept"])
        if result["kept"]:
            self.state["reference"][name] = self._accuracy(self._asked(name))
        run.tracker.metrics(
            {f"{name}/{key}": result[key] for key in ("after", "false_trigger_rate", "forgotten")},
            step=self.state["done"] + setting.steps,
        )
        run.progress.note(
            f"{name} is {'kept' if result['kept'] else 'rolled back'}: {start:.2f} → {after.rate:.2f} without its "
            f"instruction ({ceiling:.2f} with it), {after.false_trigger_rate:.2f} where it is not called for, "
            f"{result['forgotten']:.2f} lost elsewhere"
        )

    def _scores(self, model: PreTrainedModel, name: str, form: str, split: Split) -> BehaviourScores:
        """How the model answers questions about a behaviour in one of their forms, and others without an instruction."""
        settings, seed = self.run.settings, self.run.seed
        questions = relevant(name, split, settings.levels, settings.held_out, seed)
        return behaviour_scores(
            model,
            self.tokenizer,
            name,
            [forms[form] for forms in questions],
            irrelevant(name, split, settings.levels, settings.held_out, seed) if form == "baked" else [],
            settings.answer_tokens,
        )

    def _anchored(self, split: Split, count: int) -> list[Any]:
        return mixture(*self.anchors, split, self.run.seed, 0, count, room=self.room)

    def _baked(self) -> list[str]:
        """The behaviours that are in the model by now."""
        return [result["behaviour"] for result in self.state["results"] if result["kept"]]

    def _known(self) -> dict[str, float]:
        """What no bake may cost: accuracy on unrelated tasks and on every behaviour that is in the model, search split.

        It is compared with what it was when the phase began, and each behaviour with what it was when it was baked: many
        small losses must not add up to a large one.
        """
        settings = self.run.settings
        items = {"anchored tasks": self._anchored("search", 4 * settings.held_out)}
        items |= {other: self._asked(other) for other in self._baked()}
        return {what: self._accuracy(questions) for what, questions in items.items()}

    def _asked(self, name: str) -> list[Item]:
        """Questions about a behaviour without its instruction, search split."""
        settings = self.run.settings
        questions = relevant(name, "search", settings.levels, settings.held_out, self.run.seed)
        return [forms["baked"] for forms in questions]

    def _accuracy(self, items: list[Item]) -> float:
        """The share of items that the model, as it is now, answers rightly."""
        return float(correct(self.model, self.tokenizer, items).mean())

    def _irrelevant_accuracy(self, name: str) -> float:
        """Accuracy on the questions that behaviour `name` must leave alone, search split."""
        settings = self.run.settings
        return self._accuracy(irrelevant(name, "search", settings.levels, settings.held_out, self.run.seed))

    def _prompted(self, name: str) -> DistillationSet:
        """Answers of the prompted model, laid behind the questions without the prompt."""
        settings, run = self.run.settings, self.run
        questions = relevant(name, "train", settings.levels, settings.questions, run.seed)
        return prompted_set(
            self.model,
            self.tokenizer,
            [forms["prompted"] for forms in questions for _ in range(settings.trajectories)],
            [forms["plain"] for forms in questions for _ in range(settings.trajectories)],
            limit=settings.answer_tokens,
            temperature=settings.temperature,
            k=settings.teacher_tokens,
            generator=run.generator(f"trajectories/{self.state['bake']}/{name}"),
        )

    def _anchors(self, name: str) -> DistillationSet:
        """What must stay: unrelated tasks, questions to leave alone, every behaviour with and without its instruction."""
        settings, seed = self.run.settings, self.run.seed
        share = max(8, settings.questions // 4)
        items = self._anchored("train", 8 * share) + irrelevant(
            name, "train", settings.levels, 2 * share, seed
        )
        baked = self._baked()
        for other in FAMILIES:
            questions = relevant(other, "train", settings.levels, share, seed)
            items += [forms["prompted"] for forms in questions]
            items += instructed(irrelevant(other, "train", settings.levels, share // 2, seed), other)
            if other != name:
                items += [forms["baked" if other in baked else "plain"] for forms in questions]
        return anchor_set(self.model, self.tokenizer, items, settings.teacher_tokens)

    def _publish(self) -> None:
        """Save, score what was saved on the report split, and say what came of the claims."""
        run, results, kept = self.run, self.state["results"], self._baked()
        card = model_card("Baked model", __doc__ or "", facts={"behaviours": ", ".join(kept) or "none"})
        if kept and not self.tokenizer.chat_template:  # what it does by itself may be asked for in turns
            self.tokenizer.chat_template = CHAT_TEMPLATE
        stored = save_trained(self.model, self.tokenizer, run.output, card)
        score(run, stored, self.tokenizer)
        self.metrics = {"kept": float(len(kept))}
        run.extra["baked"] = kept
        run.extra["curves"] = curves(results)
        run.gates = [gate for result in results for gate in gates(result)]
        self._report(stored)

    def _report(self, stored: PreTrainedModel) -> None:
        """The published model against the input, on the report split: each behaviour, and what was known."""
        run, results = self.run, self.state["results"]
        input_model, _ = load(run.artifact.path)
        controls, table = [], []
        for name in dict.fromkeys(result["behaviour"] for result in results):
            prompted = self._scores(input_model, name, "prompted", "report")
            before, after = (self._scores(model, name, "baked", "report") for model in (input_model, stored))
            row = {
                "prompted": prompted.rate,
                "before": before.rate,
                "after": after.rate,
                "decision": after.decision,
                "false_trigger_rate": after.false_trigger_rate,
            }
            table.append({"behaviour": name, "baked": name in self._baked(), **row})
            self.metrics |= {f"{name}_{key}": value for key, value in row.items()}
            controls.append(
                claim(
                    f"the model shows the behaviour {name!r} without being told to",
                    "baked",
                    after.right[after.about],
                    "not baked",
                    before.right[before.about],
                    unit="rate without the instruction, report split",
                )
            )
        items = self._anchored("report", 4 * run.config.evaluation.items)
        ours, theirs = (correct(model, self.tokenizer, items) for model in (stored, input_model))
        forgetting = run.settings.forgetting
        controls.append(
            claim(
                f"the bakes cost less than {forgetting:.0%} of what was known",
                "after all bakes",
                ours,
                "before",
                theirs,
                unit="accuracy on unrelated tasks, report split",
                tolerance=forgetting,
            )
        )
        self.metrics |= score_thinking(run, stored, self.tokenizer)
        self.metrics["forgotten"] = float(np.mean(theirs) - np.mean(ours))
        run.extra["behaviours"] = table
        run.extra["controls"] = controls
