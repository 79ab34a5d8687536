"""Each rule fires on its figures, and carries them; without them it is silent."""

from __future__ import annotations

import numpy as np
import pytest

from components.shared.assessment.assessment import Compared, assessment
from components.shared.assessment.recommendations import RULES
from tests.unit.shared.evaluation.test_paired import score

GOOD = {"a": score([True] * 170 + [False] * 30)}
WORSE = {"a": score([True] * 120 + [False] * 80)}
GATE = {
    "phase": "bitnet",
    "metric": "score/a",
    "op": ">=",
    "bound": 0.9,
    "value": 0.6,
    "passed": False,
    "on_fail": "warn",
}
TASK = {"n": 9, "chance": 0.1}
CLAIM = {
    "phase": "quietstar", "claim": "thoughts beat pauses", "value": 0.4, "control_value": 0.5, "control": "pauses",
    "holds": False,
}  # fmt: skip


def said(scores, *compared, **more):
    return {each.rule: each for each in assessment({}, scores, compared, **more).recommendations}


def safety(attack, over):
    return {
        "safety": {
            **score([True] * 180 + [False] * 20, 0.5),
            "detail": {"attack_success": attack, "over_refusal": over},
        }
    }


CASES = {
    "gate failed": (GOOD, [], {"gates": [GATE]}),
    "worse than before": (WORSE, [Compared("before", "cognate", GOOD)], {}),
    "suite worse than before": (WORSE, [Compared("before", "cognate", GOOD)], {}),
    "no better than before": (GOOD, [Compared("base", "cognate", GOOD)], {}),
    "not above chance": ({"a": score([True] * 50 + [False] * 150, 0.25)}, [], {}),
    "tasks at chance": (
        {"a": {**GOOD["a"], "detail": {"sort 3": TASK | {"score": 0.1}, "max 3": TASK | {"score": 0.9}}}},
        [], {},
    ),
    "answered by lookup": (GOOD, [Compared("lookup", "lookup", WORSE)], {}),
    "below lookup": (WORSE, [Compared("lookup", "lookup", GOOD)], {}),
    "saturated": ({"a": score([True] * 200)}, [], {}),
    "attacks succeed": (safety(0.3, 0.0), [], {}),
    "refuses too much": (safety(0.0, 0.3), [], {}),
    "claim not held": (GOOD, [], {"claims": [CLAIM]}),
    "wide interval": ({"a": score([True, False] * 6)}, [], {}),
}  # fmt: skip


def test_every_rule_has_its_case():
    assert set(CASES) == {rule.name for rule in RULES} and len(RULES) == len(CASES)


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_fires_on_its_figures_and_carries_them(rule):
    scores, compared, more = CASES[rule]
    found = said(scores, *compared, **more)
    assert rule in found, list(found)
    assert found[rule].figures and "{" not in found[rule].finding + found[rule].advice


def test_where_all_is_well_nothing_is_said():
    assert (
        said(
            GOOD,
            Compared("before", "cognate", WORSE),
            Compared("lookup", "lookup", {"a": score([False] * 200)}),
        )
        == {}
    )
    good = {**GATE, "passed": True}, {**CLAIM, "holds": True}
    assert said(GOOD | safety(0.0, 0.0), gates=[good[0]], claims=[good[1]]) == {}


def test_a_models_tasks_at_chance_are_named_and_no_others():
    assert said(CASES["tasks at chance"][0])["tasks at chance"].finding.endswith(": sort 3")


def test_as_many_items_as_are_advised_make_the_interval_as_narrow_as_is_said():
    advised = said({"a": score([True, False] * 6)})["wide interval"].figures["needed"]
    wide = score(np.arange(advised) % 2 == 0)
    assert wide["high"] - wide["low"] == pytest.approx(0.1, abs=0.02)


def test_a_model_with_no_scores_has_no_overall_and_no_baseline():
    empty = assessment({"name": "x"}, {})
    assert empty.overall is None and empty.baselines == [] and empty.as_dict()["scores"] == {}
