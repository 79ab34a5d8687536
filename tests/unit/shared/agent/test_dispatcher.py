"""Logistic regression on bags of bytes, against scikit-learn's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from components.shared.agent.dispatcher import Dispatcher, bag_of_bytes, fit
from components.shared.tasks.registry import sample

TASKS = ("chain", "reverse", "recall", "request")


def texts(split, count):
    return [sample(task, split, 1, i, 0).prompt for task in TASKS for i in range(count)]


def labels(count):
    return [task for task in TASKS for _ in range(count)]


def test_its_probabilities_are_those_of_scikit_learn_on_the_same_features():
    train, decay = texts("train", 60), 1e-3
    ours = fit(train, labels(60), decay=decay)
    peer = LogisticRegression(C=1 / (2 * decay * len(train)), tol=1e-8, max_iter=5000)
    peer.fit(bag_of_bytes(train).numpy(), labels(60))
    held_out = texts("search", 25)
    theirs = peer.predict_proba(bag_of_bytes(held_out).numpy())
    assert tuple(peer.classes_) == ours.classes
    np.testing.assert_allclose(ours.probabilities(held_out).numpy(), theirs, atol=5e-3)  # float16 weights


def test_it_tells_families_apart_on_prompts_that_it_never_saw():
    found = fit(texts("train", 60), labels(60)).dispatch(texts("report", 40))
    right = np.mean([name == label for (name, _), label in zip(found, labels(40), strict=True)])
    assert right > 0.97
    assert all(1 / len(TASKS) <= sure <= 1 for _, sure in found)


def test_bags_count_bytes_in_any_script_and_take_an_empty_text():
    bags = bag_of_bytes(["aab", "b é", ""])
    assert bags.shape == (3, 256) and bags[2].sum() == 0
    assert bags[0, ord("a")].item() == pytest.approx((2 / 3) ** 0.5)
    assert bags[1, 0xC3] > 0 and bags[1, 0xA9] > 0


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="2 classes"):
        Dispatcher(("a", "b"), torch.zeros(3, 256), torch.zeros(3))
