"""Programs as answers: what of a text is the program, and which pass their tests in the sandbox."""

from __future__ import annotations

import json

import pytest

from components.shared.tasks.code_benchmarks import draft_of
from components.shared.tasks.graders import grade
from components.shared.tasks.programs import program_of

PROBLEM = {
    "task_id": "Own/1",
    "prompt": 'import math\n\n\ndef area(radius: float) -> float:\n    """Area of a circle."""\n',
    "entry_point": "area",
    "canonical_solution": "    return round(math.pi * radius**2, 2)\n",
    "test": "def check(candidate):\n    assert candidate(1.0) == 3.14\n    assert candidate(2.0) == 12.57\n",
}
SENTENCE = {
    "task_id": 602,
    "text": "Write a function to find the larger of two numbers.",
    "code": "def larger(a, b):\r\n  return a if a > b else b",
    "test_list": ["assert larger(1, 2) == 2", "assert larger(3, 2) == 3"],
    "test_setup_code": "",
}
ITEM = draft_of(PROBLEM).item("own", 1, "report")
NEEDS = json.loads(ITEM.reference)
BODY = "    return round(math.pi * radius * radius, 2)\n"
WHOLE = f"def area(radius):\n{BODY}"


@pytest.mark.parametrize(
    "text",
    [
        ITEM.answer,
        BODY,
        f"{BODY}\nprint(area('no number'))\n",
        f"{BODY}\n\ndef area(radius):\n    return 0\n",
        f"Here it is:\n```python\n{WHOLE}```\nIt multiplies π with the square.",
        f"```python\nimport math\n\n{WHOLE}",
        f"```\n{BODY}```",
        f"First an example:\n```\nprint(area(1))\n```\nand the function:\n```python\n{WHOLE}```",
        WHOLE,
    ],
)
def test_the_program_is_found_in_what_base_and_chat_models_write(text: str) -> None:
    namespace: dict = {}
    exec(program_of(text, NEEDS), namespace)
    assert namespace["area"](1.0) == 3.14


def test_right_programs_pass_and_wrong_ones_fail() -> None:
    assert grade(ITEM, ITEM.answer) == 1
    for wrong in (
        "    return None\n",
        "    return round(math.pi * radius, 2)\n",
        "    return (",
        "",
        "    import os; os._exit(0)\n",
    ):
        assert grade(ITEM, wrong) == 0


def test_a_problem_of_mbpp_is_asked_and_graded() -> None:
    draft = draft_of(SENTENCE)
    item = draft.item("mbpp", 1, "report")
    assert "larger of two numbers" in item.prompt and "assert larger(1, 2) == 2" in item.prompt
    assert draft.split == "train" and draft_of(SENTENCE | {"task_id": 11}).split == "report"
    assert grade(item, f"{item.answer}\n[DONE]\nassert False") == 1
    assert grade(item, "def larger(a, b):\n    return a\n") == 0


def test_other_rows_are_none_of_a_code_benchmark_and_wrong_ones_are_named() -> None:
    assert draft_of({"prompt": "2+2=", "answer": "4"}) is None
    with pytest.raises(ValueError, match="'entry_point' is 3"):
        draft_of(PROBLEM | {"entry_point": 3})
