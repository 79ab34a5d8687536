"""HumanEval and MBPP in the form of their own files: a line of either is a row like any other of a user's file.

    HumanEval   task_id, prompt, entry_point, canonical_solution, test         (Chen et al. 2021, arXiv 2107.03374)
    MBPP        task_id, text or prompt, code, test_list, test_setup_code or test_imports    (Austin et al. 2021,
                arXiv 2108.07732)

HumanEval is a test set: all of it belongs to reports. MBPP has splits of its own, by the number of a task.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .item import Draft, Split

HUMAN_EVAL = ("task_id", "prompt", "entry_point", "canonical_solution", "test")
MBPP = ("task_id", "code", "test_list")
STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
"""Where the function has ended, and a model without a chat template has gone on (arXiv 2107.03374, §3.2)."""
DONE = "[DONE]"
LIMIT = 512
"""Tokens of an answer."""


def draft_of(fields: Mapping[str, Any]) -> Draft | None:
    """A row of either benchmark; None where the line is none.

    :raises ValueError: it is one, and something of it is of the wrong type.
    """
    if all(name in fields for name in HUMAN_EVAL):
        return human_eval(fields)
    if all(name in fields for name in MBPP):
        return mbpp(fields)
    return None


def human_eval(fields: Mapping[str, Any]) -> Draft:
    """A problem of HumanEval: go on with a function of which signature and docstring are given."""
    for name in HUMAN_EVAL:
        _require(fields, name, str)
    name = fields["entry_point"]
    needs = {
        "prompt": fields["prompt"],
        "entry_point": name,
        "stop": STOPS,
        "tests": f"{fields['test']}\ncheck({name})",
    }
    return Draft(
        fields["prompt"],
        fields["canonical_solution"],
        grader="code",
        reference=json.dumps(needs, ensure_ascii=False),
        limit=LIMIT,
        family=fields["task_id"],
        split="report",
    )


def mbpp(fields: Mapping[str, Any]) -> Draft:
    """A problem of MBPP: write what a sentence asks for, in the words that its paper puts around it."""
    _require(fields, "task_id", int)
    _require(fields, "code", str)
    for name in ("test_list", *(["test_imports"] if "test_imports" in fields else [])):
        _require(fields, name, list)
    key = "text" if "text" in fields else "prompt"
    _require(fields, key, str)
    tests = "\n".join(fields["test_list"])
    prompt = (
        f"You are an expert Python programmer, and here is your task: {fields[key]} "
        f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
    )
    needs = {
        "setup": fields.get("test_setup_code") or "\n".join(fields.get("test_imports", [])),
        "stop": [DONE],
        "tests": tests,
    }
    return Draft(
        prompt,
        fields["code"].replace("\r", ""),
        grader="code",
        reference=json.dumps(needs, ensure_ascii=False),
        limit=LIMIT,
        family=f"MBPP/{fields['task_id']}",
        split=split_of_mbpp(fields["task_id"]),
    )


def split_of_mbpp(number: int) -> Split:
    """The paper's splits: 11–510 test, 511–600 validation (halved here), the rest for prompts and training."""
    if 11 <= number <= 510:
        return "report"
    if 511 <= number <= 600:
        return "search" if number < 556 else "select"
    return "train"


def _require(fields: Mapping[str, Any], name: str, kind: type) -> None:
    """Refuse a field that is of another type.

    :raises ValueError: naming it.
    """
    if not isinstance(fields.get(name), kind):
        raise ValueError(f"{name!r} is {fields.get(name)!r}, and no {kind.__name__}")
