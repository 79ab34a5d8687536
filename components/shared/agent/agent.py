"""The agent: a model, and around it an architecture, experts, a dispatcher and tools.

An artifact with agent.json holds, beside the base model that plain transformers loads,
    agent.json               the architecture (architecture.py)
    experts.safetensors      expert vectors (expert_file.py); where there are experts
    dispatcher.safetensors   `weight`, `bias`; where there are routes. Its classes stand in agent.json

    agent = Agent.load(path)
    agent.answers(["47+3=", "sort dax="])   → ["0", "adx"]
    evaluate(agent.answers, agent.tokenizer, …)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from pydantic import ConfigDict, ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.evaluation.branching import branch
from components.shared.evaluation.sampling import sample_answers
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.layers import decoder_layers, skipping
from components.shared.models.loading import load
from components.shared.models.remote_code.experts import set_expert
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.tasks.item import Item
from components.shared.tasks.prompting import prompt_ids, stop_ids, text_of, thought_ids, thought_words

from .architecture import INSTRUCTIONS, Architecture, Route, StrictModel
from .dispatcher import Dispatcher
from .expert_file import Expert, pack_experts, unpack_experts
from .tools import Toolbox

AGENT, EXPERTS, DISPATCHER = "agent.json", "experts.safetensors", "dispatcher.safetensors"
ALOUD_TOKENS = 48
"""Tokens of worked steps, where a route does not say."""


class AgentFile(StrictModel):
    """What agent.json holds."""

    model_config = ConfigDict(title="agent.json")

    format: Literal[1] = 1
    architecture: Architecture
    classes: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    answer_tokens: int = 24


class Agent:
    """Answers prompts as its architecture says.

    :param experts: name → z of each matrix that it changes.
    :param answer_tokens: of an answer at most, thoughts not counted.
    :raises InputError: the architecture asks for what model, experts or dispatcher do not have.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        architecture: Architecture,
        *,
        experts: Mapping[str, Expert] | None = None,
        dispatcher: Dispatcher | None = None,
        answer_tokens: int = 24,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.architecture, self.dispatcher = architecture, dispatcher
        self.experts = {
            name: {_module_path(model, path): z for path, z in expert.items()}
            for name, expert in (experts or {}).items()
        }
        self.answer_tokens = answer_tokens
        for route in architecture.all_routes:
            self.check(route)
        missing = set(architecture.routes) - set(dispatcher.classes if dispatcher else ())
        if missing:
            raise InputError(
                f"there are routes for {', '.join(sorted(missing))}, which the dispatcher does not know",
                where=AGENT,
            )

    @classmethod
    def load(cls, path: Path | str, *, device: str = "cpu") -> Agent:
        """The agent of an artifact.

        :param device: of the model.
        :raises ArtifactError: no agent.json, or one that is not as it should be.
        """
        folder = Path(path)
        if not (folder / AGENT).is_file():
            raise ArtifactError(
                "this model has no agent around it",
                where=str(folder),
                why=f"it holds no {AGENT}",
                fix="load it with components.shared.models.loading, or give an artifact with agent.json",
            )
        try:
            file = AgentFile.model_validate_json((folder / AGENT).read_bytes())
        except ValidationError as error:
            why = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ArtifactError(
                "the agent's file is damaged",
                where=str(folder / AGENT),
                why=why,
                fix="fetch the artifact again",
            ) from None
        model, tokenizer = load(folder, device=device)
        experts = unpack_experts(load_file(folder / EXPERTS), file.experts) if file.experts else {}
        dispatcher = None
        if file.classes:
            tensors = load_file(folder / DISPATCHER)
            dispatcher = Dispatcher(file.classes, tensors["weight"], tensors["bias"])
        return cls(
            model,
            tokenizer,
            file.architecture,
            experts=experts,
            dispatcher=dispatcher,
            answer_tokens=file.answer_tokens,
        )

    def save(self, path: Path) -> None:
        """Write the agent's own files into the folder of its model."""
        classes = self.dispatcher.classes if self.dispatcher else ()
        file = AgentFile(
            architecture=self.architecture,
            classes=classes,
            experts=tuple(sorted(self.experts)),
            answer_tokens=self.answer_tokens,
        )
        (path / AGENT).write_text(json.dumps(file.model_dump(mode="json"), sort_keys=True, indent=1) + "\n")
        parts = {EXPERTS: pack_experts([self.experts[name] for name in file.experts])}
        if self.dispatcher:
            parts[DISPATCHER] = {"weight": self.dispatcher.weight, "bias": self.dispatcher.bias}
        for name, tensors in parts.items():
            if tensors:
                save_file(tensors, path / name, metadata={"format": "pt"})
                (path / name).chmod(0o644)

    def answers(self, items: Sequence[Item | str], toolbox: Toolbox | None = None) -> list[str]:
        """One answer a prompt, calls executed, in the order of the prompts.

        :param toolbox: the tools of a session that is under way: what a prompt saves, later ones can load. Left
            out: every prompt has tools of its own, so that none depends on another.
        """
        questions = [Item("", 1, "report", item, "") if isinstance(item, str) else item for item in items]
        same_route: dict[str, list[int]] = {}
        routes = self.routes(questions)
        for index, route in enumerate(routes):
            same_route.setdefault(route.canonical_json, []).append(index)
        texts = [""] * len(questions)
        for group in same_route.values():
            answers = self.generate([questions[index] for index in group], routes[group[0]])
            for index, text in zip(group, answers, strict=True):
                texts[index] = text
        return [
            (toolbox or Toolbox(self.architecture.tools)).execute(text, item.prompt)
            for text, item in zip(texts, questions, strict=True)
        ]

    def routes(self, items: Sequence[Item]) -> list[Route]:
        """The route of each prompt."""
        architecture = self.architecture
        if not architecture.routes or self.dispatcher is None:
            return [architecture.default] * len(items)
        return [
            architecture.routes.get(name, architecture.default)
            if probability >= architecture.threshold
            else architecture.default
            for name, probability in self.dispatcher.dispatch([item.system + item.prompt for item in items])
        ]

    def generate(self, items: Sequence[Item], route: Route) -> list[str]:
        """What the model writes after prompts on a route: calls stand there as calls.

        :raises InputError: model, experts or tokenizer cannot take the route.
        """
        instruction = INSTRUCTIONS[route.instruction]
        instructed = [dataclasses.replace(item, system=item.system or instruction) for item in items]
        self.check(route)
        with self.with_experts(route), skipping(self.model, route.skip):
            if route.think == "quietly":
                length = route.thought_length or None
                return answers_with_thoughts(
                    self.model, self.tokenizer, instructed, limit=self.answer_tokens, length=length
                )
            aloud, limit = route.think == "aloud", self.answer_tokens
            prompts = prompt_ids(instructed, self.tokenizer, thinking=aloud)
            if aloud:
                limit += route.thought_length or ALOUD_TOKENS
            stops = stop_ids(self.tokenizer, self.model)
            if route.branches == 1:
                ids = sample_answers(self.model, prompts, stops=stops, limit=limit, temperature=0.0)
            else:
                ids = branch(self.model, prompts, stops=stops, limit=limit, width=route.branches)
        return [self._text(row, aloud=route.think == "aloud") for row in ids]

    @contextmanager
    def with_experts(self, route: Route) -> Iterator[None]:
        """Inside the block the model is the route's mixture of experts: z = 1 + Σ α_k (z_k − 1)."""
        mixed: dict[str, Tensor] = {}
        for name, share in route.experts.items():
            for path, z in self.experts[name].items():
                mixed[path] = mixed.get(path, torch.ones_like(z, dtype=torch.float32)) + share * (
                    z.float() - 1
                )
        set_expert(self.model, mixed)
        try:
            yield
        finally:
            set_expert(self.model, None)

    def _text(self, ids: list[int], *, aloud: bool) -> str:
        """An answer's text, without what ends it and, thought aloud, without the thought; none where that never ended."""
        if aloud and (words := thought_ids(self.tokenizer)) is not None:
            ids = ids[ids.index(words[1]) + 1 :] if words[1] in ids else []
        return text_of(ids, self.tokenizer, stop_ids(self.tokenizer, self.model))

    def check(self, route: Route) -> None:
        """Refuse a route that this model, these experts or this tokenizer cannot take.

        :raises InputError: naming what is missing.
        """
        unknown = set(route.experts) - set(self.experts)
        if unknown:
            known = ", ".join(sorted(self.experts)) or "none"
            raise InputError(
                f"there is no expert {', '.join(sorted(unknown))}", where=AGENT, fix=f"use: {known}"
            )
        if route.think == "quietly" and not getattr(self.model.config, "thoughts", None):
            raise InputError("this model was not taught to think quietly", where=AGENT, fix="think aloud")
        if route.think == "aloud" and thought_ids(self.tokenizer) is None:
            raise InputError(
                "this model cannot think aloud",
                where=AGENT,
                why=f"its tokenizer has no {thought_words(self.tokenizer).start}",
            )
        if any(layer >= len(decoder_layers(self.model)) for layer in route.skip):
            raise InputError(f"there are no layers {list(route.skip)} to leave out", where=AGENT)


def _module_path(model: PreTrainedModel, path: str) -> str:
    """A module's path; a compression may have wrapped the model since."""
    paths = dict(model.named_modules())
    for candidate in (path, f"inner.{path}"):
        if candidate in paths:
            return candidate
    raise InputError(f"an expert changes {path}, which the model does not have", where=EXPERTS)
