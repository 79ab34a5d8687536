"""pass@k against its definition, and of a model that writes right and wrong programs."""

from __future__ import annotations

import dataclasses
import json
from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch

from components.shared.evaluation.outcomes import unpack
from components.shared.evaluation.pass_at_k import Sampling, code_scores, pass_at_k, passes, sampled_score
from components.shared.evaluation.statistics import wilson
from components.shared.evaluation.suites import suite_items
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.batches import encode
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer

ITEM = Item("own", 1, "report", "def one():\n", "    return 1\n", grader="code", limit=2,
            reference='{"tests": "assert one() == 1", "prompt": "def one():\\n", "entry_point": "one"}')  # fmt: skip


def test_the_estimator_is_the_papers_formula_and_the_share_of_all_draws() -> None:
    for n in range(1, 9):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(combinations([1] * c + [0] * (n - c), k))
                share = np.mean([any(draw) for draw in draws])
                assert pass_at_k(n, c, k) == pytest.approx(share)
                assert pass_at_k(n, c, k) == pytest.approx(1 - comb(n - c, k) / comb(n, k))
    assert pass_at_k(10**6, 1, 10**5) == pytest.approx(0.1), "where the binomials are no floats"
    with pytest.raises(ConfigError, match="pass@3 of 2 samples"):
        pass_at_k(2, 1, 3)


def test_answers_are_graded_side_by_side_in_their_order() -> None:
    assert passes([ITEM, ITEM, ITEM], ["    return 1", "    return 2", "    return 1"]).tolist() == [
        True,
        False,
        True,
    ]


def test_a_model_has_a_pass_at_k_with_its_interval() -> None:
    model = build(CognateConfig(hidden_size=32, intermediate_size=48), seed=0).eval()
    scores = code_scores(model, byte_tokenizer(), [ITEM], Sampling(2, (1, 2), 1.0))
    assert scores == {k: (0.0, *wilson(0.0, 1)) for k in (1, 2)}


def test_a_file_of_code_has_a_score_by_samples(tmp_path) -> None:
    """A model that was taught to write 1 or 7 where 1 is right, and 2 where 2 is."""
    rows = [
        {"prompt": f"def {name}():\n    return", "answer": f" {value}", "split": "report", "limit": 2,
         "grader": {"name": "code", "prompt": f"def {name}():\n    return", "tests": f"assert {name}() == {value}"}}
        for name, value in (("one", 1), ("two", 2))
    ]  # fmt: skip
    (tmp_path / "code.jsonl").write_text("\n".join(map(json.dumps, rows)))
    suite, tokenizer = f"file:{tmp_path / 'code.jsonl'}", byte_tokenizer()
    one, two = sorted(suite_items(suite, split="report", items=2, seed=0), key=lambda item: item.answer)
    model = build(CognateConfig(hidden_size=32, intermediate_size=48), seed=0)
    batch = encode([one, dataclasses.replace(one, answer=" 7"), two, two], tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 60)  # so that it ends at even chances
        model(**batch._asdict()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    draw = {"split": "report", "items": 2, "seed": 0, "seeds": 1}
    found = sampled_score(model.eval(), tokenizer, suite, Sampling(12, (1, 2, 12), 1.0), **draw)
    right = [round(12 * share) for share in unpack(found.outcomes)]
    assert 0 < sum(right) < 24 and found.score == found.detail["pass_at_1"] == pytest.approx(sum(right) / 24)
    for k in (1, 2, 12):
        names = (f"pass_at_{k}_low", f"pass_at_{k}", f"pass_at_{k}_high")
        low, value, high = (found.detail[name] for name in names)
        assert low < value <= high and value == pytest.approx(np.mean([pass_at_k(12, c, k) for c in right]))


def test_samples_that_mean_nothing_are_refused() -> None:
    for sampling, why in (
        (Sampling(2, (3,), 0.8), "pass@3 of 2"), (Sampling(2, (1,), 0.0), "one and the same"), (Sampling(1, ()), "pass@0"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=why):
            sampling.check("file:x", [ITEM])
    with pytest.raises(ConfigError, match=r"for programs[\s\S]*reasoning"):
        Sampling(2, (1,), 0.8).check("reasoning", suite_items("reasoning", split="report", items=2, seed=0))
