"""Phase 5: ten stages of training – adapt, work at the edge of chaos, dream, model oneself, settle."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from components.shared.data.texts import open_texts
from components.shared.evaluation.answers import batches, correct, loss
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score, score_thinking
from components.shared.evaluation.sanity import loss_falls
from components.shared.evaluation.statistics import mean_interval
from components.shared.evaluation.suites import draw
from components.shared.models.card import model_card
from components.shared.models.latents import save_trained, spread_latents
from components.shared.models.loading import load
from components.shared.optim.grokfast import Grokfast
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.checkpoint.snapshot import SNAPSHOT, Snapshot
from components.shared.runtime.checkpoint.state_codec import unpack
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import IGNORED, Batch, encode, mixture
from components.shared.tasks.corpora import tasks_of
from components.shared.tasks.item import Item, Split
from components.shared.tasks.prompting import padding_id
from components.shared.tasks.room import Room, positions_of
from components.shared.training.adapters import put_on
from components.shared.training.device import device
from components.shared.training.head import hidden_states
from components.shared.training.loop import report_to, rows_in_part
from components.shared.training.low_rank import merge as take_off
from components.shared.training.low_rank import unchanged
from components.shared.training.settings import EngineSettings
from components.shared.training.side_by_side import pieces_of

from . import curriculum
from .component import PHASE
from .diagnosis import regime, settled
from .dreaming import dream
from .edge_of_chaos import Edge
from .findings import band_is_held, curves
from .geometry import two_nn
from .room import fitting
from .self_modelling import weight_spread
from .settings import Settings, Stage, all_levels, all_weights
from .stage import train
from .step_batches import StepBatches, dreams_in_a_step, dreamt_part, items_at_the_edge
from .weight_copies import Found

__all__ = ["Training"]

SERIES = ("loss", "success", "unsteered")
"""What a stage measures at each of its steps."""


class Training(Phase[Settings], spec=PHASE):
    """Trains a model through ten stages, undoing a stage that makes it worse on held-out items.

    A ternary model stays ternary, of the same size: it is trained through its quantisation.
    """

    def validate_input(self) -> None:
        """The tasks exist at every stage's levels, the model loads, and has positions for their items."""
        run, settings = self.run, self.run.settings
        self.model, self.tokenizer = load(run.artifact.path, trainable=True, device=device())
        self.room = Room(self.tokenizer, positions_of(self.model), run.progress.note)
        self.settings = fitting(settings, self.room)
        self.target = self._target()
        spread_latents(self.model, run.generator("latents"))
        self.held_out = self._items("search", 0, settings.held_out)
        self.practised = self._items("train", 10**6, settings.held_out)
        encode(self.held_out, self.tokenizer)  # what cannot be learnt is refused here

    def execute(self) -> None:
        """The story: stage after stage, each looked at before and after; then publish."""
        run, stages = self.run, self.settings.stages
        mixed = {name: 1.0 for stage in stages for name in stage.tasks or self.settings.tasks}
        sizes = {"row_tokens": self.settings.row_tokens, "size": self.settings.batch}
        asked = [*self.target, *self.held_out, *self._items("report", 0, 4 * run.config.evaluation.items)]
        self.texts = open_texts(run, mixed, self.model, self.tokenizer, run.seed, asked=asked, **sizes)
        self.state: dict[str, Any] = {
            "stage": 0,
            "within": 0,
            "done": 0,
            "rates": {},
            "results": [],
            "start": loss(self.model, self.tokenizer, self.held_out),
            "train_loss": loss(self.model, self.tokenizer, self.practised),
            "dimension": self._dimension(),
            **_new_stage(),
        }
        self.state["input"] = self.state["start"]
        if not self._resume():
            self._look_first()
            self._track(self.state["input"], self.state["train_loss"], self.state["dimension"])
        for number in range(self.state["stage"], len(stages)):
            self._stage(stages[number])
            self.state |= {
                "stage": number + 1,
                "within": 0,
                "done": self.state["done"] + stages[number].steps,
                **_new_stage(),
            }
            if run.checkpoints.due() or number + 1 == len(stages):
                Snapshot({"model": self.model}, state=self.state).save(run.checkpoints, self.state["done"])
                run.checkpoints.stop_if_asked()
        group.leave()
        self._publish()

    def get_metrics(self) -> dict[str, float]:
        """Losses (nats a token) and accuracy before and after, geometry, stages kept, and how well the band was held."""
        return self.metrics

    def _items(self, split: Split, step: int, count: int) -> list[Item]:
        """Items of all that the ten stages train."""
        settings = self.settings
        levels = all_levels(settings)
        return mixture(all_weights(settings), levels, split, self.run.seed, step, count, room=self.room)

    def _target(self) -> list[Item]:
        """Report items of the target tasks, equally many of each cell, or as many as there are; none: no target is set."""
        settings = self.settings
        cells = [(task, level) for task in settings.target for level in settings.target_levels]
        count = -(-4 * self.run.config.evaluation.items // max(len(cells), 1))
        return [
            item
            for task, level in cells
            for item in draw(task, "report", level, count, self.run.seed, enough=1)
        ]

    def _look_first(self) -> None:
        """The sanity gate, and where the model stands: what its course begins with."""
        run, settings = self.run, self.settings
        if settings.sanity_steps:
            found = loss_falls(
                self.model,
                self.tokenizer,
                lambda learner: self._optimizer(learner, 1.0),
                prepare=lambda learner: put_on(learner, settings.engine, run.generator("adapter/sanity")),
                steps=settings.sanity_steps,
                batch=min(settings.batch, settings.rows),
                seed=run.seed,
                where="training",
            )
            self.state["sanity"] = found.as_dict()
        if settings.course is not None:
            curriculum.start(self.state, self._placements())

    def _placements(self) -> curriculum.Placements:
        """Where the model stands now, by items of the search split."""
        run = self.run
        size = run.config.evaluation.batch
        return curriculum.placements(self.model, self.tokenizer, self.settings, batch=size, seed=run.seed)

    def _resume(self) -> bool:
        """The model as the current stage began; what happened within the stage is restored by `train`.

        :returns: whether there was a checkpoint to go on from.
        """
        saved = self.run.checkpoints.restore()
        if saved is None:
            return False
        modules = saved.state[SNAPSHOT]["modules"]
        if "before" in modules:
            found = Found(self.model)
            found.load_state_dict(unpack(modules["before"], saved.tensors))
            found.put_back(self.model)
        else:
            self.model.load_state_dict(unchanged(unpack(modules["model"], saved.tensors)))
        self.state = {name: value for name, value in saved.state.items() if name != SNAPSHOT}
        return True

    def _stage(self, stage: Stage) -> None:
        """One stage: train, look, keep or undo."""
        run, settings, number = self.run, self.settings, self.state["stage"]
        found = None if _beneath_its_change(settings.engine) else Found(self.model)
        if not self.state["within"] and stage.kind == "dreaming":
            tasks = tasks_of(stage.tasks or settings.tasks)
            items = mixture(
                tasks, stage.levels, "train", run.seed, 10**6 + number, settings.dreams, room=self.room
            )
            self.state["dreams"] = dream(
                self.model,
                self.tokenizer,
                items,
                temperature=settings.dream_temperature,
                generator=run.generator(f"dreams/{number}"),
            )
        run.progress.start(
            f"{number + 1}/{len(settings.stages)} {stage.name}", stage.steps, at=self.state["within"]
        )
        edge = Edge(
            tasks_of(stage.tasks or settings.tasks),
            stage.levels,
            self.state["rates"],
            target=(settings.band.low + settings.band.high) / 2,
            memory=settings.band.memory,
        )
        self.model.eval()  # which forgets ternary weights that were kept for looking
        merge = put_on(self.model.requires_grad_(True), settings.engine, run.generator(f"adapter/{number}"))
        train(
            self.model,
            found,
            lambda step: self._draw(stage, edge, step),
            edge,
            self.state,
            name=stage.name,
            kind=stage.kind,
            steps=stage.steps,
            optimizer_of=lambda learner: self._optimizer(learner, stage.lr),
            clip=settings.clip,
            engine=settings.engine,
            self_weight=settings.self_weight,
            average=settings.average,
            checkpoints=run.checkpoints,
            report=report_to(run.progress, run.tracker, offset=self.state["done"]),
        )
        if merge is not None and found is not None:
            merge(self.model)
        run.progress.done()
        self.room.say()
        kept = self._look(stage)
        if found is None:
            take_off(self.model, keep=kept)
        elif not kept:
            found.put_back(self.model)

    def _optimizer(self, learner: torch.nn.Module, factor: float) -> torch.optim.Optimizer:
        """The optimiser of a stage whose learning rate is `factor` times the phase's."""
        settings, grokfast = self.settings, None
        if settings.grokfast is not None:
            grokfast = Grokfast(alpha=settings.grokfast.alpha, strength=settings.grokfast.strength)
        return build_optimizer(
            learner,
            settings.optimizer,
            settings.lr * factor,
            settings.weight_decay,
            grokfast,
            settings.engine.optimizer_bits,
        )

    def _draw(self, stage: Stage, edge: Edge, step: int) -> StepBatches:
        """What a step of the current stage learns from: a function of seed, stage and step, and of the edge's rates."""
        settings, seed = self.settings, self.run.seed * 1009 + self.state["stage"]
        dreams = dreams_in_a_step(settings.dream_share, settings.batch) if stage.kind == "dreaming" else 0
        weights, taken = stage.tasks or settings.tasks, self.state["done"] + step
        real = max(dreams + 1, settings.batch - self.texts.count(weights, taken))
        if stage.kind == "edge_of_chaos":
            items = items_at_the_edge(
                edge, settings.batch, stage.scratch, self.room, stage=stage.name, seed=seed, step=step
            )
        elif curriculum.follows_course(stage, settings):
            items = curriculum.draw(
                stage, settings, self.state, self.room, seed=seed, step=step, count=settings.batch
            )
        else:
            count = settings.batch - dreams
            items = mixture(
                tasks_of(weights),
                stage.levels,
                "train",
                seed,
                step,
                count,
                scratch=stage.scratch,
                room=self.room,
            )
        items = items[: real - dreams]
        rows = rows_in_part(settings.rows, settings.batch, settings.engine)
        parts = list(batches(items, self.tokenizer, rows))
        if dreams:
            padding = padding_id(self.tokenizer)
            parts.append(
                dreamt_part(self.state["dreams"], dreams, padding, stage=stage.name, seed=seed, step=step)
            )
        parts += [([], batch) for batch in self.texts.batches(weights, taken)]
        return StepBatches([(item.task, item.level) for item in items], parts)

    def _look(self, stage: Stage) -> bool:
        """Note what the stage did to loss, success and geometry; whether it is kept: unless the held-out loss rose."""
        run, state = self.run, self.state
        start, end = state["start"], loss(self.model, self.tokenizer, self.held_out)
        train_loss, dimension = loss(self.model, self.tokenizer, self.practised), self._dimension()
        result = {
            "stage": stage.name,
            "kind": stage.kind,
            "steps": stage.steps,
            "last_step": state["done"] + stage.steps,
            "kept": end <= start + self.settings.tolerance,
            "learning_rate": self.settings.lr * stage.lr,
            "grokfast_lambda": self.settings.grokfast.strength if self.settings.grokfast else 0.0,
            "train_loss_before": round(state["train_loss"], 5),
            "train_loss_after": round(train_loss, 5),
            "held_out_loss_before": round(start, 5),
            "held_out_loss_after": round(end, 5),
            "regime": regime(
                (state["train_loss"], train_loss), (start, end), (state["dimension"], dimension)
            ),
            "intrinsic_dimension": round(dimension, 3),
            "intrinsic_dimension_share": round(
                dimension / self.model.config.get_text_config().hidden_size, 5
            ),
            "weight_spread": round(weight_spread(self.model), 6),
            **{name: state[name] for name in SERIES},
        }
        state["results"].append(result)
        self._track(end, train_loss, dimension, step=result["last_step"])
        if result["kept"]:
            state |= {"start": end, "train_loss": train_loss, "dimension": dimension}
        else:
            run.progress.note(f"{stage.name} is undone: held-out loss {start:.3f} → {end:.3f}")
        return bool(result["kept"])

    def _track(self, held_out_loss: float, train_loss: float, dimension: float, step: int = 0) -> None:
        """A point of the trajectory: losses (nats a token) and geometry after so many steps of all stages."""
        self.run.tracker.metrics(
            {
                "held_out_loss": held_out_loss,
                "train_loss": train_loss,
                "intrinsic_dimension": dimension,
                "intrinsic_dimension_share": dimension / self.model.config.get_text_config().hidden_size,
                "weight_spread": weight_spread(self.model),
            },
            step=step,
        )

    def _dimension(self) -> float:
        """Intrinsic dimension of the last hidden state where the answer begins."""

        @torch.no_grad()
        def last(piece: tuple[list[int], Batch]) -> Tensor:
            batch = piece[1].to(self.model.device)
            hidden = hidden_states(self.model, batch.input_ids).last
            begins = (batch.labels != IGNORED).int().argmax(-1) - 1
            return hidden[torch.arange(len(begins)), begins].float().cpu()

        items = self._items("search", 1, self.settings.probe_items)
        questions = {item.system + item.prompt: item for item in items}  # each is one point
        pieces = list(batches(list(questions.values()), self.tokenizer, self.run.config.evaluation.batch))
        return two_nn(torch.cat(pieces_of(self.model)(last, pieces)))

    def _publish(self) -> None:
        """Save, score what was saved on the report split, and say what came of the claims."""
        run, results = self.run, self.state["results"]
        kept = [result["stage"] for result in results if result["kept"]]
        card = model_card("Trained model", __doc__ or "", facts={"stages kept": ", ".join(kept) or "none"})
        stored = save_trained(self.model, self.tokenizer, run.output, card)
        spread = weight_spread(self.model)
        course = None
        if self.settings.course is not None:
            course = curriculum.record(self.settings, self.state, self._placements())
        self.model = stored  # what was trained goes: two models are enough
        score(run, stored, self.tokenizer)
        input_model, _ = load(run.artifact.path)
        items = self._items("report", 0, 4 * run.config.evaluation.items)
        trained = correct(stored, self.tokenizer, items)
        gain = claim(
            "ten stages of training improve on the input model",
            "trained",
            trained,
            "input",
            correct(input_model, self.tokenizer, items),
            unit="accuracy on the trained tasks, report split",
        )
        band = self.settings.band
        band_claims = band_is_held(results, band.low, band.high)
        edge = [s for result in results for s in result["success"] if result["kind"] == "edge_of_chaos"]
        target = correct(stored, self.tokenizer, self.target) if self.target else trained
        first, low, high = mean_interval(target)
        self.metrics = {
            "held_out_loss_before": self.state["input"],
            "held_out_loss": loss(stored, self.tokenizer, self.held_out),
            "accuracy_before": gain["control_value"],
            "accuracy": gain["value"],
            "pass_at_1": first,
            "pass_at_1_low": low,
            "pass_at_1_high": high,
            "stages_kept": float(len(kept)),
            "intrinsic_dimension": self.state["dimension"],
            "weight_spread": spread,
        }
        self.metrics |= score_thinking(run, stored, self.tokenizer)
        if edge:
            self.metrics |= {
                "share_in_band": sum(band.low <= s <= band.high for s in edge) / len(edge),
                "mean_success_at_the_edge": sum(edge) / len(edge),
            }
        run.extra["stages"] = [{k: v for k, v in result.items() if k not in SERIES} for result in results]
        run.extra |= {key: self.state[key] for key in ("sanity",) if key in self.state}
        if course is not None:
            run.extra["course"] = course
        run.extra["regime"] = settled([result["regime"] for result in results])
        run.extra["curves"] = curves(results, band.low, band.high)
        run.extra["controls"] = [gain, *band_claims]


def _beneath_its_change(engine: EngineSettings) -> bool:
    """Whether the model as a stage found it lies whole beneath the change that is learnt, which can be taken off again."""
    return engine.adapter == "lora" and engine.strategy in ("single", "ddp")


def _new_stage() -> dict[str, Any]:
    """The state of a stage that has not begun."""
    return {"loss": [], "success": [], "unsteered": [], "dreams": []}
