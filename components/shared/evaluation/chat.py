"""The stand-in suite `chat`: short questions in English, asked in the tokenizer's chat template.

The suites of this project are puzzles over letters, which say how well a model follows examples and little of what it
knows. Twenty-four questions that everybody can answer say whether a model that speaks a language still answers at all. They
were written for this project; they measure no skill, and a score is not comparable with any benchmark.

An answer is right where one of the accepted answers stands in its first lines as whole words, in upper or lower case, and
none of the wrong ones stands before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn
from transformers import PreTrainedTokenizerBase

from components.shared.tasks.item import Item
from components.shared.tasks.prompting import has_chat_template, prompt_ids, stop_ids, text_of

from .answers import AnswerFunction, evaluating
from .sampling import sample_answers
from .statistics import wilson

LIMIT = 48
"""Tokens of an answer."""
LINES = 2
"""Lines of an answer that are looked at."""


class Question(NamedTuple):
    """A question, what is accepted as its answer, and what must not stand before that."""

    text: str
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()


QUESTIONS = (
    Question("What is the capital of France?", ("Paris",)),
    Question("What is the capital of Japan?", ("Tokyo",)),
    Question("What is the capital of Italy?", ("Rome",)),
    Question("Which planet do we live on?", ("Earth",), ("Mars", "Venus")),
    Question("What colour is the sky on a clear day?", ("blue",)),
    Question("What colour is fresh grass?", ("green",)),
    Question("How many days are there in a week?", ("7", "seven")),
    Question("How many months are there in a year?", ("12", "twelve")),
    Question("How many legs does a spider have?", ("8", "eight"), ("6", "six", "4", "four")),
    Question("What is 2 + 2?", ("4", "four")),
    Question("What is 10 minus 3?", ("7", "seven")),
    Question("What is the opposite of hot?", ("cold", "cool")),
    Question("What is the opposite of up?", ("down",)),
    Question("Which day comes after Monday?", ("Tuesday",)),
    Question("Which month comes after March?", ("April",)),
    Question("What do we call frozen water?", ("ice",)),
    Question("Which animal says meow?", ("cat", "cats", "kitten")),
    Question("Which animal barks?", ("dog", "dogs", "puppy")),
    Question("At how many degrees Celsius does water boil at sea level?", ("100", "hundred")),
    Question("Who wrote the play Romeo and Juliet?", ("Shakespeare",)),
    Question("What is the largest ocean on Earth?", ("Pacific",), ("Atlantic", "Indian")),
    Question("Which language do most people in Spain speak?", ("Spanish", "Castilian")),
    Question("What gas do we need to breathe in order to live?", ("oxygen",), ("carbon dioxide",)),
    Question("Is the sun a star or a planet?", ("star",), ("planet",)),
)


def items() -> list[Item]:
    """The questions as items; their first accepted answer stands for all."""
    return [Item("chat", 1, "report", question.text, question.right[0]) for question in QUESTIONS]


def is_right(question: Question, answer: str) -> bool:
    """Whether an answer says what is accepted, and nothing wrong before it."""
    lines = [line for line in answer.strip().splitlines() if line.strip()]
    text = "\n".join(lines[:LINES])

    def first(words: Sequence[str]) -> int:
        places = (re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)
        return min((place.start() for place in places if place), default=len(text))

    return first(question.right) < first(question.wrong)


def chat_answers(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The model's greedy answers; a model without a chat template is shown where an answer begins."""
    asked = items()
    if not has_chat_template(tokenizer):
        asked = [item_with(item, f"Question: {item.prompt}\nAnswer:") for item in asked]
    stops = stop_ids(tokenizer, model)
    with evaluating(model):
        ids = sample_answers(model, prompt_ids(asked, tokenizer), stops=stops, limit=LIMIT, temperature=0.0)
    return [text_of(row, tokenizer, stops) for row in ids]


def item_with(item: Item, prompt: str) -> Item:
    """The same item with another prompt."""
    return Item(item.task, item.level, item.split, prompt, item.answer)


def chat_score(agent: nn.Module | AnswerFunction, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Ask an agent or a model all questions.

    :returns: right, n, and score with the ends of Wilson's interval; and what was said to each question.
    """
    answers = chat_answers(agent, tokenizer) if isinstance(agent, nn.Module) else agent(items())
    right = [is_right(question, answer) for question, answer in zip(QUESTIONS, answers, strict=True)]
    rate = sum(right) / len(right)
    low, high = wilson(rate, len(right))
    return {
        "right": sum(right),
        "n": len(right),
        "score": rate,
        "low": low,
        "high": high,
        "answers": [
            {"question": question.text, "answer": answer.strip(), "right": good}
            for question, answer, good in zip(QUESTIONS, answers, right, strict=True)
        ],
    }
