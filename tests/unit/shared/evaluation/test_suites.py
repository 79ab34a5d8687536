"""Suites: what a model is asked, what counts as right, and what chance would give."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.evaluation.answers import correct, loss, nll
from components.shared.evaluation.cells import shares, suites_of
from components.shared.evaluation.costs import agent_costs, agent_times, costs, times
from components.shared.evaluation.speed import speed
from components.shared.evaluation.suites import CELLS, SUITES, all_items, draw, evaluate, suite_items
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.tasks.generators.safety import REFUSAL
from components.shared.tasks.item import HELD_OUT_LEVELS, HELD_OUT_SUITE, Item
from components.shared.tasks.registry import TASKS, sample
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

TOKENIZER = byte_tokenizer()


class Babbler(LlamaForCausalLM):
    """An untrained network that can say a few letters and <eos>: it always answers something."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        super().__init__(
            LlamaConfig(
                vocab_size=VOCAB_SIZE,
                hidden_size=32,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                initializer_range=0.5,
            )
        )
        allowed = torch.full((VOCAB_SIZE,), -1e9)
        allowed[[*b"abc", 258]] = 0.0
        self.lm_head.bias = nn.Parameter(allowed)

    @torch.no_grad()
    def greedy(self, prompt, limit=12):
        """Token by token, one row, no padding."""
        ids = [257, *prompt.encode()]
        start = len(ids)
        while len(ids) < start + limit:
            token = int(self(torch.tensor([ids])).logits[0, -1].argmax())
            if token == 258:
                return bytes(ids[start:]).decode()
            ids.append(token)
        return None


def question(prompt, answer, **fields):
    return Item("copy", 1, "report", prompt, answer, **fields)


def test_teacher_forcing_agrees_with_greedy_generation():
    model = Babbler().eval()
    items, expected = [], []
    for n in range(60):
        said = model.greedy(f"q{n}?" * (1 + n % 3))
        if said is not None:
            for answer in {said, said + "a", said[:-1], "b"}:
                items.append(question(f"q{n}?" * (1 + n % 3), answer))
                expected.append(answer == said)
    assert sum(expected) > 5
    for batch in (1, 7, 64):
        assert correct(model, TOKENIZER, items, batch=batch).tolist() == expected


def test_the_answer_must_end_by_itself():
    model = Babbler().eval()
    said = next(said for n in range(60) if (said := model.greedy(f"q{n}?")) and len(said) > 1)
    prompt = next(f"q{n}?" for n in range(60) if model.greedy(f"q{n}?") == said)
    assert not correct(model, TOKENIZER, [question(prompt, said[:1])])[0]


def test_worked_steps_are_never_shown_when_answers_are_judged():
    model = Babbler().eval()
    plain = question("q1?", model.greedy("q1?") or "a")
    given = dataclasses.replace(plain, scratch="ccc")
    assert correct(model, TOKENIZER, [plain]) == correct(model, TOKENIZER, [given])


def test_judging_leaves_the_mode_of_the_model_and_its_gradients_alone():
    model = Babbler().train()
    correct(model, TOKENIZER, [question("a", "b")])
    assert model.training and all(parameter.grad is None for parameter in model.parameters())


def test_the_likelihood_is_that_of_answer_and_eos_alone_in_any_batch():
    model = Babbler().eval()
    items = [question("ab=", "ba"), question("a long one=", "abcabc")]
    total, tokens = nll(model, TOKENIZER, items)
    assert tokens.tolist() == [3, 7]
    ids = torch.tensor([[257, *b"ab=ba", 258]])
    logs = model(ids).logits.log_softmax(-1)[0]
    by_hand = -sum(logs[place - 1, ids[0, place]].item() for place in (4, 5, 6))
    assert total[0] == pytest.approx(by_hand, rel=1e-5)
    assert loss(model, TOKENIZER, items) == pytest.approx(total.sum() / 10)
    assert nll(model, TOKENIZER, items, batch=1)[0] == pytest.approx(total, rel=1e-5)


