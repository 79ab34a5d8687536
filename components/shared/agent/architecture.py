"""What an agent is around its model: a typed architecture, plain JSON, never code.

A prompt is dispatched to a class of questions, or, where the dispatcher is unsure, to none. Each class may have a route of
its own; all others take the default. A route says how the model answers: with which experts (Transformer², arXiv
2501.06252), told what, thinking how, decoded how, with which layers left out. Calls in what the model says are executed
by the tools that the architecture allows.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.shared.tasks.generators.behaviours import FAMILIES

TOOLS = ("calculator", "memory", "store", "context")
INSTRUCTIONS = {"": "", **{name: family.system for name, family in FAMILIES.items()}}
"""Name → what stands in front of a prompt that has no instruction of its own."""

Tool = Literal["calculator", "memory", "store", "context"]
Instruction = Literal["", "tool", "memory", "retrieval", "persona"]


class StrictModel(BaseModel):
    """Unknown keys, wrong types and values out of range are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @property
    def canonical_json(self) -> str:
        """JSON that is equal for equal values."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


class Route(StrictModel):
    """How the model answers the prompts of one class. The defaults are the base model, decoded greedily."""

    experts: dict[str, float] = Field(
        default_factory=dict, description="expert → α; the base has what is left of 1"
    )
    instruction: Instruction = Field("", description="the behaviour whose instruction is put in front")
    think: Literal["no", "aloud", "quietly"] = Field(
        "no",
        description="aloud: worked steps between <think> and </think> before the answer; quietly: Quiet-STaR's thoughts",
    )
    thought_length: int = Field(
        0, ge=0, le=256, description="tokens of a thought at most; 0: quietly as trained, aloud 48"
    )
    branches: int = Field(
        1, ge=1, le=8, description="first tokens that are followed up; the likeliest whole answer counts"
    )
    skip: tuple[int, ...] = Field((), description="layers left out; never the first, which counts positions")

    @model_validator(mode="after")
    def _consistent(self) -> Route:
        if any(layer < 1 for layer in self.skip) or len(set(self.skip)) != len(self.skip):
            raise ValueError(f"skip names different layers from 1 on, not {list(self.skip)}")
        if self.think == "quietly" and self.branches > 1:
            raise ValueError("quiet thoughts are decoded greedily: branches must be 1")
        if self.think == "no" and self.thought_length:
            raise ValueError("thought_length is given, but this route does not think")
        return self


class Architecture(StrictModel):
    """An agent, but for its weights."""

    default: Route = Field(default_factory=Route)
    routes: dict[str, Route] = Field(
        default_factory=dict, description="class of the dispatcher → how its prompts are answered"
    )
    threshold: float = Field(0.5, ge=0, le=1, description="confidence below which the default answers")
    tools: tuple[Tool, ...] = Field((), description="what calls may be executed by")

    @model_validator(mode="after")
    def _each_tool_once(self) -> Architecture:
        if list(self.tools) != [tool for tool in TOOLS if tool in self.tools]:
            raise ValueError(f"tools stand once each, in the order of {', '.join(TOOLS)}")
        return self

    @property
    def all_routes(self) -> tuple[Route, ...]:
        """The default and all routes."""
        return (self.default, *self.routes.values())
