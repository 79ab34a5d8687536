"""What is right: numbers as people write them, patterns, choices, and a user's own function."""

from __future__ import annotations

import json

import pytest

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.tasks.graders import grade, how_scored, lacking
from components.shared.tasks.item import Item


def item(answer, grader="exact", choices=(), **needs):
    return Item("t", 1, "report", "?", answer, choices=choices, grader=grader,
                reference=json.dumps(needs) if needs else "")  # fmt: skip


def test_exact_is_the_answer_character_by_character():
    assert grade(item("42"), "42") == 1
    assert grade(item("42"), "42 ") == grade(item("42"), "42.") == 0


def test_exact_with_a_reference_draws_the_answer_out_of_the_text():
    chosen = item("B", extract=r"[Aa]nswer(?: is)?:? \(?([A-D])\)?", which=-1)
    assert grade(chosen, "Answer: A? No. The answer is (B).") == 1
    assert grade(chosen, "B") == 0
    loose = item("New York", ignore=[r"[.,]", r"^the "], ignore_case=True, until=["\n"])
    assert grade(loose, "new york.\nIt is big") == 1


@pytest.mark.parametrize(
    "answer, text, right",
    [
        ("42", "6 · 7 = 42.", True),
        ("42", "42 is what 6 · 7 gives, not 43", False),  # the last number counts
        ("1234", "It costs $1,234.00 in all.", True),
        ("He has 12.\n#### 1,234", "…\n#### 1234\nThe answer is: 7", True),  # what is marked goes before the last number
        ("72", r"So \boxed{72} clips, 3 each", True),
        ("0.75", r"\boxed{\frac{3}{4}}", True),
        ("3/4", "It is 0.75", True),
        ("-5", "#### -5", True),
        ("5", "10-5", True),  # no sign: it stands behind a digit
        ("-5", "it is −5 degrees", True),
        ("5", "- 5 apples", True),
        ("3e8", "about 3e8 m/s", True),
        ("18", "eighteen", False),
        ("18", "", False),
    ],
)  # fmt: skip
def test_numbers_are_compared_as_numbers(answer, text, right):
    assert grade(item(answer, "number"), text) == right


def test_a_number_has_a_tolerance_and_may_have_to_be_marked():
    assert grade(item("3.14159", "number", tolerance=0.01), "about 3.14") == 1
    assert grade(item("1000", "number", relative=0.01), "1009") == 1
    assert grade(item("1000", "number"), "1009") == 0
    assert grade(item("18", "number", extract="strict"), "The answer is 18") == 0
    assert grade(item("18", "number", extract="strict"), "#### 18") == 1


def test_a_regular_expression_is_found_and_another_is_not():
    ocean = item("Pacific", "regex", pattern=r"(?i)\bpacific\b", **{"not": r"(?i)\batlantic\b"})
    assert grade(ocean, "the PACIFIC ocean") == 1
    assert grade(ocean, "the Pacific or the Atlantic") == grade(ocean, "pacifics") == 0


def test_a_choice_in_text_is_the_one_that_is_named_first():
    capital = item("Rome", "choice", ("Paris", "Rome", "New Rome"))
    assert grade(capital, "It is ROME, not Paris") == 1
    assert grade(capital, "New Rome") == grade(capital, "Paris or Rome") == grade(capital, "Romeo") == 0


def test_a_function_of_the_users_grades_by_import_path_or_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "def half(item, text): return 0.5 * (text == item.answer)\ndef bad(item, text): return float('nan')"
    )
    assert grade(item("a", f"{file}:half"), "a") == 0.5
    with pytest.raises(InputError, match="no number from 0 to 1"):
        grade(item("a", f"{file}:bad"), "a")


@pytest.mark.parametrize(
    "name, message",
    [
        ("exakt", "did you mean exact"),
        ("no.such.module:f", "cannot be imported"),
        ("json:no", "cannot be imported"),
        ("string:digits", "is no function"),
    ],
)
def test_what_is_no_grader_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        grade(item("a", name), "a")


def test_a_grader_says_what_an_item_lacks():
    assert not lacking(item("7", "number"))
    assert "no number" in lacking(item("seven", "number"))
    assert "no pattern" in lacking(item("a", "regex"))
    assert "regular expression '('" in lacking(item("a", "regex", pattern="("))
    assert "none of its choices" in lacking(item("a", "choice", ("b", "c")))
    assert "no tests" in lacking(item("", "code"))


def test_only_a_plain_exact_answer_is_teacher_forced():
    assert how_scored(item("a")) == "forced"
    assert how_scored(item("a", until=["\n"])) == how_scored(item("1", "number")) == "written"
    assert how_scored(item("a", "choice", ("a", "b"))) == "choice"