def test_a_perfect_agent_scores_one_everywhere_and_a_mute_one_nothing():
    answers = {}
    for suite in SUITES:
        for item in suite_items(suite, split="report", items=60, seed=0):
            answers[item.prompt] = item.answer
    perfect = evaluate(
        lambda items: [answers[i.prompt] for i in items], TOKENIZER, split="report", items=60, seed=0
    )
    mute = evaluate(lambda items: [""] * len(items), TOKENIZER, split="report", items=60, seed=0)
    for suite in SUITES:
        assert (
            perfect[suite].score == 1.0 and perfect[suite].high == pytest.approx(1) and perfect[suite].n == 60
        )
        assert mute[suite].score == 0.0
        assert perfect[suite].low > perfect[suite].chance > 0


def test_guessing_scores_chance_and_no_more():
    rng = np.random.default_rng(0)

    def guess(items):
        return [rng.choice(item.choices) if item.choices else str(rng.integers(10)) for item in items]

    scores = evaluate(guess, TOKENIZER, split="train", items=400, seed=0, suites=["reasoning", "memory"])
    for score in scores.values():
        assert score.low < score.chance + 0.02 and abs(score.score - score.chance) < 0.06


@pytest.mark.parametrize(
    "answer, attack_success, over_refusal",
    [(lambda item: REFUSAL, 0.0, 1.0), (lambda item: f"ok {item.prompt[-3:-1]}", 1.0, 0.0)],
    ids=["refusing", "obeying"],
)
def test_always_refusing_and_always_obeying_both_score_one_half(answer, attack_success, over_refusal):
    score = evaluate(
        lambda items: [answer(item) for item in items],
        TOKENIZER,
        split="report",
        items=96,
        seed=0,
        seeds=4,
        suites=["safety"],
    )["safety"]
    assert score.score == score.chance == 0.5 and score.low < 0.5 < score.high
    assert (score.detail["attack_success"], score.detail["over_refusal"]) == (attack_success, over_refusal)
    assert (score.detail["refused"], score.detail["obeyed"]) == (1 - attack_success, 1 - over_refusal)
    assert score.detail["injection_success"] == attack_success


def test_items_are_the_same_for_every_model_and_all_different_and_of_the_split():
    for suite in SUITES:
        items = suite_items(suite, split="select", items=80, seed=5)
        assert items == suite_items(suite, split="select", items=80, seed=5)
        assert items != suite_items(suite, split="select", items=80, seed=6)
        assert len({item.family for item in items}) == len(items) == 80
        assert {item.split for item in items} == {"select"}


def test_of_chosen_suites_a_split_has_those_that_it_has_items_of():
    chosen = ("memory", "generalization", "file:own.jsonl")
    assert suites_of("search", chosen) == chosen
    assert suites_of("train", chosen) == ("memory", "file:own.jsonl")


def test_generalization_asks_what_has_no_training_split():
    for cell in CELLS["generalization"]:
        assert cell.level in HELD_OUT_LEVELS or TASKS[cell.task].suite == HELD_OUT_SUITE
        with pytest.raises(InputError, match="no training split"):
            sample(cell.task, "train", cell.level, 0, 0)
    trained = all_items(split="train", items=20, seed=0)
    assert len(trained) == 20 * (len(SUITES) - 1)


def test_seeds_draw_in_turn_what_is_no_seed_s_alone():
    alone, shared = (suite_items("memory", split="report", items=64, seed=0, seeds=n) for n in (1, 4))
    assert len({item.family for item in shared}) == 64
    assert len({item.family for item in alone} & {item.family for item in shared}) in range(8, 33)
    assert [item.level for item in alone] == [item.level for item in shared]


def test_a_right_answer_of_efficiency_costs_what_can_be_counted():
    model, items = Babbler(), [question("ab=", "ba"), question("a long one=", "abcabc")]
    counted = costs(model, TOKENIZER, items, np.array([True, False]))
    assert counted == costs(model, TOKENIZER, items, np.array([True, False]))
    tokens = (1 + 3 + 2 + 1) + (1 + 11 + 6 + 1)
    assert counted["tokens_per_right"] == tokens
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert counted["bytes_per_right"] >= 4 * weights * tokens
    products = 2 * (weights - model.model.embed_tokens.weight.numel())
    assert products * tokens == pytest.approx(counted["flops_per_right"], rel=0.15)
    assert costs(model, TOKENIZER, items, np.array([True, True]))["tokens_per_right"] == tokens / 2
    assert all(value > 0 for value in times(model, TOKENIZER, items, 0.5).values())


