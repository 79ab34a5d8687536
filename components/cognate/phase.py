"""Phase 1: three small networks that share their initialisation and an early trunk, so that they can be merged."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, PreTrainedModel

from components.shared.base_models.address import address
from components.shared.base_models.prepare import prepare
from components.shared.data.texts import open_texts
from components.shared.evaluation.answers import batches, correct
from components.shared.evaluation.claims import claim
from components.shared.evaluation.report_split import score, score_base
from components.shared.evaluation.sanity import loss_falls
from components.shared.evaluation.suites import suite_items
from components.shared.models.build import build, extend
from components.shared.models.card import model_card
from components.shared.models.gram_file import write_grams
from components.shared.models.loading import load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.models.trunk import FILE as TRUNK
from components.shared.models.trunk import write_trunk
from components.shared.optim.optimizer import build_optimizer
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.artifact.base_models import KEY
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.runtime.store.local_copy import download
from components.shared.tasks.batches import Batch, check_mixture, encode, mixture
from components.shared.tasks.corpora import tasks_of
from components.shared.tasks.room import Room, positions_of
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.device import device
from components.shared.training.loop import report_to, rows_in_part
from components.shared.training.low_rank import merge

from .component import AS_IT_IS, PHASE
from .course import train
from .diversity import distances
from .given import prepare_training, trunk_tensors, with_modules
from .settings import VARIANTS, Course, Opening, Settings

__all__ = ["Cognate"]

OWN_SUITE = {"standard": "reasoning", "memory": "memory", "reasoning": "reasoning"}


class Cognate(Phase[Settings], spec=PHASE):
    """Trains the trunk (`--step trunk`) or one variant of it (`--set variant=standard|memory|reasoning`).

    With a model as input in place of the trunk, the variants are this model's; `given` is the model as it is. A variant
    may also be the name or the address of a model, which is fetched and then taken in a cognate's place. By hand, without
    an input, the trunk is trained first.
    """

    def __init__(self, run: Any) -> None:
        super().__init__(run)
        self.metrics: dict[str, float] = {}
        self._read: Any = None
        self.variant = str(run.parameters.get("variant", "standard"))
        given = next((a for name in ("trunk", "input_model") for a in run.inputs.get(name, [])), None)
        self.base = given if given is not None and given.kind == "model" else None
        self.trunk = given if self.base is None else None

    def validate_input(self) -> None:
        """Tasks and levels exist; the trunk is one; a variant is known or is a place where a model may be."""
        for course in VARIANTS if self.run.step == "" else ("trunk",):
            settings = getattr(self.run.settings, course)
            check_mixture(settings.tasks | settings.opening.tasks, settings.levels)
        if self.run.step == "trunk":
            return
        if self.base is not None and self.variant not in (*VARIANTS, AS_IT_IS):
            raise InputError(
                f"there is no variant {self.variant!r} of a given model",
                where="parameter variant",
                fix=f"use one of {', '.join((*VARIANTS, AS_IT_IS))}",
            )
        if self.base is None and self.variant not in VARIANTS and not _is_address(self.variant):
            raise InputError(
                f"there is no variant {self.variant!r}",
                where="parameter variant",
                fix=f"use one of {', '.join(VARIANTS)}; or a model: a name of the hub (owner/name), a folder, an s3://"
                " address or a .gguf file",
            )
        if self.trunk and self.trunk.kind != "trunk":
            raise InputError(
                f"the input is a {self.trunk.kind}, not a trunk and not a model",
                where=str(self.trunk.path),
                fix="give the output of `--step trunk`, a base model, or no input",
            )

    def execute(self) -> None:
        """The story: build, train, look at what came out, publish."""
        if self.run.step == "trunk":
            self._make_trunk()
        elif self.base is not None:
            self._vary(self.base)
        elif self.variant in VARIANTS:
            self._make_variant()
        else:
            self._take_model()

    def get_metrics(self) -> dict[str, float]:
        """Steps taken, distances from the trunk, the gain over it, and the score of each suite."""
        return self.metrics

    def _make_trunk(self) -> None:
        """Train what all variants start from. Nothing is trained where every base model is given."""
        self.run.kind = "trunk"
        base_models = self.run.parameters.get("base_models") or list(VARIANTS)
        self.run.extra["variant"] = "trunk"
        if not set(base_models) & set(VARIANTS):
            (self.run.output / "README.md").write_text(
                "# No trunk\n\nAll base models are given: there is nothing to train a trunk for.\n"
            )
            self.run.progress.note("all base models are given: no trunk is trained")
            return
        model = self._build()
        self._sanity(model)
        self._train(model, "trunk")
        group.leave()
        save(model, self._tokenizer(), self.run.output, card=_card("trunk", model))
        self._score(model)

    def _sanity(self, model: PreTrainedModel) -> None:
        """The sanity gate: a copy of the fresh network learns a known task a little."""
        settings, course = self.run.settings, self.run.settings.trunk
        if settings.sanity_steps:
            torch.set_num_threads(course.threads)
            found = loss_falls(
                model,
                self._tokenizer(),
                lambda learner: build_optimizer(
                    learner, settings.optimizer, course.lr, settings.weight_decay
                ),
                steps=settings.sanity_steps,
                batch=min(settings.batch, settings.rows),
                seed=self.run.seed,
                where="cognate.trunk",
            )
            self.run.extra["sanity"] = found.as_dict()

    def _make_variant(self) -> None:
        """Put the variant's modules onto the trunk, closed, and train on with the variant's own mixture."""
        trunk = self._trunk_weights()
        model = extend(
            self._from_trunk(trunk),
            memory=self.variant == "memory",
            refinement=self.variant == "reasoning",
            seed=self.run.seed,
        )
        self._train(model, self.variant)
        group.leave()
        self._publish(model, self._tokenizer(), trunk)

    def _take_model(self) -> None:
        """A model of someone else's in the place of a cognate: fetched, checked, scored, its Gram matrices taken."""
        group.leave()  # nothing is trained
        folder = self.run.work / "base"
        shutil.rmtree(folder, ignore_errors=True)
        facts = prepare(address(self.variant), folder, self.run.work, progress=self.run.progress)
        self.run.extra[KEY] = [facts]
        self._publish(*load(folder), None)

    def _vary(self, base: Artifact) -> None:
        """A variant of a given model: itself, or with the variant's modules, closed, and trained on for a while."""
        settings = self.run.settings
        model, tokenizer = load(base.path)
        if self.variant == AS_IT_IS:
            group.leave()  # nothing is trained
            self._publish(model, tokenizer, None)
            if not base.manifest.scores:
                score_base(self.run, model, tokenizer)
            return
        dtype = model.dtype
        model = with_modules(model.to(device()), self.variant, settings.given, self.run.seed)  # type: ignore[arg-type]
        if settings.given.trains != "nothing" and prepare_training(model, settings.given, self.run.seed):
            self._train(model, self.variant, tokenizer)
            merge(model)
            model.to(dtype)  # type: ignore[arg-type]
        group.leave()
        self._publish(model, tokenizer, None)
        start, _ = load(base.path)
        trunk = trunk_tensors(start)
        write_trunk(trunk, model.state_dict(), self.run.output, base.digest)
        start = start.to(model.device)  # type: ignore[arg-type] # transformers wraps it
        if (
            self.variant == VARIANTS[0] and not base.manifest.scores
        ):  # a merge's first parent tells of the start
            score_base(self.run, start, tokenizer)
        self._compare(model, start, tokenizer, trunk)

    def _build(self) -> CognateForCausalLM:
        """The plain network, fresh; the variants' modules are added to it later."""
        shape, tokenizer = self.run.settings.model.model_dump(), self._tokenizer()
        rows = shape.pop("vocabulary_size")
        if len(tokenizer) > rows:
            raise InputError(
                f"the tokenizer has {len(tokenizer)} tokens, the embedding {rows} rows",
                where="cognate.model.vocabulary_size",
                fix=f"give {len(tokenizer)} or more",
            )
        ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
        config = CognateConfig(vocab_size=rows, **shape, **ids)
        return build(config, seed=self.run.seed).to(device())  # type: ignore[arg-type] # transformers wraps it

    def _tokenizer(self) -> Any:
        """Bytes, or the tokenizer that the settings name."""
        place = self.run.settings.tokenizer
        if not place:
            return byte_tokenizer()
        if self._read is None:
            self._read = AutoTokenizer.from_pretrained(
                download(place, self.run.work / "tokenizer"), trust_remote_code=False
            )
        return self._read

    def _from_trunk(self, trunk: dict[str, torch.Tensor]) -> CognateForCausalLM:
        """The plain network with the trunk's weights."""
        model = self._build()
        mismatched = [n for n, t in model.state_dict().items() if n not in trunk or trunk[n].shape != t.shape]
        if mismatched or len(trunk) != len(model.state_dict()):
            raise InputError(
                "the trunk is of another geometry than cognate.model",
                where=mismatched[0] if mismatched else "its number of tensors",
                fix="train the trunk with the same settings",
            )
        model.load_state_dict(trunk)
        return model.eval()

    def _trunk_weights(self) -> dict[str, torch.Tensor]:
        """Those of the input, or of a trunk that is trained here first."""
        if self.trunk is not None:
            return load_file(self.trunk.path / "model.safetensors")
        # By hand, without a trunk as input: this file survives a kill, as the trunk's checkpoints do not.
        trunk_file = self.run.work / TRUNK
        missing = not trunk_file.exists()
        group.barrier()  # ranks of one machine share the folder: all have looked before one writes
        if missing:
            model = self._build()
            self._train(model, "trunk")
            if group.rank() == 0:
                draft = trunk_file.with_suffix(".tmp")
                save_file(model.state_dict(), draft)
                draft.replace(trunk_file)
            self.run.checkpoints.clear()
        return load_file(trunk_file)

    def _train(self, model: PreTrainedModel, name: str, given_tokenizer: Any = None) -> None:
        """Train `model` in place through the course of that name, and keep its loss curve.

        :param given_tokenizer: of a given model, whose course is `settings.given`'s but for what it is drawn from.
        """
        run, settings, given = self.run, self.run.settings, given_tokenizer is not None
        course, tokenizer = getattr(settings, name), given_tokenizer or self._tokenizer()
        size, warmup, optimizer = settings.batch, settings.warmup, settings.optimizer
        if given:
            own = {"steps": settings.given.steps, "lr": settings.given.lr, "opening": Opening()}
            course, size, optimizer = course.model_copy(update=own), settings.given.batch, "adamw"
            warmup = min(warmup, course.steps // 5)
        seed = run.seed + (0 if name == "trunk" else 1 + VARIANTS.index(name))
        torch.set_num_threads(course.threads)
        rows = rows_in_part(settings.rows, size, settings.engine)
        room = Room(tokenizer, positions_of(model), run.progress.note)
        course = _fitting(course, room)
        mixed = dict.fromkeys((*course.tasks, *course.opening.tasks), 1.0)
        texts = open_texts(run, mixed, model, tokenizer, seed, row_tokens=settings.row_tokens, size=size)
        run.progress.start(name, course.steps)

        def draw(step: int, opening: bool) -> list[Batch]:
            """The batches of a step: a function of the seed, the course and the step."""
            weights = course.opening.tasks if opening else course.tasks
            items = mixture(
                tasks_of(weights), course.levels, "train", seed, step, size, scratch=course.scratch, room=room
            )
            items = items[: max(1, size - texts.count(weights, step))]
            return [
                *(batch for _, batch in batches(items, tokenizer, rows)),
                *texts.batches(weights, step),
            ]

        steps, curve = train(
            model,
            build_optimizer(
                model, optimizer, course.lr, settings.weight_decay, bits=settings.engine.optimizer_bits
            ),
            draw,
            name=name,
            steps=course.steps,
            warmup=warmup,
            decay=settings.decay,
            opening_steps=course.opening.steps,
            opening_loss=course.opening.loss,
            window=settings.window,
            tolerance=settings.tolerance,
            clip=settings.clip,
            engine=settings.engine,
            checkpoints=run.checkpoints,
            report=report_to(run.progress, run.tracker, every=10),
        )
        self.metrics["steps"] = float(steps)
        run.progress.done()
        room.say()
        run.extra.setdefault("curves", {})[f"{name}: loss"] = {
            "x": curve["step"],
            "xlabel": "step",
            "ylabel": "nats a token",
            "series": {"train": curve["loss"]},
        }

    def _publish(self, model: PreTrainedModel, tokenizer: Any, trunk: dict[str, torch.Tensor] | None) -> None:
        """Save the model with what merging needs: the trunk as the base of its task vector, and its Gram matrices."""
        settings, course = (
            self.run.settings,
            getattr(self.run.settings, self.variant, self.run.settings.standard),
        )
        room = Room(tokenizer, positions_of(model))
        course = _fitting(course, room)
        name = self.variant if self.variant in VARIANTS else Path(self.variant).name
        self.run.extra["variant"] = name
        stored = self._with_all_modules(model) if trunk is not None and settings.equal_size else model
        save(stored, tokenizer, self.run.output, card=_card(name, stored))
        items = mixture(
            tasks_of(course.tasks), course.levels, "train", self.run.seed, 0, settings.gram_items, room=room
        )
        encoded = (
            encode(items[i : i + settings.batch], tokenizer).to(model.device)
            for i in range(0, len(items), settings.batch)
        )
        write_grams(
            model,
            (
                {"input_ids": b.input_ids, "attention_mask": b.attention_mask, "use_cache": False}
                for b in encoded
            ),
            self.run.output,
        )
        if trunk is not None:
            save_file(trunk, self.run.output / TRUNK)
            (self.run.output / TRUNK).chmod(0o644)
            self._compare(model, self._from_trunk(trunk), tokenizer, trunk)
        self._score(model, tokenizer)

    def _with_all_modules(self, model: Any) -> PreTrainedModel:
        """The variant in the architecture that holds all of them; what it has not learnt with is closed."""
        return extend(model, memory=True, refinement=True, seed=self.run.seed)

    def _compare(
        self, model: PreTrainedModel, start: PreTrainedModel, tokenizer: Any, trunk: dict[str, torch.Tensor]
    ) -> None:
        """How far the variant is from the trunk, and whether its course was worth it on its own suite."""
        settings, room = self.run.settings, Room(tokenizer, positions_of(model))
        course = _fitting(getattr(settings, self.variant), room)
        tasks = tasks_of(course.tasks)
        probed = mixture(tasks, course.levels, "search", self.run.seed, 0, settings.probe_items, room=room)
        self.metrics |= distances(model, start, encode(probed, tokenizer).to(model.device), trunk)
        suite = OWN_SUITE[self.variant]
        items = suite_items(suite, split="report", items=self.run.config.evaluation.items, seed=self.run.seed)
        ours, theirs = (correct(m, tokenizer, items) for m in (model, start))
        gain = claim(
            f"the {self.variant} course adds to the trunk on the {suite} suite",
            f"{self.variant} variant",
            ours,
            "trunk",
            theirs,
            unit="accuracy, report split",
            seed=self.run.seed,
        )
        self.run.extra["controls"] = [gain]
        self.metrics["gain_over_trunk"] = gain["difference"]

    def _score(self, model: PreTrainedModel, tokenizer: Any = None) -> None:
        scores = score(self.run, model, tokenizer or self._tokenizer())
        self.metrics |= {f"score_{suite}": each.score for suite, each in scores.items()}


def _fitting(course: Course, room: Room) -> Course:
    """A course without the tasks and levels that the model has no positions for."""
    left, levels = room.fitting(course.tasks | course.opening.tasks, course.levels)
    tasks, opening = (
        {task: weight for task, weight in weights.items() if task in left}
        for weights in (course.tasks, course.opening.tasks)
    )
    return course.model_copy(
        update={
            "tasks": tasks,
            "levels": levels,
            "opening": course.opening.model_copy(update={"tasks": opening}),
        }
    )


def _is_address(text: str) -> bool:
    """Whether something is there, or may be at the hub."""
    try:
        return bool(address(text))
    except InputError:
        return False


def _card(variant: str, model: PreTrainedModel) -> str:
    facts = {"parameters": f"{model.num_parameters():,}", "variant": variant}
    return model_card(f"Cognate ({variant})", "A small decoder-only transformer over bytes.", facts=facts)
