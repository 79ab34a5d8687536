"""Programs as answers: what of a text is the program, and whether it passes the item's tests, in the sandbox.

The keys of an item's reference:

    tests        the tests: Python that raises where the program is wrong; a text, or a list of them
    prompt       code that the answer goes on with (HumanEval); left out: the answer is the whole program
    entry_point  the function that is asked for
    setup        code in front of the tests
    stop         strings that end what a model goes on with, when it is through with the function
    seconds      of processor time, `SECONDS` where it is left out

A model without a chat template goes on with the prompt, and past the end of the function: what it writes ends where another
definition begins (Chen et al. 2021, arXiv 2107.03374, §2.3 ff.). One that was tuned to chat explains itself, and puts the
program between ``` and ```, mostly the whole of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from components.shared.sandbox.run import run_python

from .extraction import until
from .item import Item

SECONDS = 5.0
MEMORY = 1 << 30
FENCED = re.compile(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE)
"""A block of code; the last one may have no end, where a text was cut."""


def code(item: Item, text: str) -> float:
    """Whether the program of an answer passes the item's tests: the grader `code`.

    :raises SandboxUnavailable: this machine cannot hold a program, so none is run.
    """
    needs = json.loads(item.reference)
    outcome = run_python(
        with_tests(program_of(text, needs), needs), seconds=needs.get("seconds", SECONDS), memory=MEMORY
    )
    return float(outcome.completed)


def with_tests(program: str, needs: Mapping[str, Any]) -> str:
    """A program that runs to its end where the other one passes the tests."""
    tests = needs["tests"]
    return "\n".join([program, needs.get("setup", ""), *([tests] if isinstance(tests, str) else tests), ""])


def program_of(text: str, needs: Mapping[str, Any]) -> str:
    """What of an answer is the program, with the code that it goes on with in front."""
    prompt, name = needs.get("prompt", ""), needs.get("entry_point", "")
    blocks = [block for block in FENCED.findall(text) if block.strip()]
    if blocks:
        block = next((block for block in blocks if name and defines(block, name)), blocks[0])
        return f"{prompt}\n{block}" if not name or defines(block, name) else prompt + block
    if name and defines(text, name) and not text.lstrip("\n")[:1].isspace():
        return f"{prompt}\n{text}"
    return prompt + until(text, {"until": needs.get("stop", ())})


def defines(program: str, name: str) -> bool:
    """Whether a program defines a function at its top."""
    return re.search(rf"^(?:async )?def {re.escape(name)}\b", program, re.MULTILINE) is not None
