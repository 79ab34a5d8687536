"""Phase 7: experts out of the model's own singular values, and a search for the agent to build around them."""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import TOOLS, Architecture, Route
from components.shared.agent.dispatcher import Dispatcher, fit
from components.shared.agent.expert_file import Expert
from components.shared.evaluation.suites import all_items
from components.shared.models.card import model_card
from components.shared.models.layers import decoder_layers
from components.shared.models.loading import load, save
from components.shared.optim.schedule import warmup_cosine
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.runtime.ranks import group
from components.shared.tasks.batches import check_mixture
from components.shared.tasks.item import Item, Split
from components.shared.tasks.prompting import stop_ids
from components.shared.training.device import device
from components.shared.training.loop import TrainingLoop, report_to

from . import search
from .bench import EQUIPPED, Bench, right_answers
from .cem import cross_entropy_method
from .component import PHASE
from .families import OTHER, Class, learnable, questions, success_rates
from .report import SearchOutcome, report
from .search import ArchiveEntry
from .settings import Family, Settings
from .space import THRESHOLDS, design_space
from .svf import ExpertVectors, matrices, reinforce, stored_expert, svf_optimizer

__all__ = ["Adas"]


class Adas(Phase[Settings], spec=PHASE):
    """Trains SVF experts, fits their dispatcher, and evolves the architecture of the agent.

    Searched on the search split, chosen on the select split, reported once on the report split. The model itself is
    published unchanged.
    """

    def validate_input(self) -> None:
        """Tasks and levels exist, the model loads and has matrices to weigh."""
        settings = self.run.settings
        for family in settings.families:
            check_mixture(dict.fromkeys(family.tasks, 1.0), family.levels)
        check_mixture(dict.fromkeys(settings.other_tasks, 1.0), [1])
        self.model, self.tokenizer = load(self.run.artifact.path, device=device())
        self.model.requires_grad_(False)
        if not stop_ids(self.tokenizer, self.model):
            raise InputError(
                "the tokenizer has no <eos>: no answer would end",
                where=str(self.run.artifact.path),
                fix="set eos_token in its tokenizer_config.json",
            )
        self.sizes = matrices(self.model)
        if not self.sizes:
            raise InputError(
                "the model has no linear layer whose singular values could be weighed",
                where=str(self.run.artifact.path),
                fix="give a model whose blocks are made of nn.Linear",
            )
        self.experts: dict[str, Expert] = {}
        self.dispatcher: Dispatcher | None = None

    def execute(self) -> None:
        """The story: gate the families, train their experts, fit the dispatcher, search, choose, publish, measure."""
        self._begin()
        if not self.state["gates"]:
            self._gate()
        for number, family in enumerate(self._learnable()):
            if number >= self.state["family"]:
                self._train(number, family)
        group.leave()
        self.experts = {family.name: stored_expert(self._vectors(family)) for family in self._learnable()}
        self.dispatcher = self._fit_dispatcher()
        archive = self._search()
        self._publish(*self._choose(archive), archive)

    def get_metrics(self) -> dict[str, float]:
        """Accuracy of the agent and its controls on each split, and of each expert and its base."""
        return self.metrics

    def _begin(self) -> None:
        """Fresh, or as the newest checkpoint has it."""
        self.vectors = nn.ModuleDict(
            {family.name: ExpertVectors(self.sizes) for family in self.run.settings.families}
        )
        self.vectors.to(self.model.device)
        self.state: dict[str, Any] = {
            "gates": {},
            "family": 0,
            "within": 0,
            "curves": {},
            "archive": [],
            "generation": 0,
            "stale": 0,
        }
        self.saved = self.run.checkpoints.restore()
        if self.saved is None:
            return
        self.state |= {key: self.saved.state[key] for key in self.state}
        if not self.state["within"]:  # else an optimiser goes with it: the expert's training loads them
            Snapshot({"experts": self.vectors}).load(self.saved)

    def _vectors(self, family: Family) -> ExpertVectors:
        return cast(ExpertVectors, self.vectors[family.name])

    def _save(self, step: int) -> None:
        Snapshot({"experts": self.vectors}, state=self.state).save(self.run.checkpoints, step)
        self.run.checkpoints.stop_if_asked()

    def _agent(self, architecture: Architecture) -> Agent:
        return Agent(
            self.model,
            self.tokenizer,
            architecture,
            experts=self.experts,
            dispatcher=self.dispatcher,
            answer_tokens=self.run.settings.answer_tokens,
        )

    def _gate(self) -> None:
        """Which families can be learnt, and at which levels. A skipped one is said aloud."""
        run, svf = self.run, self.run.settings.svf
        base = self._agent(EQUIPPED)
        run.progress.start("gate", len(run.settings.families))
        for family in run.settings.families:
            rates = success_rates(
                family.tasks,
                family.levels,
                lambda items: right_answers(items, base.generate(items, Route())),
                low=svf.low,
                count=svf.gate_items,
                seed=run.seed,
            )
            levels = learnable(rates, svf.low, svf.high)
            self.state["gates"][family.name] = {
                "base": {str(level): rate for level, rate in rates.items()},
                "levels": levels,
            }
            run.progress.step()
            if not levels:
                measured = ", ".join(f"{rate:.2f} at level {level}" for level, rate in rates.items())
                run.progress.note(
                    f"no expert for {family.name}: the base succeeds {measured}; it learns between {svf.low} and {svf.high}"
                )
        run.progress.done()
        self._save(0)

    def _levels(self, family: Family) -> list[int]:
        """At which its expert learns; none: the family is skipped."""
        return list(self.state["gates"][family.name]["levels"])

    def _learnable(self) -> list[Family]:
        return [family for family in self.run.settings.families if self._levels(family)]

    def _train(self, number: int, family: Family) -> None:
        """One expert, by REINFORCE on the training split."""
        run, settings, svf = self.run, self.run.settings, self.run.settings.svf
        vectors, levels = self._vectors(family), self._levels(family)
        optimizer = svf_optimizer(vectors, svf.lr)
        snapshot = Snapshot({"experts": self.vectors}, {"optimizer": optimizer}, state=self.state)
        loop = TrainingLoop(
            vectors,
            snapshot.optimizers,
            clip=svf.clip,
            where="adas.svf",
            fix="lower adas.svf.lr",
            engine=settings.engine,
            snapshot=snapshot,
            checkpoints=run.checkpoints,
            report=report_to(run.progress, run.tracker, prefix=f"{family.name}/"),
        )
        if self.saved is not None and self.state["within"]:
            snapshot.load(self.saved)
        loop.step = self.state["within"]
        curve = self.state["curves"].setdefault(family.name, [])
        ranks = group.world()

        def loss_of(part: tuple[int, Sequence[Item]]) -> tuple[Tensor, dict[str, float]]:
            number, items = part
            share = f"/{number} of {ranks}" if ranks > 1 else ""  # each rank samples answers of its own
            return reinforce(
                self.model,
                self.tokenizer,
                vectors,
                items,
                lambda asked, texts: torch.from_numpy(right_answers(asked, texts)),
                samples=svf.samples,
                limit=settings.answer_tokens,
                kl_weight=svf.kl,
                generator=run.generator(f"{family.name}/{loop.step}{share}"),
            )

        run.progress.start(f"expert {family.name}", svf.steps, at=loop.step)
        for step in range(loop.step, svf.steps):
            items = questions(family.tasks, "train", levels, step, svf.questions, run.seed)
            parts = [(number, items[number::ranks]) for number in range(min(ranks, len(items)))]
            shares = [len(part) / len(items) for _, part in parts]
            rate = warmup_cosine(step, svf.steps, warmup=1)
            update = loop.update(parts, loss_of, rate=rate, weights=shares)
            curve.append([round(update.metrics[name], 6) for name in ("success", "kl")])
            self.state["within"] = loop.step
            loop.end_step(update.metrics)
        loop.finish()
        run.progress.done()
        self.state |= {"family": number + 1, "within": 0}
        self._save(svf.steps)

    def _fit_dispatcher(self) -> Dispatcher:
        """Families told apart by their questions, and from those that belong to none."""
        count, seed = self.run.settings.dispatch_items, self.run.seed
        items = [
            (item.system + item.prompt, name)
            for name, (tasks, levels) in self._classes().items()
            for item in questions(tasks, "train", levels, 0, count, seed)
        ]
        return fit(*map(list, zip(*items, strict=True)))

    def _classes(self) -> dict[str, Class]:
        """What the dispatcher tells apart: the families, and at all of their levels whatever belongs to none."""
        settings = self.run.settings
        levels = sorted({level for family in settings.families for level in family.levels})
        families = {family.name: (family.tasks, family.levels) for family in settings.families}
        return {**families, OTHER: (settings.other_tasks, levels)}

    def _bench(self, split: Split, items: int) -> Bench:
        """A bench of `items` items of each suite."""
        return Bench(self._agent, all_items(split=split, items=items, seed=self.run.seed), self.dispatcher)

    def _search(self) -> list[ArchiveEntry]:
        """Generation 0 by hand, then evolution until the plateau; saved after every generation."""
        run, settings = self.run, self.run.settings.search
        bench = self._bench("search", settings.items)
        space = design_space(self._agent(EQUIPPED), len(decoder_layers(self.model)))
        run.progress.start("search", settings.generations + 1)
        if not self.state["archive"]:
            designs = space.by_hand(self._threshold(bench), self._mixture())
            self._keep([search.evaluate(design, 0, bench.right) for design in designs])
        archive = [ArchiveEntry(**entry) for entry in self.state["archive"]]
        run.progress.step(self.state["generation"] + 1, best=search.fittest(archive).rank)
        while self.state["generation"] < settings.generations and self.state["stale"] < settings.patience:
            number = self.state["generation"] + 1
            better = search.generation(
                archive,
                number,
                space,
                bench.right,
                random.Random(f"adas/{run.seed}/{number}"),
                children=settings.children,
                tournament=settings.tournament,
                crossover=settings.crossover,
            )
            self.state |= {"generation": number, "stale": 0 if better else self.state["stale"] + 1}
            self._keep(archive)
            best = search.fittest(archive).rank
            run.progress.step(best=best)
            run.tracker.metrics({"search/best": best}, step=number)
        run.progress.done()
        self.hand_designs = sum(entry.generation == 0 for entry in archive)
        return archive

    def _keep(self, archive: Sequence[ArchiveEntry]) -> None:
        self.state["archive"] = search.as_json(archive)
        self._save(self.state["generation"])

    def _threshold(self, bench: Bench) -> float:
        """The confidence from which experts serve best on the search split; the highest of equals."""
        routes = {name: Route(experts={name: 1.0}) for name in self.experts}

        def worth(threshold: float) -> float:
            return float(bench.right(Architecture(tools=TOOLS, routes=routes, threshold=threshold)).mean())

        return max(reversed(THRESHOLDS), key=worth)

    def _mixture(self) -> dict[str, float]:
        """α of all experts for every prompt, fitted to a few of the search split; empty without experts."""
        cem, names = self.run.settings.cem, sorted(self.experts)
        if not cem.iterations or not names:
            return {}
        few = self._bench("search", cem.items)

        def mixture(alpha: np.ndarray) -> dict[str, float]:
            return {name: round(float(share), 3) for name, share in zip(names, alpha, strict=True)}

        alpha, _ = cross_entropy_method(
            lambda candidate: float(
                few.right(Architecture(tools=TOOLS, default=Route(experts=mixture(candidate)))).mean()
            ),
            np.full(len(names), 1 / len(names)),
            iterations=cem.iterations,
            population=cem.population,
            elites=cem.elites,
            rng=self.run.numpy("cem"),
        )
        return mixture(alpha)

    def _choose(self, archive: list[ArchiveEntry]) -> tuple[int, int]:
        """The best finalist on the select split, and the best hand design there; indices in the archive."""
        run, settings = self.run, self.run.settings.search
        bench = self._bench("select", settings.select_items)
        by_hand = [index for index in range(self.hand_designs) if archive[index].fitness is not None]
        compared = sorted({*search.finalists(archive, settings.finalists), *by_hand})
        run.progress.start("choose", len(compared))
        for index in compared:
            archive[index].select = float(bench.right(archive[index].design.architecture).mean())
            run.progress.step()
        run.progress.done()

        def best(indices: Sequence[int]) -> int:
            return max(indices, key=lambda index: archive[index].select or 0.0)

        return best(compared), best(by_hand)

    def _publish(self, chosen: int, by_hand: int, archive: list[ArchiveEntry]) -> None:
        """Write the model and the agent around it, load both again, and measure that."""
        run, design = self.run, archive[chosen].design
        if hasattr(self.model.config, "experts") and self.experts:
            self.model.config.experts = {"names": sorted(self.experts)}  # set_expert travels with the model
        facts = {"architecture": f"`{design.name}`", "experts": ", ".join(self.experts) or "none"}
        card = model_card("Agent", (Adas.__doc__ or "").split("\n")[0], facts=facts)
        save(self.model, self.tokenizer, run.output, card=card, half=True)
        self._agent(design.architecture).save(run.output)
        where = str(self.model.device)
        del self.model  # what is measured is the stored one, and there need not be room for two
        gc.collect()
        stored = Agent.load(run.output, device=where)
        experts = {family.name: (family.tasks, self._levels(family)) for family in self._learnable()}
        outcome = SearchOutcome(experts, self._classes(), archive, chosen, by_hand)
        self.metrics = report(
            run,
            stored,
            outcome,
            self.state["gates"],
            self.state["curves"],
            suite_items=run.config.evaluation.items,
            class_items=run.settings.dispatch_items,
            batch=run.config.evaluation.batch,
        )
        self.metrics["generations"] = float(self.state["generation"])
