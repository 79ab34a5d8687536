"""A course: the gradient of a step is that of its whole batch, and what has converged ends."""

import pytest
import torch

from components.cognate.course import learn, train
from components.cognate.settings import Course, Settings
from components.shared.evaluation.answers import batches
from components.shared.models.loading import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
COURSE = {"lr": 0.01, "levels": [1], "tasks": {"copy": 1.0}}


def network(**more):
    return build(CognateConfig(**SHAPE, memory_size=16, refinement_size=32, **more), seed=0)


@pytest.mark.parametrize("modules", [{}, {"memory": True}, {"refinement": True}])
def test_rows_in_parts_give_the_gradient_of_the_whole_batch(modules):
    model, tokenizer = network(**modules), byte_tokenizer()
    items = mixture({"copy": 1, "cloze": 1, "recall": 1}, [1, 3], "train", 0, 0, 12)
    found = []
    for rows in ([encode(items, tokenizer)], [batch for _, batch in batches(items, tokenizer, 5)]):
        model.zero_grad()
        value = learn(model.train(), rows)
        found.append((value, {name: p.grad.clone() for name, p in model.named_parameters()}))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def run(folder, course, **more):
    given = dict.fromkeys(("trunk", "standard", "memory", "reasoning"), course)
    settings = Settings(model=SHAPE, **given, **{"batch": 8, "warmup": 2, "rows": 4} | more)
    steps = []
    curve = train(
        network(),
        byte_tokenizer(),
        "trunk",
        settings.trunk,
        settings,
        seed=0,
        checkpoints=Checkpoints(str(folder), "0" * 16),
        report=lambda *each: steps.append(each),
    )
    return steps, curve


def test_a_course_that_has_converged_ends_by_a_whole_decay(tmp_path):
    """With a rate of zero nothing improves: after a window of 10 the last 30% of 40 steps follow, and that is all."""
    course = Course(steps=40, **COURSE | {"lr": 1e-12})
    steps, curve = run(tmp_path, course, window=10, decay=0.3, tolerance=0.5)
    assert len(steps) == 10 + 12 == curve["step"][-1]


def test_the_opening_has_a_mixture_of_its_own_and_does_not_count_as_convergence(tmp_path):
    opening = {"steps": 12, "tasks": {"recall": 1.0}}
    course = Course(steps=40, opening=opening, **COURSE | {"lr": 1e-12})
    steps, _ = run(tmp_path, course, window=10, decay=0.3, tolerance=0.5)
    assert len(steps) == 12 + 10 + 12
    alone, _ = run(tmp_path, Course(steps=40, **COURSE | {"lr": 1e-12}), window=10, decay=0.3, tolerance=0.5)
    assert steps[0][1] != alone[0][1] and steps[12][1] == pytest.approx(alone[12][1], rel=1e-6)


def test_an_opening_ends_once_it_is_learnt(tmp_path):
    """Any loss is below 99: after ten steps the opening is over, and the window of convergence begins."""
    opening = {"steps": 30, "loss": 99.0, "tasks": {"recall": 1.0}}
    course = Course(steps=40, opening=opening, **COURSE | {"lr": 1e-12})
    steps, _ = run(tmp_path, course, window=10, decay=0.3, tolerance=0.5)
    assert len(steps) == 10 + 10 + 12


def test_a_loss_that_is_not_finite_stops_the_course_and_says_what_to_lower(tmp_path):
    with pytest.raises(PhaseFailed, match=r"at step \d+.*cognate\.trunk.*learning rate"):
        run(tmp_path, Course(steps=40, **COURSE | {"lr": 1e30}), clip=1e30)
