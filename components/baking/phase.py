"""Phase 6: what the model does when it is told to, it comes to do by itself."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from components.shared.evaluation.answers import correct
from components.shared.evaluation.sampling import prompt_ids, sample_answers
from components.shared.evaluation.statistics import paired_interval, wilson
from components.shared.evaluation.suites import evaluate
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.runtime.checkpoint import SNAPSHOT, Snapshot
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.packing import unpack
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture, mixture
from components.shared.tasks.behaviours import FAMILIES

from .bake import Lesson, bake
from .behaviour import exhibited
from .lora import adapt, merge
from .questions import instructed, irrelevant, relevant
from .settings import Bake, Settings
from .trajectories import answer_ids, answer_log_probabilities, rows

ADAPTED, ADAPTER = ".parametrizations.weight.original", ".parametrizations.weight.0."


class Baking(Phase):
    """Bakes behaviours into the weights (anchored prompt baking): tool calls, memory use, retrieval, persona.

    Each bake is kept only where the behaviour itself appears without its instruction and nothing else is lost.
    """

    name = "baking"
    Settings = Settings

    def validate_input(self) -> None:
        """The behaviours and tasks exist, and the model loads."""
        settings = self.run.settings
        for one in settings.bakes:
            if one.behaviour not in FAMILIES:
                raise ConfigError(
                    f"there is no behaviour {one.behaviour!r}",
                    where="baking.bakes",
                    fix=f"use: {', '.join(FAMILIES)}",
                )
        check_mixture(settings.anchor_tasks, settings.anchor_levels)
        self.model, self.tokenizer = load(self.run.artifact.path, trainable=True)
        self.original = copy.deepcopy(self.model)

    def execute(self) -> None:
        """The story: one bake after another, each kept or rolled back by what the model then does; then publish."""
        run, settings = self.run, self.run.settings
        self.state: dict[str, Any] = {"bake": 0, "within": 0, "done": 0, "curve": [], "results": []}
        self._resume()
        run.progress.start("baking", sum(one.steps for one in settings.bakes))
        run.progress.step(self.state["done"] + self.state["within"])
        while self.state["bake"] < len(settings.bakes):
            one = settings.bakes[self.state["bake"]]
            self._bake(one)
            self.state |= {
                "bake": self.state["bake"] + 1,
                "within": 0,
                "done": self.state["done"] + one.steps,
                "curve": [],
            }
            # A little past the last step, so that it comes behind every checkpoint that was taken within the bake.
            Snapshot({"model": self.model}, state=self.state).save(
                run.checkpoints, self.state["done"] + self.state["bake"]
            )
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
            {name.replace(ADAPTED, ".weight"): t for name, t in weights.items() if ADAPTER not in name}
        )
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}

    def _bake(self, one: Bake) -> None:
        """One bake, from the teacher's answers to the gate."""
        run, settings, name = self.run, self.run.settings, one.behaviour
        before = copy.deepcopy(self.model).eval()
        ceiling = self._rate(before, name, "prompted")
        start = self._rate(before, name, "baked")
        known = self._known(before, name)

        learnt = adapt(self.model, settings.rank, run.generator(f"lora/{name}"))
        bake(
            self.model,
            learnt,
            self._lesson(before, name),
            self._anchors(before, name),
            steps=one.steps,
            batch=settings.batch,
            lr=settings.lr,
            anchor=settings.anchor,
            seed=run.seed * 101 + self.state["bake"],
            checkpoints=run.checkpoints,
            state=self.state,
            report=lambda step, divergence, drift: run.progress.step(kl=divergence, anchor=drift),
        )
        merge(self.model)
        rate, lost = self._rate(self.model, name, "baked"), known - self._known(self.model, name)
        kept = rate >= one.least * ceiling and rate > start and lost <= settings.forgetting
        every = max(1, one.steps // 60)
        self.state["results"].append(
            {
                "behaviour": name,
                "prompted": ceiling,
                "before": start,
                "after": rate,
                "forgotten": lost,
                "kept": bool(kept),
            }
            | {"curve": self.state["curve"][::every], "every": every, "bound": one.least * ceiling}
        )
        if not kept:
            run.progress.note(
                f"{name} is rolled back: {rate:.2f} unprompted, {ceiling:.2f} prompted, {lost:.2f} forgotten"
            )
            self.model = before
            self.model.requires_grad_(True)

    def _rate(self, model: PreTrainedModel, name: str, form: str, split: Any = "search") -> float:
        return float(self._exhibited(model, name, form, split).mean())

    def _exhibited(self, model: PreTrainedModel, name: str, form: str, split: Any) -> np.ndarray:
        settings = self.run.settings
        asked = [
            forms[form] for forms in relevant(name, split, settings.levels, settings.held_out, self.run.seed)
        ]
        return exhibited(model, self.tokenizer, name, asked, settings.answer_tokens)

    def _known(self, model: PreTrainedModel, name: str) -> float:
        """Accuracy on the anchored tasks and on questions that the behaviour must leave alone."""
        settings, run = self.run.settings, self.run
        items = mixture(
            settings.anchor_tasks, settings.anchor_levels, "search", run.seed, 0, settings.held_out
        )
        items += irrelevant(name, "search", settings.levels, settings.held_out, run.seed)
        return float(correct(model, self.tokenizer, items).mean())

    def _lesson(self, teacher: PreTrainedModel, name: str) -> Lesson:
        """Answers of the prompted teacher, laid behind the questions without the prompt."""
        settings, run = self.run.settings, self.run
        asked = relevant(name, "train", settings.levels, settings.questions, run.seed)
        asked = [forms for forms in asked for _ in range(settings.trajectories)]
        instructed_prompts = prompt_ids([forms["prompted"] for forms in asked], self.tokenizer)
        answers = sample_answers(
            teacher,
            instructed_prompts,
            eos=self.tokenizer.eos_token_id,
            limit=settings.answer_tokens,
            temperature=settings.temperature,
            generator=run.generator(f"trajectories/{name}"),
        )
        padding = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
        wanted = answer_log_probabilities(teacher, rows(instructed_prompts, answers, padding))
        return Lesson(
            rows(prompt_ids([forms["plain"] for forms in asked], self.tokenizer), answers, padding), wanted
        )

    def _anchors(self, teacher: PreTrainedModel, name: str) -> Lesson:
        """What must stay: unrelated tasks, questions to leave alone, every behaviour under its own instruction."""
        settings, run = self.run.settings, self.run
        share = max(8, settings.questions // 2)
        items = mixture(settings.anchor_tasks, settings.anchor_levels, "train", run.seed, 0, share)
        items += irrelevant(name, "train", settings.levels, share, run.seed)
        done = [result["behaviour"] for result in self.state["results"] if result["kept"]]
        for other in FAMILIES:
            items += instructed(other, "train", settings.levels, share // 2, run.seed)
        for other in done:
            items += [
                forms["baked"] for forms in relevant(other, "train", settings.levels, share // 2, run.seed)
            ]
        padding = self.tokenizer.pad_token_id or self.tokenizer.eos_token_id
        batch = rows(prompt_ids(items, self.tokenizer), answer_ids(items, self.tokenizer), padding)
        return Lesson(batch, answer_log_probabilities(teacher, batch))

    def _publish(self) -> None:
        run, evaluation = self.run, self.run.config.evaluation
        results = self.state["results"]
        kept = [result["behaviour"] for result in results if result["kept"]]
        card = model_card("Baked model", __doc__ or "", facts={"behaviours": ", ".join(kept) or "none"})
        save(self.model, self.tokenizer, run.output, card=card)
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
        run.extra["baked"] = kept
        run.extra["curves"] = {
            f"bake: {result['behaviour']}": {
                "x": [result["every"] * i for i in range(len(result["curve"]))],
                "xlabel": "step",
                "ylabel": "nats a token",
                "series": {
                    "KL to the prompted teacher": [pair[0] for pair in result["curve"]],
                    "KL of the anchor": [pair[-1] for pair in result["curve"]],
                },
            }
            for result in results
        }
        run.extra["controls"] = [self._control(stored, result["behaviour"]) for result in results]
        self.metrics = {"kept": float(len(kept))}
        for result in results:
            name = result["behaviour"]
            self.metrics |= {
                f"{name}_{key}": result[key] for key in ("prompted", "before", "after", "forgotten")
            }
            run.gates.append(
                {
                    "metric": f"{name} without its instruction",
                    "value": result["after"],
                    "op": ">=",
                    "bound": result["bound"],
                    "passed": result["kept"],
                    "on_fail": "rollback",
                }
            )

    def _control(self, model: PreTrainedModel, name: str) -> dict[str, Any]:
        """The behaviour without its instruction, in the published model and in the input, on the report split."""
        after = self._exhibited(model, name, "baked", "report").astype(float)
        before = self._exhibited(self.original, name, "baked", "report").astype(float)
        gain, low, _ = paired_interval(after, before, seed=self.run.seed)
        ours, theirs = (wilson(float(a.mean()), len(a)) for a in (after, before))
        return {
            "claim": f"the model shows the behaviour {name!r} without being told to",
            "arm": f"{name} baked",
            "value": float(after.mean()),
            "low": ours[0],
            "high": ours[1],
            "control": "not baked",
            "control_value": float(before.mean()),
            "control_low": theirs[0],
            "control_high": theirs[1],
            "unit": "rate without instruction, report split",
            "higher_is_better": True,
            "holds": gain > 0 and low > 0,
        }