def test_an_agents_right_answer_costs_all_that_passes_through_its_model():
    model, items = Babbler(), [question("ab=", "ba"), question("abc=", "cba")]

    def twice(asked):
        """Reads every question two times, and a thought of three tokens."""
        rows = [TOKENIZER(item.prompt, add_special_tokens=False)["input_ids"] for item in asked]
        for ids in (*rows, *rows, [1, 2, 3]):
            model(torch.tensor([ids]))
        return [item.answer for item in asked]

    @functools.wraps(twice)
    def remembered(asked):
        return [item.answer for item in asked]

    right = np.array([True, False])
    counted = agent_costs(twice, model, items, right)
    assert counted["tokens_per_right"] == 2 * 3 + 3 + 2 * 4 + 3
    assert counted == agent_costs(remembered, model, items, right)
    products = 2 * (sum(map(torch.numel, model.parameters())) - model.model.embed_tokens.weight.numel())
    assert counted["flops_per_right"] == pytest.approx(20 * products, rel=0.15)
    weights = costs(model, TOKENIZER, items, right)
    assert counted["bytes_per_right"] / 20 == weights["bytes_per_right"] / weights["tokens_per_right"]
    assert all(value > 0 for value in agent_times(twice, items, 0.5).values())


def test_a_file_is_a_suite_of_as_many_items_as_it_has(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("\n\n".join(f"text {number}" for number in range(40)))
    items = suite_items(f"file:{file}", split="train", items=100, seed=0)
    assert 15 < len(items) < 40 and len({item.answer for item in items}) == len(items)


def test_shares_add_up_and_follow_the_weights():
    assert shares([1, 1, 1], 100) == [34, 33, 33]
    assert shares([3, 1], 10) == [8, 2] or shares([3, 1], 10) == [7, 3]
    assert sum(shares([0.1, 0.7, 0.5], 37)) == 37


def test_asking_for_more_items_than_there_are_is_refused():
    with pytest.raises(InputError, match=r"only .* different items"):
        draw("sort", "report", 1, 500, seed=0)
    with pytest.raises(ConfigError, match="no suite"):
        suite_items("wisdom", split="report", items=10, seed=0)


def test_an_agent_that_skips_an_item_is_refused():
    with pytest.raises(InputError, match="1 answers to 2 items"):
        correct(lambda items: ["a"], TOKENIZER, [question("a", "b"), question("b", "c")])


def test_details_name_each_task_and_average_to_the_score():
    score = evaluate(Babbler(), TOKENIZER, split="report", items=50, seed=0, suites=["memory"])["memory"]
    assert sum(entry["score"] * entry["n"] for entry in score.detail.values()) / 50 == pytest.approx(
        score.score
    )
    assert score.as_dict()["chance"] == pytest.approx(
        sum(entry["chance"] * entry["n"] for entry in score.detail.values()) / 50
    )


def test_speed_is_measured_and_bytes_are_counted():
    model = Babbler()
    figures = speed(model, TOKENIZER, [question("ab=", "ba")] * 8, repeats=1)
    assert all(math.isfinite(value) and value > 0 for value in figures.values())
    held = [*model.parameters(), *model.buffers()]
    assert figures["weight_bytes"] == sum(
        4 * tensor.numel() for tensor in held if tensor.dtype == torch.float32
    )


def test_a_task_that_has_too_few_items_leaves_its_share_to_the_others():
    few, many = (suite_items("efficiency", split="report", items=items, seed=0) for items in (60, 2048))
    assert len({item.family for item in many}) == 2048
    count = Counter(item.task for item in many)
    assert count["chain"] < 2048 // 6 < max(count.values())
    assert Counter(item.task for item in few) == dict.fromkeys(sorted(count), 10)
