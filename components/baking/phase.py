"""Phase 6: what the model does when it is told to, it comes to do by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from components.shared.evaluation.answers import correct
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score
from components.shared.models.card import model_card
from components.shared.models.latents import save_trained, spread_latents
from components.shared.models.loading import load
from components.shared.runtime.checkpoint.checkpoints import SNAPSHOT, Snapshot
from components.shared.runtime.checkpoint.state_codec import unpack
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture, encode, mixture
from components.shared.tasks.behaviours import FAMILIES
from components.shared.tasks.item import Split

from .bake import bake
from .behaviour import Conduct, conduct
from .component import PHASE
from .findings import curves, gates
from .lora import adapt, merge
from .questions import instructed, irrelevant, relevant
from .settings import Bake, Settings
from .trajectories import Lesson, anchors_of, lesson_of

ADAPTED, CHANGE = ".parametrizations.weight.original", ".parametrizations.weight.0."


class Baking(Phase[Settings], spec=PHASE):
    """Bakes behaviours into the weights (anchored prompt baking): tool calls, memory use, retrieval, persona.

    Each bake is kept only where the behaviour itself appears without its instruction and nothing else is lost.
    """

    def validate_input(self) -> None:
        """The behaviours and tasks exist, the model loads, and takes items of that length."""
        settings = self.run.settings
        for one in settings.bakes:
            if one.behaviour not in FAMILIES:
                raise ConfigError(
                    f"there is no behaviour {one.behaviour!r}",
                    where="baking.bakes",
                    fix=f"use: {', '.join(FAMILIES)}",
                )
        check_mixture(settings.anchor_tasks, settings.anchor_levels)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.tokenizer = load(self.run.artifact.path, trainable=True, device=device)
        spread_latents(self.model, self.run.generator("latents"))
        longest = getattr(self.model.config, "max_position_embeddings", None)
        encode(self._anchored("search", settings.held_out), self.tokenizer, max_length=longest)

    def execute(self) -> None:
        """The story: one bake after another, each kept or rolled back by what the model then does; then publish."""
        run, settings = self.run, self.run.settings
        self.state: dict[str, Any] = {"bake": 0, "within": 0, "done": 0, "curve": [], "results": []}
        self.state["reference"] = self._known()
        self._resume()
        run.progress.start(
            "baking",
            sum(one.steps for one in settings.bakes),
            at=self.state["done"] + self.state["within"],
        )
        for one in settings.bakes[self.state["bake"] :]:
            self._bake(one)
            self.state |= {
                "bake": self.state["bake"] + 1,
                "within": 0,
                "done": self.state["done"] + one.steps,
                "curve": [],
            }
            Snapshot({"model": self.model}, state=self.state).save(run.checkpoints, self.state["done"])
            run.checkpoints.stop_if_asked()
        run.progress.done()
        self._publish()

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def _resume(self) -> None:
        """Between two bakes: the model so far. Within one: the model from which it started; `bake` restores the rest."""
        saved = self.run.checkpoints.restore()
        if saved is None:
            return
        weights = unpack(saved.state[SNAPSHOT]["modules"]["model"], saved.tensors)
        self.model.load_state_dict(
            {name.replace(ADAPTED, ".weight"): t for name, t in weights.items() if CHANGE not in name}
        )
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}

    def _bake(self, one: Bake) -> None:
        """One bake, from the teacher's answers to the gate. The teacher is the model itself, before it is changed."""
        run, settings, name = self.run, self.run.settings, one.behaviour
        ceiling = self._conduct(self.model, name, "prompted", "search").rate
        start = self._conduct(self.model, name, "baked", "search").rate
        aside = self._aside(name)
        lesson, anchors = self._lesson(name), self._anchors(name)

        learnt = adapt(self.model, settings.rank, run.generator(f"lora/{name}"))
        bake(
            self.model,
            learnt,
            lesson,
            anchors,
            steps=one.steps,
            batch=settings.batch,
            lr=settings.lr,
            anchor=settings.anchor,
            seed=run.seed * 101 + self.state["bake"],
            checkpoints=run.checkpoints,
            state=self.state,
            report=lambda step, divergence, drift: run.progress.step(kl=divergence, anchor=drift),
        )
        after, known = self._conduct(self.model, name, "baked", "search"), self._known()
        lost = {what: reference - known[what] for what, reference in self.state["reference"].items()}
        lost["questions to leave alone"] = aside - self._aside(name)
        result: dict[str, Any] = {
            "behaviour": name,
            "prompted": ceiling,
            "before": start,
            "after": after.rate,
            "wanted": start + one.least * (ceiling - start),
            "intrusion": after.intrusion,
            "most_intrusion": settings.intrusion,
            "forgotten": max(lost.values()),
            "most_forgotten": settings.forgetting,
            "curve": self.state["curve"],
        }
        result["kept"] = after.rate > start and all(gate["passed"] for gate in gates(result))
        self.state["results"].append(result)
        if result["kept"]:
            self.state["reference"][name] = self._known()[name]
        merge(self.model, keep=result["kept"])
        run.tracker.metrics({f"{name}/{key}": result[key] for key in ("after", "intrusion", "forgotten")})
        run.progress.note(
            f"{name} is {'kept' if result['kept'] else 'rolled back'}: {start:.2f} → {after.rate:.2f} without its "
            f"instruction ({ceiling:.2f} with it), {after.intrusion:.2f} where it is not called for, "
            f"{result['forgotten']:.2f} lost elsewhere"
        )

    def _conduct(self, model: PreTrainedModel, name: str, form: str, split: Split) -> Conduct:
        """How the model answers questions about a behaviour in one of their forms, and others without an instruction."""
        settings, seed = self.run.settings, self.run.seed
        asked = relevant(name, split, settings.levels, settings.held_out, seed)
        return conduct(
            model,
            self.tokenizer,
            name,
            [forms[form] for forms in asked],
            irrelevant(name, split, settings.levels, settings.held_out, seed) if form == "baked" else [],
            settings.answer_tokens,
        )

    def _anchored(self, split: Split, count: int) -> list[Any]:
        settings = self.run.settings
        return mixture(settings.anchor_tasks, settings.anchor_levels, split, self.run.seed, 0, count)

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
        for other in self._baked():
            asked = relevant(other, "search", settings.levels, settings.held_out, self.run.seed)
            items[other] = [forms["baked"] for forms in asked]
        return {
            what: float(correct(self.model, self.tokenizer, asked).mean()) for what, asked in items.items()
        }

    def _aside(self, name: str) -> float:
        """Accuracy on the questions that behaviour `name` must leave alone, search split."""
        settings = self.run.settings
        items = irrelevant(name, "search", settings.levels, settings.held_out, self.run.seed)
        return float(correct(self.model, self.tokenizer, items).mean())

    def _lesson(self, name: str) -> Lesson:
        """Answers of the prompted model, laid behind the questions without the prompt."""
        settings, run = self.run.settings, self.run
        asked = relevant(name, "train", settings.levels, settings.questions, run.seed)
        return lesson_of(
            self.model,
            self.tokenizer,
            [forms["prompted"] for forms in asked for _ in range(settings.trajectories)],
            [forms["plain"] for forms in asked for _ in range(settings.trajectories)],
            limit=settings.answer_tokens,
            temperature=settings.temperature,
            generator=run.generator(f"trajectories/{self.state['bake']}/{name}"),
        )

    def _anchors(self, name: str) -> Lesson:
        """What must stay: unrelated tasks, questions to leave alone, every behaviour with and without its instruction."""
        settings, seed = self.run.settings, self.run.seed
        share = max(8, settings.questions // 4)
        items = self._anchored("train", 8 * share) + irrelevant(
            name, "train", settings.levels, 2 * share, seed
        )
        done = self._baked()
        for other in FAMILIES:
            asked = relevant(other, "train", settings.levels, share, seed)
            items += [forms["prompted"] for forms in asked]
            items += instructed(irrelevant(other, "train", settings.levels, share // 2, seed), other)
            if other != name:
                items += [forms["baked" if other in done else "plain"] for forms in asked]
        return anchors_of(self.model, self.tokenizer, items)

    def _publish(self) -> None:
        """Save, score what was saved on the report split, and say what came of the claims."""
        run, results, kept = self.run, self.state["results"], self._baked()
        card = model_card("Baked model", __doc__ or "", facts={"behaviours": ", ".join(kept) or "none"})
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
        given, _ = load(run.artifact.path)
        controls, table = [], []
        for name in dict.fromkeys(result["behaviour"] for result in results):
            prompted = self._conduct(given, name, "prompted", "report")
            before, after = (self._conduct(model, name, "baked", "report") for model in (given, stored))
            row = {
                "prompted": prompted.rate,
                "before": before.rate,
                "after": after.rate,
                "decision": after.decision,
                "intrusion": after.intrusion,
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
        ours, theirs = (correct(model, self.tokenizer, items) for model in (stored, given))
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
        self.metrics["forgotten"] = float(np.mean(theirs) - np.mean(ours))
        run.extra["behaviours"] = table
        run.extra["controls"] = controls
