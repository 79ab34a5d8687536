"""Phase 5: ten stages of training – adapt, work at the edge of chaos, dream, model oneself, settle."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import PreTrainedModel

from components.shared.evaluation.answers import correct, loss
from components.shared.evaluation.statistics import paired_interval, wilson
from components.shared.evaluation.suites import evaluate
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.runtime.checkpoint import SNAPSHOT, Snapshot
from components.shared.runtime.packing import unpack
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture, encode, mixture
from components.shared.tasks.item import Item

from .diagnosis import regime, settled
from .dreaming import dream
from .geometry import two_nn
from .self_modelling import weight_spread
from .settings import Settings, Stage
from .stage import train


class Training(Phase):
    """Trains a model through ten stages, undoing a stage that makes it worse on held-out items.

    A ternary model stays ternary: it is trained through its quantisation.
    """

    name = "training"
    Settings = Settings

    def validate_input(self) -> None:
        """The tasks exist at every stage's levels, and the model loads."""
        for stage in self.run.settings.stages:
            check_mixture(self.run.settings.tasks, stage.levels)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.tokenizer = load(self.run.artifact.path, trainable=True, device=device)
        self.original = copy.deepcopy(self.model).eval()

    def execute(self) -> None:
        """The story: stage after stage, each looked at before and after; then publish."""
        run, stages = self.run, self.run.settings.stages
        self.held_out = self._held_out()
        self.state: dict[str, Any] = {
            "stage": 0,
            "within": 0,
            "done": 0,
            "rates": {},
            "results": [],
            **_fresh(),
        }
        self._resume()
        for number in range(self.state["stage"], len(stages)):
            self._stage(stages[number])
            self.state |= {
                "stage": number + 1,
                "within": 0,
                "done": self.state["done"] + stages[number].steps,
                **_fresh(),
            }
            if run.checkpoints.due() or number + 1 == len(stages):
                Snapshot({"model": self.model}, state=self.state).save(run.checkpoints, self.state["done"])
                run.checkpoints.stop_if_asked()
        self._publish()

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def _resume(self) -> None:
        """The model as the current stage began; what happened within the stage is restored by `train`."""
        saved = self.run.checkpoints.restore()
        if saved is None:
            return
        modules = saved.state[SNAPSHOT]["modules"]
        self.model.load_state_dict(unpack(modules.get("before", modules["model"]), saved.tensors))
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}

    def _held_out(self) -> list[Item]:
        settings = self.run.settings
        levels = sorted({level for stage in settings.stages for level in stage.levels})
        return mixture(settings.tasks, levels, "search", self.run.seed, 0, settings.held_out)

    def _stage(self, stage: Stage) -> None:
        """One stage: train, look, keep or undo."""
        run, settings, number = self.run, self.run.settings, self.state["stage"]
        before = copy.deepcopy(self.model).eval()
        if not self.state["within"]:
            self.state["start"] = loss(before, self.tokenizer, self.held_out)
            if stage.kind == "dreaming":
                asked = mixture(
                    settings.tasks, stage.levels, "train", run.seed, 10**6 + number, settings.dreams
                )
                self.state["dreams"] = dream(
                    before,
                    self.tokenizer,
                    asked,
                    temperature=settings.dream_temperature,
                    generator=run.generator(f"dreams/{number}"),
                )
        run.progress.start(f"{number + 1}/10 {stage.name}", stage.steps, at=self.state["within"])
        self.model = train(
            self.model.requires_grad_(True),
            before,
            self.tokenizer,
            stage,
            settings,
            self.state,
            seed=run.seed * 1009 + number,
            checkpoints=run.checkpoints,
            report=lambda entropy, success: run.progress.step(loss=entropy, success=success),
        )
        run.progress.done()
        self._judge(stage, before)

    def _judge(self, stage: Stage, before: PreTrainedModel) -> None:
        """Keep the stage, unless the held-out loss rose; note what it did to loss, success and geometry."""
        settings, state = self.run.settings, self.state
        start, end = state["start"], loss(self.model, self.tokenizer, self.held_out)
        kept = end <= start + settings.tolerance
        if not kept:
            self.run.progress.note(f"{stage.name} is undone: held-out loss {start:.3f} → {end:.3f}")
            self.model, end = before, start
        half = max(1, len(state["curve"]) // 2)
        first, second = (
            sum(part) / max(1, len(part)) for part in (state["curve"][:half], state["curve"][half:])
        )
        result = {
            "stage": stage.name,
            "kind": stage.kind,
            "kept": kept,
            "held_out": round(end, 5),
            "regime": regime([first, second], [start, end]),
            "dimension": round(self._dimension(), 3),
            "spread": round(weight_spread(self.model), 6),
            "curve": state["curve"],
            "success": state["success"],
        }
        state["results"].append(result)
        self.run.tracker.metrics(
            {
                "held_out_loss": end,
                "intrinsic_dimension": result["dimension"],
                "weight_spread": result["spread"],
            },
            step=len(state["results"]),
        )

    @torch.no_grad()
    def _dimension(self) -> float:
        """Intrinsic dimension of the last hidden state where the answer begins."""
        settings = self.run.settings
        items = mixture(
            settings.tasks, settings.stages[0].levels, "search", self.run.seed, 1, settings.probe_items
        )
        batch = encode(items, self.tokenizer).to(self.model.device)
        states = self.model(input_ids=batch.input_ids, output_hidden_states=True).hidden_states[-1]
        begins = (batch.labels != -100).int().argmax(-1) - 1
        return two_nn(states[torch.arange(len(items)), begins].float().cpu())

    def _publish(self) -> None:
        run, evaluation, results = self.run, self.run.config.evaluation, self.state["results"]
        kept = [result["stage"] for result in results if result["kept"]]
        card = model_card("Trained model", __doc__ or "", facts={"stages kept": ", ".join(kept) or "none"})
        save(self.model.cpu(), self.tokenizer, run.output, card=card)
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
        edge = [s for result in results if result["kind"] == "edge_of_chaos" for s in result["success"]]
        band = run.settings.band
        latest = settled([result["regime"] for result in results])
        self.metrics = {
            "held_out_loss_before": loss(self.original, self.tokenizer, self.held_out),
            "held_out_loss": results[-1]["held_out"],
            "stages_kept": float(len(kept)),
            "intrinsic_dimension": results[-1]["dimension"],
            "share_in_band": sum(band.low <= s <= band.high for s in edge) / max(1, len(edge)),
            "mean_success_at_the_edge": sum(edge) / max(1, len(edge)),
        }
        run.extra["stages"] = [{k: v for k, v in r.items() if k not in ("curve", "success")} for r in results]
        run.extra["regime"] = latest
        run.extra["curves"] = _curves(results, band.low, band.high)
        run.extra["controls"] = [self._control(stored)]

    def _control(self, model: PreTrainedModel) -> dict[str, Any]:
        """Training against no training, on the report split of the trained tasks."""
        settings, run = self.run.settings, self.run
        levels = settings.stages[0].levels
        items = mixture(settings.tasks, levels, "report", run.seed, 0, 2 * run.config.evaluation.items)
        ours, theirs = (correct(m, self.tokenizer, items).astype(float) for m in (model, self.original))
        gain, low, _ = paired_interval(ours, theirs, seed=run.seed)
        mine, his = (wilson(float(a.mean()), len(a)) for a in (ours, theirs))
        return {
            "claim": "ten stages of training improve on the input model",
            "arm": "trained",
            "value": float(ours.mean()),
            "low": mine[0],
            "high": mine[1],
            "control": "input",
            "control_value": float(theirs.mean()),
            "control_low": his[0],
            "control_high": his[1],
            "unit": "accuracy, report split",
            "higher_is_better": True,
            "holds": gain > 0 and low > 0,
        }


def _fresh() -> dict[str, Any]:
    """The state of a stage that has not begun."""
    return {"curve": [], "success": [], "dreams": [], "start": 0.0}


def _curves(results: list[dict[str, Any]], low: float, high: float) -> dict[str, Any]:
    """Loss and success over all stages, thinned, and the intrinsic dimension after each."""
    entropies = [value for result in results for value in result["curve"]]
    success = [value for result in results for value in result["success"]]
    every = max(1, len(entropies) // 150)
    steps = list(range(0, len(entropies), every))

    def means(values: list[float]) -> list[float]:
        return [round(sum(values[s : s + every]) / len(values[s : s + every]), 5) for s in steps]

    band = {"band, low": [low] * len(steps), "band, high": [high] * len(steps)}
    return {
        "loss through the ten stages": {
            "x": steps,
            "xlabel": "step",
            "ylabel": "nats a token",
            "series": {"train": means(entropies)},
        },
        "success rate": {
            "x": steps,
            "xlabel": "step",
            "ylabel": "share right",
            "series": {"fresh items": means(success), **band},
        },
        "geometry": {
            "x": list(range(1, len(results) + 1)),
            "xlabel": "stage",
            "ylabel": "TwoNN",
            "series": {"intrinsic dimension": [result["dimension"] for result in results]},
        },
    }
