"""Phase 7: experts out of the model's own singular values, and a search for the agent to build around them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import TOOLS, Architecture, Route
from components.shared.agent.dispatcher import Dispatcher, fit
from components.shared.agent.expert_file import Expert
from components.shared.evaluation.suites import all_items
from components.shared.models.card import model_card
from components.shared.models.layers import decoder_layers
from components.shared.models.loading import load, save
from components.shared.runtime.checkpoint.checkpoints import Snapshot
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture
from components.shared.tasks.item import Split

from . import search
from .bench import EQUIPPED, Bench, judged
from .cem import cross_entropy_method
from .component import PHASE
from .families import classes, learnable, questions, questions_of_class, rates
from .report import Outcome, report
from .search import Entry
from .settings import Family, Settings
from .space import THRESHOLDS, space_of
from .svf import Vectors, finished, matrices, reinforce, rule_of, update


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
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model, self.tokenizer = load(self.run.artifact.path, device=device)
        self.model.requires_grad_(False)
        if self.tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer has no <eos>: no answer would end", where=str(self.run.artifact.path)
            )
        self.sizes = matrices(self.model)
        if not self.sizes:
            raise InputError(
                "the model has no linear layer whose singular values could be weighed",
                where=str(self.run.artifact.path),
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
        self.experts = {family.name: finished(self._vectors(family)) for family in self._learnable()}
        self.dispatcher = self._fit_dispatcher()
        archive = self._search()
        self._publish(*self._choose(archive), archive)

    def get_metrics(self) -> dict[str, float]:
        return self.metrics

    def _begin(self) -> None:
        """Fresh, or as the newest checkpoint has it."""
        self.vectors = nn.ModuleDict(
            {family.name: Vectors(self.sizes) for family in self.run.settings.families}
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
        found = self.run.checkpoints.restore()
        if found is None:
            return
        self.state |= {key: found.state[key] for key in self.state}
        rules = {"rule": self._rule(self._learnable()[self.state["family"]])} if self.state["within"] else {}
        loop = Snapshot({"experts": self.vectors}, rules, state={})
        loop.load(found)
        self.rules = rules

    def _vectors(self, family: Family) -> Vectors:
        return cast(Vectors, self.vectors[family.name])

    def _rule(self, family: Family) -> torch.optim.AdamW:
        return rule_of(self._vectors(family), self.run.settings.svf.lr)

    def _save(self, step: int, rules: dict[str, Any] | None = None) -> None:
        Snapshot({"experts": self.vectors}, rules or {}, state=self.state).save(self.run.checkpoints, step)
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
            found = rates(
                family,
                lambda items: judged(items, base.say(items, Route())),
                low=svf.low,
                count=svf.gate_items,
                seed=run.seed,
            )
            levels = learnable(found, svf.low, svf.high)
            said = {str(level): rate for level, rate in found.items()}
            self.state["gates"][family.name] = {"base": said, "levels": levels}
            run.progress.step()
            if not levels:
                seen = ", ".join(f"{rate:.2f} at level {level}" for level, rate in said.items())
                run.progress.note(
                    f"no expert for {family.name}: the base succeeds {seen}; it learns between {svf.low} and {svf.high}"
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
        rule = self.rules["rule"] if self.state["within"] else self._rule(family)
        curve = self.state["curves"].setdefault(family.name, [])
        run.progress.start(f"expert {family.name}", svf.steps)
        run.progress.step(self.state["within"])
        for step in range(self.state["within"], svf.steps):
            loss, seen = reinforce(
                self.model,
                self.tokenizer,
                vectors,
                questions(family, levels, step, svf.questions, run.seed),
                lambda items, said: torch.from_numpy(judged(items, said)),
                samples=svf.samples,
                limit=settings.answer_tokens,
                kl_weight=svf.kl,
                generator=run.generator(f"{family.name}/{step}"),
            )
            update(rule, vectors, loss, step, svf.steps, svf.clip)
            curve.append([round(seen.success, 6), round(seen.kl, 6)])
            self.state["within"] = step + 1
            run.progress.step(success=seen.success, kl=seen.kl)
            run.tracker.metrics(
                {f"{family.name}/success": seen.success, f"{family.name}/kl": seen.kl}, step=step
            )
            if run.checkpoints.due():
                self._save(step + 1, {"rule": rule})
        run.progress.done()
        self.state |= {"family": number + 1, "within": 0}
        self._save(svf.steps)

    def _fit_dispatcher(self) -> Dispatcher:
        """Families told apart by their questions, and from those that belong to none."""
        items = [
            (item.system + item.prompt, name)
            for name in classes(self.run.settings)
            for item in questions_of_class(self.run.settings, name, "train", self.run.seed)
        ]
        return fit(*map(list, zip(*items, strict=True)))

    def _bench(self, split: Split, items: int) -> Bench:
        """A bench of `items` items of each suite."""
        asked = all_items(split=split, items=items, seed=self.run.seed)
        return Bench(self._agent, asked, self.dispatcher)

    def _search(self) -> list[Entry]:
        """Generation 0 by hand, then evolution until the plateau; saved after every generation."""
        run, settings = self.run, self.run.settings.search
        bench = self._bench("search", settings.items)
        space = space_of(self._agent(EQUIPPED), len(decoder_layers(self.model)))
        run.progress.start("search", settings.generations + 1)
        if not self.state["archive"]:
            designs = space.by_hand(self._threshold(bench), self._mixture())
            self._keep([search.judge(design, 0, bench.right) for design in designs])
        archive = [Entry(**entry) for entry in self.state["archive"]]
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
        self.hands = sum(entry.generation == 0 for entry in archive)
        return archive

    def _keep(self, archive: Sequence[Entry]) -> None:
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
            lambda one: float(
                few.right(Architecture(tools=TOOLS, default=Route(experts=mixture(one)))).mean()
            ),
            np.full(len(names), 1 / len(names)),
            iterations=cem.iterations,
            population=cem.population,
            elites=cem.elites,
            rng=self.run.numpy("cem"),
        )
        return mixture(alpha)

    def _choose(self, archive: list[Entry]) -> tuple[int, int]:
        """The best finalist on the select split, and the best hand design there; places in the archive."""
        run, settings = self.run, self.run.settings.search
        bench = self._bench("select", settings.select_items)
        hands = [place for place in range(self.hands) if archive[place].fitness is not None]
        compared = sorted({*search.finalists(archive, settings.finalists), *hands})
        run.progress.start("choose", len(compared))
        for place in compared:
            archive[place].select = float(bench.right(archive[place].design.architecture).mean())
            run.progress.step()
        run.progress.done()

        def best(places: Sequence[int]) -> int:
            return max(places, key=lambda place: archive[place].select or 0.0)

        return best(compared), best(hands)

    def _publish(self, chosen: int, by_hand: int, archive: list[Entry]) -> None:
        """Write the model and the agent around it, load both again, and measure that."""
        run, design = self.run, archive[chosen].design
        if hasattr(self.model.config, "experts") and self.experts:
            self.model.config.experts = {"names": sorted(self.experts)}  # set_expert travels with the model
        facts = {"architecture": f"`{design.name}`", "experts": ", ".join(self.experts) or "none"}
        card = model_card("Agent", (Adas.__doc__ or "").split("\n")[0], facts=facts)
        save(self.model, self.tokenizer, run.output, card=card)
        self._agent(design.architecture).save(run.output)
        stored = Agent.load(run.output, device=str(self.model.device))
        outcome = Outcome([(f, self._levels(f)) for f in self._learnable()], archive, chosen, by_hand)
        self.metrics = report(run, stored, outcome, self.state["gates"], self.state["curves"])
        self.metrics["generations"] = float(self.state["generation"])
