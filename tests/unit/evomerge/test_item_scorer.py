"""The scorer against the shared evaluation, and what is concluded from its answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from components.evomerge.connectivity import connections, warning
from components.evomerge.evaluation.genome_merger import Diverged
from components.evomerge.evaluation.item_scorer import ItemScorer
from components.evomerge.findings import curves
from components.evomerge.search.archive import Archive, Measurement, Provenance, Record
from components.evomerge.search.generation_zero import midpoint
from components.evomerge.search.space import SearchSpace
from components.shared.evaluation.answers import correct, nll
from components.shared.evaluation.suites import evaluate
from components.shared.models.loading import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.tasks.batches import encode
from components.shared.tasks.tokenizer import byte_tokenizer

SUITES = ("efficiency", "memory")


@pytest.fixture(scope="module")
def model():
    """Has learnt half of the items that it is asked by heart, so that some answers are right and some are not."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape), seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batch = encode(scorer().items[::2], byte_tokenizer())
    for _ in range(60):
        loss = model(input_ids=batch.input_ids, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def scorer(**changes) -> ItemScorer:
    return ItemScorer(byte_tokenizer(), SUITES, split="search", items=24, seed=0, batch=10, **changes)


def test_its_answers_are_those_of_the_shared_evaluation(model) -> None:
    item_scorer = scorer()
    answers = item_scorer.answers(model)
    assert np.array_equal(answers.right, correct(model, byte_tokenizer(), item_scorer.items, batch=48))
    total, tokens = nll(model, byte_tokenizer(), item_scorer.items, batch=48)
    np.testing.assert_allclose(answers.nll, total, rtol=1e-4)
    assert np.array_equal(answers.tokens, tokens)
    assert 0 < answers.right.mean() < 1


def test_accuracy_as_fitness_is_the_mean_of_the_suites_scores(model) -> None:
    scores = evaluate(model, byte_tokenizer(), split="search", items=24, seed=0, suites=SUITES)
    measured = scorer(fitness="accuracy").measure(model)
    assert measured.fitness == pytest.approx(np.mean([score.score for score in scores.values()]))
    assert set(measured.scores) == {item.task for item in scorer().items}


def test_likelihood_as_fitness_is_the_geometric_mean_probability_of_an_answers_token(model) -> None:
    item_scorer = scorer()
    answers = item_scorer.answers(model)
    suites = np.array(item_scorer.suite)
    each = [
        math.exp(-answers.nll[part].sum() / answers.tokens[part].sum())
        for part in (suites == item_scorer.suite[0], suites != item_scorer.suite[0])
    ]
    assert item_scorer.measure(model).fitness == pytest.approx(np.mean(each))


def test_a_model_that_answers_with_nan_has_diverged(model) -> None:
    broken = build(model.config, seed=0)
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(Diverged):
        scorer().measure(broken)


def test_two_parents_connect_when_their_mean_is_no_worse_than_the_worse_of_them() -> None:
    space = SearchSpace(parents=3, groups=1, methods=("linear",))
    losses = {space.parent(0): 1.0, space.parent(1): 1.4, space.parent(2): 1.2}
    losses |= {midpoint(0, 1, space): 1.1, midpoint(0, 2, space): 3.0}
    archive = Archive(Record(g, Provenance(""), Measurement(0.5, {}, loss)) for g, loss in losses.items())
    archive.add(Record(midpoint(1, 2, space), Provenance(""), Measurement(None, error="diverged")))
    near, far, failed = connections(archive, space)
    assert near.connected and near.barrier == pytest.approx(-0.1)
    assert not far.connected and far.barrier == pytest.approx(1.9)
    assert not failed.connected and failed.barrier is None
    assert "x and z do not merge: their mean has loss 3.000" in warning(far, ["x", "y", "z"])


def test_the_best_so_far_never_falls() -> None:
    history = [
        {"generation": i, "best": best, "mean": 0.1, "diversity": 0.5}
        for i, best in enumerate([0.3, 0.2, None, 0.6])
    ]
    series = curves(history)["Fitness by generation"]
    assert series["x"] == [0, 1, 3] and series["series"]["best so far"] == [0.3, 0.3, 0.6]
