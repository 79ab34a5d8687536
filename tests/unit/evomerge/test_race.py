"""Few items first, all of them only for who may still win."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from components.evomerge.evaluation.item_scorer import ItemScorer
from components.evomerge.evaluation.race import is_beaten, stages
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.tokenizer import byte_tokenizer


def test_the_stages_are_a_quarter_half_and_all_of_the_items_without_a_gap() -> None:
    assert stages(24) == [(0, 6), (6, 12), (12, 24)]
    for items in range(1, 40):
        spans = stages(items)
        assert spans[0][0] == 0 and spans[-1][1] == items
        assert all(
            a[1] == b[0] and a[0] < a[1] for a, b in zip(spans, [*spans[1:], (items, items)], strict=True)
        )


def test_an_equal_is_beaten_in_about_one_of_forty_races_and_a_worse_one_nearly_always() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=32), rng.normal(size=32)) for _ in range(4000)]
    equal = np.mean([is_beaten(a, b) for a, b in pairs])
    assert 0.015 < equal < 0.04
    assert np.mean([is_beaten(a - 1.5, b) for a, b in pairs]) > 0.99
    assert not any(is_beaten(a + 1.5, b) for a, b in pairs)


def test_what_items_have_in_common_does_not_hide_a_difference() -> None:
    hard = np.random.default_rng(1).normal(0, 10, 16)
    assert is_beaten(hard - 0.2 + np.linspace(-0.1, 0.1, 16), hard)
    assert not is_beaten(hard[:1] - 5, hard[:1])


def small(seed: int) -> nn.Module:
    config = CognateConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    return build(config, seed=seed).eval()


@pytest.mark.parametrize("fitness", ["likelihood", "accuracy"])
def test_a_judge_stops_asking_who_is_beaten_and_says_how_much_was_seen(fitness) -> None:
    scorer = ItemScorer(
        byte_tokenizer(), ["reasoning", "memory"], split="search", items=16, seed=0, batch=8, fitness=fitness
    )
    model = small(0)
    whole = scorer.answers(model)
    assert len(whole.positions) == 32 and scorer.measurement(whole).seen == 1
    assert len(scorer.answers(model, whole).positions) == 32  # nobody is beaten by himself
    forwards = 0

    def count(*_: object) -> None:
        nonlocal forwards
        forwards += 1

    handle = model.register_forward_pre_hook(count)
    scorer.answers(model)
    every, forwards = forwards, 0
    champion = type(whole)(whole.positions, np.ones(32, bool), np.zeros(32), whole.tokens)
    left = scorer.answers(model, champion)
    handle.remove()
    assert len(left.positions) == 8 and forwards < every
    measured = scorer.measurement(left)
    assert measured.seen == 0.25 and measured.fitness is not None
    np.testing.assert_allclose(left.nll, whole.nll[:8], rtol=1e-4)


def test_every_stage_asks_every_suite_alike() -> None:
    scorer = ItemScorer(
        byte_tokenizer(), ["reasoning", "memory", "safety"], split="search", items=8, seed=0, batch=4
    )
    seen = 0
    for stage in scorer.stages:
        seen += sum(len(places) for places, _ in stage)
        suites = scorer.suite[:seen]
        assert {suite: suites.count(suite) for suite in set(suites)} == dict.fromkeys(
            ["reasoning", "memory", "safety"], seen // 3
        )
