"""Our suites, and users' files of tasks, as tasks of lm-evaluation-harness: the items of the report split, graded here.

    - task: forge_reasoning
      class: !function components.shared.harness.tasks.SuiteTask
      suite: reasoning          # or arc, or file:/path/tasks.jsonl
      items: 200                # at most
      seed: 0

    score        how right the answers are, by the item's own grader
    score_norm   of items with choices: by log-likelihood a character, the harness' acc_norm

An item with choices is scored by their likelihood, any other by what the model writes up to its end. ARC's puzzles have two
attempts, as everywhere here. `num_fewshot` puts rows of a file's train split in front of its questions, as `forge evaluate
--shots` does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task

from components.shared.evaluation.arc import reflected
from components.shared.evaluation.cells import is_arc
from components.shared.evaluation.choices import chosen
from components.shared.evaluation.suites import suite_items
from components.shared.runtime.config.settings import FILE
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.examples import Form, with_examples
from components.shared.tasks.graders import grade, how_scored, reference
from components.shared.tasks.item import Item

ITEMS = 200
LIMIT = 256
"""Tokens of an answer whose item says nothing."""


class SuiteTask(Task):
    """A suite's items, or those of a file, of the report split.

    :param config: `task`, its name; `suite`, a suite's name or file:PATH; `items` at most, and `seed`.
    """

    VERSION = 1
    OUTPUT_TYPE = "generate_until"

    def __init__(self, config: Mapping[str, Any]) -> None:
        own = dict(config)
        suite, items, seed = own.pop("suite"), int(own.pop("items", ITEMS)), int(own.pop("seed", 0))
        own.pop("class", None)
        self.suite, self.seed = suite, seed
        self.form: Form = "text"
        self.items = suite_items(suite, split="report", items=items, seed=seed)
        metadata = {"version": self.VERSION, "suite": suite, "items": items, "seed": seed}
        super().__init__(config=own | {"metadata": own.get("metadata", {}) | metadata})
        self.set_config("num_fewshot", own.get("num_fewshot"))  # which Task leaves in the name that it keeps

    def download(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the items are drawn here."""

    def has_training_docs(self) -> bool:
        """No: what a model is trained on is no example for it."""
        return False

    def has_validation_docs(self) -> bool:
        """No."""
        return False

    def has_test_docs(self) -> bool:
        """Yes."""
        return True

    def test_docs(self) -> list[dict[str, Any]]:
        """The items, as plain JSON."""
        return [dataclasses.asdict(item) for item in self.items]

    def build_all_requests(self, **options: Any) -> None:
        """All requests; how the questions are asked is known from here on."""
        self.form = _form(options.get("apply_chat_template"))
        super().build_all_requests(**options)

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        """What is asked."""
        return str(doc["system"] + doc["prompt"])

    def doc_to_target(self, doc: dict[str, Any]) -> str:
        """A right answer."""
        return str(doc["answer"])

    def fewshot_context(
        self,
        doc: dict[str, Any],
        num_fewshot: int = 0,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        chat_template: Callable[..., str] | None = None,
        **kwargs: Any,
    ) -> str:
        """What is asked: as it stands, or in the model's chat template, behind examples.

        :raises ConfigError: examples for a suite that has none.
        """
        chats = apply_chat_template and chat_template is not None
        item = self._asked(doc, num_fewshot, _form(chats))
        if not chats or chat_template is None:
            return (system_instruction or "") + self.doc_to_text(dataclasses.asdict(item))
        turns = item.messages or ((("system", item.system),) if item.system else ()) + (
            ("user", item.prompt),
        )
        if system_instruction:
            turns = (("system", system_instruction), *(turn for turn in turns if turn[0] != "system"))
        return chat_template([{"role": role, "content": content} for role, content in turns])

    def _asked(self, doc: Mapping[str, Any], shots: int, form: Form) -> Item:
        """The item, behind examples where some are wanted."""
        item = item_of(doc)
        if not shots:
            return item
        if not self.suite.startswith(FILE):
            raise ConfigError(
                "only a file of questions has examples", where=f"num_fewshot {shots}",
                why=f"the suite is {self.suite}", fix="leave num_fewshot out, or ask file:PATH",
            )  # fmt: skip
        return with_examples([item], shots, form=form, seed=self.seed)[0]

    def construct_requests(self, doc: dict[str, Any], ctx: str, **kwargs: Any) -> list[Instance]:
        """One request an item, or one a choice; of a puzzle of ARC one an attempt."""
        item = self._asked(doc, self.config.num_fewshot or 0, _form(kwargs.get("apply_chat_template")))
        known = {name: kwargs[name] for name in ("metadata",) if name in kwargs}
        if by_likelihood(item):
            return [
                Instance(request_type="loglikelihood", doc=doc, arguments=(ctx, choice), idx=index, **known)
                for index, choice in enumerate(item.choices)
            ]
        options = {"until": list(reference(item).get("until", ())), "max_gen_toks": limit_of(item)}
        contexts = [ctx]
        if is_arc(self.suite):
            contexts.append(ctx.replace(item.prompt, reflected(item).prompt))
        return [
            Instance(request_type="generate_until", doc=doc, arguments=(text, options), idx=index, **known)
            for index, text in enumerate(contexts)
        ]

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, float]:
        """How right the answer is; of a puzzle's two attempts the better one counts."""
        item = self._asked(doc, self.config.num_fewshot or 0, self.form)
        if is_arc(self.suite):
            return {"score": max(map(grade, (item, reflected(item)), results))}
        if not by_likelihood(item):
            return {"score": grade(item, results[0])}
        found = chosen([item], np.array([log for log, _ in results]))
        return {"score": float(found.as_items_say([item])[0]), "score_norm": float(found.acc_norm[0])}

    def aggregation(self) -> dict[str, Callable[..., float]]:
        """Means over items."""
        return {"score": mean, "score_norm": mean}

    def higher_is_better(self) -> dict[str, bool]:
        """Both."""
        return {"score": True, "score_norm": True}


def _form(chats: bool | None) -> Form:
    return "turns" if chats else "text"


def by_likelihood(item: Item) -> bool:
    """Whether the likeliest of the choices is the answer: what the item's grader says."""
    return how_scored(item) == "choice"


def limit_of(item: Item) -> int:
    """Tokens that an answer may have. What is compared as it stands is wrong, where it is longer than the answer."""
    exact = how_scored(item) == "forced"
    return item.limit or (len(item.answer.encode()) + 1 if exact else LIMIT)


def item_of(doc: Mapping[str, Any]) -> Item:
    """The item that a document is."""
    tuples = {"choices": tuple(doc["choices"]), "messages": tuple(tuple(turn) for turn in doc["messages"])}
    return Item(**{**doc, **tuples})
