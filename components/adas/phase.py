"""Phase 7: experts out of the model's own singular values, and a search for the agent to build around them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from components.shared.evaluation.answers import correct
from components.shared.evaluation.suites import SUITES, evaluate, suite_items
from components.shared.models.agent import Agent, Expert
from components.shared.models.architecture import TOOLS, Architecture, Route
from components.shared.models.card import model_card
from components.shared.models.dispatcher import Dispatcher, fit
from components.shared.models.layers import decoder_layers
from components.shared.models.loading import load, save
from components.shared.models.tools import Toolbox
from components.shared.runtime.checkpoint import Snapshot
from components.shared.runtime.errors import InputError
from components.shared.runtime.phase import Phase
from components.shared.tasks.batches import check_mixture
from components.shared.tasks.item import Item, Split
from components.shared.tasks.registry import sample

from . import findings, search
from .bench import Bench
from .cem import cross_entropy_method
from .families import OTHER, gate, held_out, questions
from .search import Entry
from .settings import Family, Settings
from .space import THRESHOLDS, space_of
from .svf import Vectors, finished, matrices, reinforce, rule_of, update

EQUIPPED = Architecture(tools=TOOLS)
"""The model alone, with all tools: how experts are judged."""


class Adas(Phase):
    """Trains SVF experts, fits their dispatcher, and evolves the architecture of the agent.

    Searched on the search split, chosen on the select split, reported once on the report split. The model itself is
    published unchanged.
    """

    name = "adas"
    Settings = Settings

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

    def execute(self) -> None:
        """The story: gate the families, train their experts, fit the dispatcher, search, choose, publish, measure."""
        self._begin()
        if not self.state["gates"]:
            self._gate()
        for number, family in enumerate(self._learnable()):
            if number >= self.state["family"]:
                self._train(number, family)
        self.experts: dict[str, Expert] = {
            family.name: finished(self._vectors(family)) for family in self._learnable()
        }
        self.dispatcher = self._fit_dispatcher()
        archive = self._search()
        self._publish(self._choose(archive), archive)

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

    def _right(self, items: Sequence[Item], said: Sequence[str]) -> Tensor:
        """(n,) bool: whether what was said is the answer, or a call that yields it."""
        return torch.tensor(
            [
                Toolbox(TOOLS).execute(text, item.prompt) == item.answer
                for item, text in zip(items, said, strict=True)
            ]
        )

    def _success(self, items: Sequence[Item], route: Route | None = None, experts: Any = None) -> np.ndarray:
        """(n,) bool: what the model gets right greedily, with its tools."""
        agent = Agent(
            self.model,
            self.tokenizer,
            EQUIPPED,
            experts=experts,
            answer_tokens=self.run.settings.answer_tokens,
        )
        return self._right(items, agent.say(items, route or Route())).numpy()

    def _gate(self) -> None:
        """Which families can be learnt, and at which level. A skipped one is said aloud."""
        run, svf = self.run, self.run.settings.svf
        run.progress.start("gate", len(run.settings.families))
        for family in run.settings.families:
            found = gate(
                family, self._success, low=svf.low, high=svf.high, count=svf.gate_items, seed=run.seed
            )
            rates = {str(level): rate for level, rate in found.levels.items()}
            self.state["gates"][family.name] = {"levels": rates, "level": found.level}
            run.progress.step()
            if found.level is None:
                said = ", ".join(f"{rate:.2f} at level {level}" for level, rate in rates.items())
                run.progress.note(
                    f"no expert for {family.name}: the base succeeds {said}, not {svf.low} to {svf.high}"
                )
        run.progress.done()
        self._save(0)

    def _learnable(self) -> list[Family]:
        gates = self.state["gates"]
        return [family for family in self.run.settings.families if gates[family.name]["level"] is not None]

    def _train(self, number: int, family: Family) -> None:
        """One expert, by REINFORCE on the training split."""
        run, settings, svf = self.run, self.run.settings, self.run.settings.svf
        vectors, level = self._vectors(family), self.state["gates"][family.name]["level"]
        rule = self.rules["rule"] if self.state["within"] else self._rule(family)
        curve = self.state["curves"].setdefault(family.name, [])
        run.progress.start(f"expert {family.name}", svf.steps)
        run.progress.step(self.state["within"])
        for step in range(self.state["within"], svf.steps):
            loss, seen = reinforce(
                self.model,
                self.tokenizer,
                vectors,
                questions(family, level, step, svf.questions, run.seed),
                self._right,
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
        items = [self._questions_of_class(name, "train") for name in self._class_names()]
        texts = [item.system + item.prompt for group in items for item in group]
        labels = [name for name, group in zip(self._class_names(), items, strict=True) for _ in group]
        return fit(texts, labels)

    def _class_names(self) -> list[str]:
        return [*(family.name for family in self.run.settings.families), OTHER]

    def _questions_of_class(self, name: str, split: Split) -> list[Item]:
        """`dispatch_items` questions of a class, over its tasks and levels in turn."""
        settings = self.run.settings
        families = {family.name: family for family in settings.families}
        tasks = families[name].tasks if name in families else settings.other_tasks
        levels = (
            families[name].levels
            if name in families
            else sorted({level for family in settings.families for level in family.levels})
        )
        return [
            sample(
                tasks[index % len(tasks)],
                split,
                levels[index // len(tasks) % len(levels)],
                index,
                self.run.seed,
            )
            for index in range(settings.dispatch_items)
        ]

    def _bench(self, split: Split, items: int) -> Bench:
        """A bench of `items` items of each suite."""
        drawn = [
            item
            for suite in SUITES
            for item in suite_items(suite, split=split, items=items, seed=self.run.seed)
        ]
        return self._bench_on(drawn)

    def _bench_on(self, items: Sequence[Item]) -> Bench:
        return Bench(
            self.model,
            self.tokenizer,
            items,
            experts=self.experts,
            dispatcher=self.dispatcher,
            answer_tokens=self.run.settings.answer_tokens,
        )

    def _search(self) -> list[Entry]:
        """Generation 0 by hand, then evolution until the plateau; saved after every generation."""
        run, settings = self.run, self.run.settings.search
        bench = self._bench("search", settings.items)
        space = space_of(bench.agent(EQUIPPED), len(decoder_layers(self.model)))
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

    def _publish(self, chosen: tuple[int, int], archive: list[Entry]) -> None:
        """Write the model and the agent around it, load both again, and measure that."""
        run = self.run
        champion = archive[chosen[0]]
        if hasattr(self.model.config, "experts") and self.experts:
            self.model.config.experts = {"names": sorted(self.experts)}
        facts = {"architecture": f"`{champion.name}`", "experts": ", ".join(self.experts) or "none"}
        card = model_card("Agent", (Adas.__doc__ or "").split("\n")[0], facts=facts)
        save(self.model.cpu(), self.tokenizer, run.output, card=card)
        agent = Agent(
            self.model,
            self.tokenizer,
            champion.design.architecture,
            experts=self.experts,
            dispatcher=self.dispatcher,
            answer_tokens=run.settings.answer_tokens,
        )
        agent.save(run.output)
        self._report(chosen, archive)

    def _report(self, chosen: tuple[int, int], archive: list[Entry]) -> None:
        """The report split, once: scores of the agent as it was stored, and every claim with its control."""
        run, evaluation = self.run, self.run.config.evaluation
        stored = Agent.load(run.output, device=str(self.model.device))
        items = [
            item
            for suite in SUITES
            for item in suite_items(suite, split="report", items=evaluation.items, seed=run.seed)
        ]
        answers = remembered(stored.answers)
        scores = evaluate(
            answers,
            stored.tokenizer,
            split="report",
            items=evaluation.items,
            seed=run.seed,
            batch=evaluation.batch,
        )
        run.scores = {suite: score.as_dict() for suite, score in scores.items()}
        ours = correct(answers, stored.tokenizer, items)
        default = correct(stored.model, stored.tokenizer, items, batch=evaluation.batch)
        bench = self._bench_on(items)
        hand = archive[chosen[1]]
        by_hand = ours if chosen[0] == chosen[1] else bench.right(hand.design.architecture)
        for place, right in ((chosen[0], ours), (chosen[1], by_hand), (0, default)):
            archive[place].test_fitness = float(right.mean())
        unit = "accuracy, all suites, report split"
        name = archive[chosen[0]].name
        controls = [
            findings.control(
                "the searched agent answers better than the model alone",
                name,
                ours,
                "the model alone, greedy, no tools",
                default,
                unit=unit,
                seed=run.seed,
            ),
            findings.control(
                "search finds what no hand design has",
                name,
                ours,
                hand.name,
                by_hand,
                unit=unit,
                seed=run.seed,
            ),
        ]
        controls += [self._control_of_expert(family) for family in self._learnable()]
        controls.append(self._control_of_dispatcher())
        run.extra["controls"] = controls
        run.extra["curves"] = {
            **{f"expert: {n}": findings.expert_curve(points) for n, points in self.state["curves"].items()},
            "architecture search": findings.search_curve(search.as_json(archive)),
        }
        run.extra["gates"] = self.state["gates"]
        run.extra["archive"] = search.as_json(archive)
        run.extra["chosen"] = {"place": chosen[0], "best_by_hand": chosen[1]}
        run.extra["samples"] = [
            {"prompt": item.system + item.prompt, "answer": said, "expected": item.answer, "note": item.task}
            for item, said in zip(
                items[:: max(1, len(items) // 6)], answers(items[:: max(1, len(items) // 6)]), strict=True
            )
        ]
        self.metrics = {
            "fitness": float(archive[chosen[0]].fitness or 0.0),
            "select": float(archive[chosen[0]].select or 0.0),
            "report": float(ours.mean()),
            "report_default": float(default.mean()),
            "report_by_hand": float(by_hand.mean()),
            "experts": float(len(self.experts)),
            "designs": float(len(archive)),
            "generations": float(self.state["generation"]),
            "dispatcher_accuracy": controls[-1]["value"],
        }
        for family, found in zip(self._learnable(), controls[2:-1], strict=True):
            self.metrics |= {
                f"{family.name}_expert": found["value"],
                f"{family.name}_base": found["control_value"],
            }

    def _control_of_expert(self, family: Family) -> dict[str, Any]:
        """An expert against the base on its family, both with tools."""
        level = self.state["gates"][family.name]["level"]
        items = held_out(family, "report", level, self.run.config.evaluation.items, self.run.seed)
        expert = self._success(items, Route(experts={family.name: 1.0}), self.experts)
        return findings.control(
            f"the expert is better at {family.name} than the base",
            f"expert {family.name}",
            expert,
            "base",
            self._success(items),
            unit=f"accuracy, {family.name} at level {level}, report split",
            seed=self.run.seed,
        )

    def _control_of_dispatcher(self) -> dict[str, Any]:
        """Right classes against always the same one, in equal numbers of each."""
        hits: list[bool] = []
        for name in self._class_names():
            items = self._questions_of_class(name, "report")
            said = self.dispatcher.dispatch([item.system + item.prompt for item in items])
            hits += [found == name for found, _ in said]
        count = len(self._class_names())
        majority = np.arange(len(hits)) < len(hits) // count
        return findings.control(
            "the dispatcher tells the families apart",
            "dispatcher",
            np.array(hits),
            "one class for all",
            majority,
            unit="accuracy, report split",
            seed=self.run.seed,
        )


def remembered(answers: Callable[[Sequence[Item]], list[str]]) -> Callable[[Sequence[Item]], list[str]]:
    """The same agent, which works out every prompt once: suites ask some of them twice."""
    known: dict[str, str] = {}

    def ask(items: Sequence[Item]) -> list[str]:
        new = {item.system + item.prompt: item for item in items if item.system + item.prompt not in known}
        known.update(zip(new, answers(list(new.values())), strict=True))
        return [known[item.system + item.prompt] for item in items]

    return ask
