"""What designs are worth: their right answers on fixed items. What a model says on a route is worked out only once.

Items go through the model class by class (the dispatcher's), always whole classes: what is said does not depend on which
designs were measured before, so that a search that was killed goes on exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.models.agent import Agent, Expert
from components.shared.models.architecture import Architecture
from components.shared.models.dispatcher import Dispatcher
from components.shared.models.tools import Toolbox
from components.shared.tasks.item import Item


class Bench:
    """Measures architectures around one model on `items`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        items: Sequence[Item],
        *,
        experts: Mapping[str, Expert],
        dispatcher: Dispatcher | None,
        answer_tokens: int,
    ) -> None:
        self.model, self.tokenizer, self.items = model, tokenizer, list(items)
        self.experts, self.dispatcher, self.answer_tokens = experts, dispatcher, answer_tokens
        found = dispatcher.dispatch([item.system + item.prompt for item in items]) if dispatcher else []
        self.classes = [name for name, _ in found] or [""] * len(self.items)
        self.said: dict[tuple[str, str], dict[int, str]] = {}

    def agent(self, architecture: Architecture) -> Agent:
        """The agent of a design. InputError where the design asks for what is not there."""
        return Agent(
            self.model,
            self.tokenizer,
            architecture,
            experts=self.experts,
            dispatcher=self.dispatcher,
            answer_tokens=self.answer_tokens,
        )

    def right(self, architecture: Architecture) -> np.ndarray:
        """(n,) bool: which items the design answers rightly."""
        agent = self.agent(architecture)
        routes = agent.routes(self.items)
        right = np.zeros(len(self.items), dtype=bool)
        for place, (item, route, name) in enumerate(zip(self.items, routes, self.classes, strict=True)):
            key = (route.code, name)
            if key not in self.said:
                places = [other for other, one in enumerate(self.classes) if one == name]
                texts = agent.say([self.items[other] for other in places], route)
                self.said[key] = dict(zip(places, texts, strict=True))
            text = Toolbox(architecture.tools).execute(self.said[key][place], item.prompt)
            right[place] = text == item.answer
        return right
