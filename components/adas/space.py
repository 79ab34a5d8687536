"""The space of designs: those made by hand, and small changes to a design."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import INSTRUCTIONS, TOOLS, Architecture, Route
from components.shared.runtime.errors import InputError

THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
SHARES = (0.25, 0.5, 0.75, 1.0)
BRANCHES = (1, 2)


@dataclass(frozen=True)
class Design:
    """A proposal: why, under which name, and the architecture itself."""

    thought: str
    name: str
    architecture: Architecture


@dataclass(frozen=True)
class DesignSpace:
    """What designs can be made of.

    experts  names of the experts; each is that of a class of the dispatcher
    classes  what prompts can be dispatched to
    think    ways of thinking that model and tokenizer know, "no" first
    layers   of the model
    """

    experts: tuple[str, ...]
    classes: tuple[str, ...]
    think: tuple[str, ...]
    layers: int

    def by_hand(self, threshold: float, mixture: Mapping[str, float]) -> list[Design]:
        """The designs that the archive begins with; the first is the default, the model alone.

        :param threshold: below which the dispatched designs fall back to the base, chosen on the search split.
        :param mixture: the few-shot mixture; empty where there is none.
        """
        experts = {name: Route(experts={name: 1.0}) for name in self.experts}
        designs = [
            Design("The model as it is: greedy, no tools.", "model alone", Architecture()),
            Design(
                "Calls that the model makes of itself should be executed.", "tools", Architecture(tools=TOOLS)
            ),
            Design(
                "Told to use its tools, the model may calculate where it would guess.",
                "told to calculate",
                Architecture(tools=TOOLS, default=Route(instruction="tool")),
            ),
        ]
        for mode in self.think[1:]:
            designs.append(
                Design(
                    f"Worked steps may lead where a guess does not: think {mode}.",
                    f"thinking {mode}",
                    Architecture(tools=TOOLS, default=Route(think=mode)),
                )
            )
        if experts:
            designs.append(
                Design(
                    "Each family of questions to its own expert, the rest to the base.",
                    "dispatched experts",
                    Architecture(tools=TOOLS, routes=experts, threshold=threshold),
                )
            )
        if mixture:
            designs.append(
                Design(
                    "One mixture of all experts for every prompt, fitted to a few of them.",
                    "few-shot mixture",
                    Architecture(tools=TOOLS, default=Route(experts=dict(mixture))),
                )
            )
        if self.layers > 2:
            middle = self.layers // 2
            designs.append(
                Design(
                    "A layer less is that much faster, if it is not missed.",
                    f"without layer {middle}",
                    Architecture(tools=TOOLS, default=Route(skip=(middle,))),
                )
            )
        return designs

    def mutate(self, parent: Design, rng: random.Random) -> Design:
        """One change: of a route, or of threshold, tools or the set of routes."""
        whole = parent.architecture
        kind = rng.choices(("route", "drop", "threshold", "tools"), (6, 1, 1, 1))[0]
        if kind == "drop" and whole.routes:
            removed = rng.choice(sorted(whole.routes))
            routes = {name: route for name, route in whole.routes.items() if name != removed}
            return _child(
                parent, f"no route of its own for {removed}", whole.model_copy(update={"routes": routes})
            )
        if kind == "threshold" and whole.routes:
            value = rng.choice([value for value in THRESHOLDS if value != whole.threshold])
            changed = whole.model_copy(update={"threshold": value})
            return _child(parent, f"routes taken from confidence {value} on", changed)
        if kind == "tools":
            tool = rng.choice(TOOLS)
            tools = tuple(other for other in TOOLS if (other in whole.tools) != (other == tool))
            verb = "without" if tool in whole.tools else "with"
            return _child(parent, f"{verb} the tool {tool}", whole.model_copy(update={"tools": tools}))
        slot = rng.choice(("", *self.classes))
        route, what = self.change(whole.routes.get(slot, whole.default), rng)
        where = f"{slot or 'by default'}: {what}"
        if slot:
            return _child(parent, where, whole.model_copy(update={"routes": {**whole.routes, slot: route}}))
        return _child(parent, where, whole.model_copy(update={"default": route}))

    def change(self, route: Route, rng: random.Random) -> tuple[Route, str]:
        """A route with one field changed, and what was changed in words."""
        fields: dict[str, Any] = route.model_dump()
        kind = rng.choices(
            ("experts", "instruction", "think", "branches", "skip"),
            (3 * bool(self.experts), 2, 2 * (len(self.think) > 1), 1, self.layers > 2),
        )[0]
        if kind == "experts":
            name, share = rng.choice(self.experts), rng.choice(SHARES)
            if name in fields["experts"] and rng.random() < 0.5:
                del fields["experts"][name]
                change = f"without the expert {name}"
            else:
                fields["experts"] = {**fields["experts"], name: share}
                change = f"{share} of the expert {name}"
        elif kind == "instruction":
            fields["instruction"] = rng.choice([n for n in INSTRUCTIONS if n != route.instruction])
            change = (
                f"the instruction {fields['instruction']!r}" if fields["instruction"] else "no instruction"
            )
        elif kind == "think":
            fields |= {
                "think": rng.choice([mode for mode in self.think if mode != route.think]),
                "thought_length": 0,
            }
            change = "no thinking" if fields["think"] == "no" else f"thinking {fields['think']}"
        elif kind == "branches":
            fields["branches"] = rng.choice([width for width in BRANCHES if width != route.branches])
            change = f"{fields['branches']} branches" if fields["branches"] > 1 else "greedy"
        else:
            layer = rng.randrange(1, self.layers)
            fields["skip"] = () if layer in route.skip else (layer,)
            change = f"without layer {layer}" if fields["skip"] else "with all layers"
        if fields["think"] == "quietly":
            fields["branches"] = 1  # quiet thoughts are decoded greedily
        return Route.model_validate(fields), change

    def cross(self, first: Design, second: Design, rng: random.Random) -> Design:
        """Every part from one of two parents."""
        a, b = first.architecture, second.architecture
        routes: dict[str, Route] = {}
        for name in sorted({*a.routes, *b.routes}):
            source = rng.choice((a, b))
            if name in source.routes:
                routes[name] = source.routes[name]
        child = Architecture(
            default=rng.choice((a, b)).default,
            routes=routes,
            threshold=rng.choice((a, b)).threshold,
            tools=rng.choice((a, b)).tools,
        )
        thought = f"What is good in `{first.name}` and in `{second.name}` may add up."
        return Design(thought, f"{_origin(first)} × {_origin(second)}", child)

    def at_random(self, rng: random.Random, changes: int = 6) -> Design:
        """A design far from any made by hand: up to `changes` changes to the model alone."""
        design = Design("", "", Architecture())
        for _ in range(rng.randint(1, changes)):
            design = self.mutate(design, rng)
        return Design("Drawn at random.", "random", design.architecture)


def design_space(agent: Agent, layers: int) -> DesignSpace:
    """What an agent's model, experts and dispatcher allow."""
    think = ["no"]
    for mode in ("aloud", "quietly"):
        try:
            agent.check(Route.model_validate({"think": mode}))
        except InputError:
            continue
        think.append(mode)
    classes = tuple(agent.dispatcher.classes) if agent.dispatcher else ()
    return DesignSpace(tuple(sorted(agent.experts)), classes, tuple(think), layers)


def _child(parent: Design, change: str, architecture: Architecture) -> Design:
    return Design(f"`{parent.name}`, but {change}.", f"{_origin(parent)} + {change}", architecture)


def _origin(design: Design) -> str:
    """The hand design that a name begins with: names would grow without end."""
    return design.name.split(" + ")[0].split(" × ")[0]
