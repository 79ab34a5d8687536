"""Phase 5: ten stages of training – adapt, work at the edge of chaos, dream, model oneself, settle."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import PreTrainedModel

from components.shared.evaluation.answers import correct, loss
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score
from components.shared.models.card import model_card
from components.shared.models.latents import save_trained, spread_latents
from components.shared.models.loading import load
from components.shared.runtime.checkpoint.checkpoints import SNAPSHOT, Snapshot
from components.shared.runtime.checkpoint.state_codec import unpack
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import IGNORED, check_mixture, encode, mixture
from components.shared.tasks.item import Item, Split

from .component import PHASE
from .diagnosis import regime, settled
from .dreaming import dream
from .findings import band_is_held, curves
from .geometry import two_nn
from .self_modelling import weight_spread
from .settings import Settings, Stage, all_levels
from .stage import train


class Training(Phase[Settings], spec=PHASE):
    """Trains a model through ten stages, undoing a stage that makes it worse on held-out items.

    A ternary model stays ternary, of the same size: it is trained through its quantisation.
    """

    def validate_input(self) -> None:
        """The tasks exist at every stage's levels, the model loads, and takes items of that length."""
        settings = self.run.settings
        for stage in settings.stages:
            check_mixture(stage.tasks or settings.tasks, stage.levels)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.tokenizer = load(self.run.artifact.path, trainable=True, device=device)
        spread_latents(self.model, self.run.generator("latents"))
        self.held_out = self._items("search", 0, settings.held_out)
        self.practised = self._items("train", 10**6, settings.held_out)
        encode(
            self.held_out,
            self.tokenizer,
            max_length=getattr(self.model.config, "max_position_embeddings", None),
        )

    def execute(self) -> None:
        """The story: stage after stage, each looked at before and after; then publish."""
        run, stages = self.run, self.run.settings.stages
        self.state: dict[str, Any] = {
            "stage": 0,
            "within": 0,
            "done": 0,
            "rates": {},
            "results": [],
            "input": loss(self.model, self.tokenizer, self.held_out),
            "fit": loss(self.model, self.tokenizer, self.practised),
            "dimension": self._dimension(),
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

    def _items(self, split: Split, step: int, count: int) -> list[Item]:
        """Items of all that the ten stages train."""
        settings = self.run.settings
        levels = all_levels(settings)
        weights = {task: settings.tasks.get(task, 1.0) for task in levels}
        return mixture(weights, levels, split, self.run.seed, step, count)

    def _resume(self) -> None:
        """The model as the current stage began; what happened within the stage is restored by `train`."""
        saved = self.run.checkpoints.restore()
        if saved is None:
            return
        modules = saved.state[SNAPSHOT]["modules"]
        self.model.load_state_dict(unpack(modules.get("before", modules["model"]), saved.tensors))
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}

    def _stage(self, stage: Stage) -> None:
        """One stage: train, look, keep or undo."""
        run, settings, number = self.run, self.run.settings, self.state["stage"]
        before = copy.deepcopy(self.model).eval()
        if not self.state["within"]:
            self.state["start"] = loss(before, self.tokenizer, self.held_out)
            if stage.kind == "dreaming":
                tasks = stage.tasks or settings.tasks
                asked = mixture(tasks, stage.levels, "train", run.seed, 10**6 + number, settings.dreams)
                self.state["dreams"] = dream(
                    before,
                    self.tokenizer,
                    asked,
                    temperature=settings.dream_temperature,
                    generator=run.generator(f"dreams/{number}"),
                )
        run.progress.start(
            f"{number + 1}/{len(settings.stages)} {stage.name}", stage.steps, at=self.state["within"]
        )
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
        run, state = self.run, self.state
        start, end = state["start"], loss(self.model, self.tokenizer, self.held_out)
        fit, dimension = loss(self.model, self.tokenizer, self.practised), self._dimension()
        result = {
            "stage": stage.name,
            "kind": stage.kind,
            "kept": end <= start + run.settings.tolerance,
            "held_out_before": round(start, 5),
            "held_out_after": round(end, 5),
            "regime": regime((state["fit"], fit), (start, end), (state["dimension"], dimension)),
            "dimension": round(dimension, 3),
            "spread": round(weight_spread(self.model), 6),
            **{name: state[name] for name in ("curve", "success", "unsteered")},
        }
        state["results"].append(result)
        if result["kept"]:
            state |= {"fit": fit, "dimension": dimension}
        else:
            run.progress.note(f"{stage.name} is undone: held-out loss {start:.3f} → {end:.3f}")
            self.model = before
        run.tracker.metrics(
            {"held_out_loss": end, "intrinsic_dimension": dimension, "weight_spread": result["spread"]},
            step=len(state["results"]),
        )

    @torch.no_grad()
    def _dimension(self) -> float:
        """Intrinsic dimension of the last hidden state where the answer begins."""
        batch = encode(self._items("search", 1, self.run.settings.probe_items), self.tokenizer)
        batch = batch.to(self.model.device)
        states = self.model(input_ids=batch.input_ids, output_hidden_states=True).hidden_states[-1]
        begins = (batch.labels != IGNORED).int().argmax(-1) - 1
        return two_nn(states[torch.arange(len(begins)), begins].float().cpu())

    def _publish(self) -> None:
        """Save, score what was saved on the report split, and say what came of the claims."""
        run, results = self.run, self.state["results"]
        kept = [result["stage"] for result in results if result["kept"]]
        card = model_card("Trained model", __doc__ or "", facts={"stages kept": ", ".join(kept) or "none"})
        stored = save_trained(self.model, self.tokenizer, run.output, card)
        score(run, stored, self.tokenizer)
        given, _ = load(run.artifact.path)
        items = self._items("report", 0, 4 * run.config.evaluation.items)
        gain = claim(
            "ten stages of training improve on the input model",
            "trained",
            correct(stored, self.tokenizer, items),
            "input",
            correct(given, self.tokenizer, items),
            unit="accuracy on the trained tasks, report split",
        )
        band = run.settings.band
        held = band_is_held(results, band.low, band.high)
        edge = [s for result in results for s in result["success"] if result["kind"] == "edge_of_chaos"]
        self.metrics = {
            "held_out_loss_before": self.state["input"],
            "held_out_loss": loss(stored, self.tokenizer, self.held_out),
            "accuracy_before": gain["control_value"],
            "accuracy": gain["value"],
            "stages_kept": float(len(kept)),
            "intrinsic_dimension": self.state["dimension"],
            "weight_spread": weight_spread(self.model),
        }
        if edge:
            self.metrics |= {
                "share_in_band": sum(band.low <= s <= band.high for s in edge) / len(edge),
                "mean_success_at_the_edge": sum(edge) / len(edge),
            }
        series = ("curve", "success", "unsteered")
        run.extra["stages"] = [{k: v for k, v in result.items() if k not in series} for result in results]
        run.extra["regime"] = settled([result["regime"] for result in results])
        run.extra["curves"] = curves(results, band.low, band.high)
        run.extra["controls"] = [gain, *held]


def _fresh() -> dict[str, Any]:
    """The state of a stage that has not begun."""
    return {"curve": [], "success": [], "unsteered": [], "dreams": [], "start": 0.0}
