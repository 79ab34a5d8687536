"""What designs are worth: their right answers on fixed items. What a model says on a route is worked out only once.

Items go through the model class by class (the dispatcher's), always whole classes: what is said does not depend on which
designs were measured before, so that a search that was killed goes on exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import TOOLS, Architecture
from components.shared.agent.dispatcher import Dispatcher
from components.shared.agent.tools import Toolbox
from components.shared.tasks.graders import grade
from components.shared.tasks.item import Item

EQUIPPED = Architecture(tools=TOOLS)
"""The model alone, with all tools: how the base and its experts are judged."""


def right_answers(items: Sequence[Item], texts: Sequence[str]) -> np.ndarray:
    """Which of the texts are right: the answer, or a call that yields it.

    :param texts: one for each item.
    :returns: (n,) bool.
    """
    return np.array(
        [
            grade(item, Toolbox(TOOLS).execute(text, item.prompt)) >= 1
            for item, text in zip(items, texts, strict=True)
        ],
        dtype=bool,
    )


class Bench:
    """Measures designs on `items`."""

    def __init__(
        self,
        agent: Callable[[Architecture], Agent],
        items: Sequence[Item],
        dispatcher: Dispatcher | None = None,
    ) -> None:
        """Bind the bench to its items.

        :param agent: the agent of a design; may raise where the design asks for what is not there.
        :param dispatcher: the one that all these agents have.
        """
        self.agent, self.items = agent, list(items)
        dispatched = dispatcher.dispatch([item.system + item.prompt for item in items]) if dispatcher else []
        self.classes = [name for name, _ in dispatched] or [""] * len(self.items)
        self.texts: dict[tuple[str, str], dict[int, str]] = {}

    def right(self, architecture: Architecture) -> np.ndarray:
        """(n,) bool: which items the design answers rightly."""
        agent = self.agent(architecture)
        routes = agent.routes(self.items)
        right = np.zeros(len(self.items), dtype=bool)
        for index, (item, route, name) in enumerate(zip(self.items, routes, self.classes, strict=True)):
            key = (route.canonical_json, name)
            if key not in self.texts:
                of_class = [other for other, other_name in enumerate(self.classes) if other_name == name]
                texts = agent.generate([self.items[other] for other in of_class], route)
                self.texts[key] = dict(zip(of_class, texts, strict=True))
            text = Toolbox(architecture.tools).execute(self.texts[key][index], item.prompt)
            right[index] = grade(item, text) >= 1
        return right
