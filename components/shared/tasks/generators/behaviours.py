"""Four behaviours that an instruction calls forth, to be baked into weights so that they need no instruction.

tool        sums are not worked out but handed to a tool:           `tool: calc 47+3=` → `<add 47 3>`
memory      what is to be noted is stored, what is asked is loaded: `note: keep k07=` → `<save k 07>`
retrieval   what the context lacks is searched, and nothing else:   `find: aBX kQM? d` → `<find d>`, but `… k` → `QM`
persona     words are said like a pirate:                           `arr: say dax=` → `dax arr`

Of each question there are three forms: prompted (with the instruction; the behaviour is right), plain (without; the
ordinary answer is right) and baked (without; the behaviour is right: what baking aims at). Irrelevant questions have
the ordinary answer with and without the instruction. What is baked contradicts no other task: `calc 47+3=` becomes a
call and `47+3=` stays a sum, so that baking need not cost what was known.
"""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..item import LETTERS, Draft, Task
from . import arithmetic, recall, strings

Generator = Callable[[random.Random, int], Draft]


class Call(NamedTuple):
    """A call as a syntax tree: numbers as integers, so that `07` is `7`."""

    name: str
    arguments: tuple[Call | int | str, ...]


@dataclass(frozen=True)
class Family:
    """One behaviour.

    :param system: the instruction.
    :param relevant: generates a question that the instruction is about, with its ordinary answer.
    :param respond: the behaviour's answer to such a question, from its draft.
    :param irrelevant: generate questions that the instruction must leave alone.
    :param sign: what only answers that show the behaviour hold.
    """

    name: str
    system: str
    relevant: Generator
    respond: Callable[[Draft], str]
    irrelevant: tuple[Generator, ...]
    sign: str = "<"

    def forms(self, draft: Draft) -> dict[str, Draft]:
        """A relevant question's three forms: prompted, plain, baked. Scratch is dropped: behaviours answer at once."""
        plain = dataclasses.replace(draft, scratch="")
        baked = dataclasses.replace(plain, answer=self.respond(draft))
        return {"prompted": dataclasses.replace(baked, system=self.system), "plain": plain, "baked": baked}

    def exhibits(self, answer: str, expected: str) -> bool:
        """Whether an answer is the behaviour's: calls by their syntax trees, everything else letter by letter."""
        tree = parse(expected)
        return answer == expected if tree is None else parse(answer) == tree

    def shows(self, answer: str) -> bool:
        """Whether an answer shows the behaviour at all, rightly or not: a call that does not parse is still a call."""
        return self.sign in answer

    def generate(self, rng: random.Random, level: int) -> Draft:
        """For training: half prompted, a quarter plain, a quarter irrelevant under the instruction."""
        kind = rng.random()
        if kind < 0.25:
            draft = rng.choice(self.irrelevant)(rng, level)
            return dataclasses.replace(draft, system=self.system, scratch="")
        return self.forms(self.relevant(rng, level))["plain" if kind < 0.5 else "prompted"]


def parse(text: str) -> Call | None:
    """The call that a whole text is, such as `<sub <add 47 3> 2>`; None for anything else."""
    tokens = re.findall(r"[<>]|[^<>\s]+", text)

    def read(position: int) -> tuple[Call | int | str | None, int]:
        if position >= len(tokens) or tokens[position] == ">":
            return None, position
        if tokens[position] != "<":
            word = tokens[position]
            return (int(word) if word.isdecimal() else word), position + 1
        parts, position = [], position + 1
        while position < len(tokens) and tokens[position] != ">":
            part, position = read(position)
            if part is None:
                return None, position
            parts.append(part)
        if position == len(tokens) or not parts or not isinstance(parts[0], str):
            return None, position
        return Call(parts[0], tuple(parts[1:])), position + 1

    tree, end = read(0)
    return tree if isinstance(tree, Call) and end == len(tokens) else None


OPERATIONS = {"+": "add", "-": "sub", "*": "mul"}


def calculation(rng: random.Random, level: int) -> Draft:
    """`calc 47+3=` → `0`: a short chain, one operation more every second level, that asks for a calculation.

    Every prompt is a class of its own: the call names its numbers.
    """
    chain = arithmetic.chain_of(rng, level, (level + 1) // 2)
    return Draft(f"calc {chain.prompt}", chain.answer)


def call_of_sum(draft: Draft) -> str:
    """`calc 47+3-2=` as nested calls, from left to right."""
    first, *rest = re.split(r"([+*-])", draft.prompt.removeprefix("calc ").removesuffix("="))
    call = first
    for operation, operand in zip(rest[::2], rest[1::2], strict=True):
        call = f"<{OPERATIONS[operation]} {call} {operand}>"
    return call


def note(rng: random.Random, level: int) -> Draft:
    """`keep k07` → `ok`, or `load k07` → `?`; level n stands behind n − 1 words of chatter, which make no class."""
    chatter = "".join("".join(rng.sample(LETTERS, 3)) + " " for _ in range(level - 1))
    key, value = rng.choice(LETTERS), rng.randint(0, 99)
    verb, answer = ("load", "?") if rng.random() < 0.5 else ("keep", "ok")
    question = f"{verb} {key}{value:02}="
    return Draft(f"{chatter}{question}", answer, family=question)


def call_of_note(draft: Draft) -> str:
    """`<save k 42>` or `<load k 42>`."""
    verb, pair = draft.prompt.removesuffix("=").split(" ")[-2:]
    return f"<{'save' if verb == 'keep' else 'load'} {pair[0]} {pair[1:]}>"


def lookup(rng: random.Random, level: int) -> Draft:
    """A recall question whose key is missing in one half of the cases; its ordinary answer is then `?`."""
    draft = recall.recall(rng, level)
    if rng.random() < 0.5:
        return draft
    facts, _ = draft.prompt.split("? ")
    missing = rng.choice([letter for letter in LETTERS if letter not in facts])
    return Draft(f"{facts}? {missing}", "?", family=f"recall {' '.join(sorted(facts.split()))}? {missing}")


def call_of_lookup(draft: Draft) -> str:
    """`<find k>` where the context has no k, the value otherwise."""
    return f"<find {draft.prompt[-1]}>" if draft.answer == "?" else draft.answer


def saying(rng: random.Random, level: int) -> Draft:
    """`say dax=` → `dax`, in the split of `copy dax=`."""
    copy = strings.copy(rng, level)
    return Draft(f"say {copy.answer}=", copy.answer, family=copy.prompt)


def words(rng: random.Random, level: int) -> Draft:
    """A question whose answer is a word."""
    return rng.choice((strings.copy, strings.reverse, strings.successor, strings.sort))(rng, level)


FAMILIES = {
    family.name: family
    for family in (
        Family("tool", "tool: ", calculation, call_of_sum, (arithmetic.chain, words, recall.recall)),
        Family("memory", "note: ", note, call_of_note, (words, arithmetic.maximum)),
        Family("retrieval", "find: ", lookup, call_of_lookup, (words, arithmetic.maximum)),
        Family(
            "persona",
            "arr: ",
            saying,
            lambda draft: f"{draft.answer} arr",
            (words, recall.recall, arithmetic.maximum),
            sign=" arr",
        ),
    )
}
TASKS = tuple(
    Task(family.name, "behaviour", family.generate, lambda level: 0.0) for family in FAMILIES.values()
)
