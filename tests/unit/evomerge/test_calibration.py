"""FeatCal and RegMean++ against the least squares that their papers write down, and on whole models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.evomerge.evaluation.calibration import Calibration, CalibrationExamples
from components.evomerge.evaluation.calibration_examples import best_parent, calibration_examples
from components.evomerge.evaluation.genome_merger import Diverged, GenomeMerger, ParentTensors
from components.evomerge.evaluation.item_scorer import AnswerScores
from components.evomerge.evaluation.merged_model import MergedModel
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.shared.tasks.batches import mixture
from components.shared.tasks.tokenizer import byte_tokenizer


class Net(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 6), nn.Linear(6, 3)])
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


def nets(count: int = 2) -> list[Net]:
    return [Net(seed) for seed in range(count)]


def shown(seed: int, rows: int = 40) -> CalibrationExamples:
    x = torch.randn(rows, 5, generator=torch.Generator().manual_seed(seed))
    return CalibrationExamples({"x": x}, torch.ones(rows, dtype=torch.bool))


def calibrated(
    parents: Sequence[nn.Module], samples: Sequence[CalibrationExamples], shares: list[float], alpha: float
) -> Net:
    states = [dict(parent.state_dict()) for parent in parents]
    calibration = Calibration(Net(9), states, samples, fitted=lambda name: True)
    model = Net(8)
    calibration.calibrate(model, lambda name: shares, alpha)
    return model


def by_lstsq(
    parents: Sequence[Net], samples: Sequence[CalibrationExamples], shares: list[float], alpha: float
) -> list[np.ndarray]:
    """Layer after layer, the stacked rows given to numpy's solver."""
    hats = [sample.inputs["x"].double().numpy() for sample in samples]
    own, fitted = [x.copy() for x in hats], []

    def sample(x: np.ndarray) -> np.ndarray:
        return np.hstack([x, np.ones((len(x), 1))])

    for layer in range(3):
        weights = [
            np.hstack(
                [p.layers[layer].weight.detach().numpy(), p.layers[layer].bias.detach().numpy()[:, None]]
            )
            for p in parents
        ]
        targets = [
            (alpha * sample(x) + (1 - alpha) * sample(hat)) @ w.T
            for x, hat, w in zip(own, hats, weights, strict=True)
        ]
        roots = np.sqrt(shares)
        merged = np.linalg.lstsq(
            np.vstack([r * sample(hat) for r, hat in zip(roots, hats, strict=True)]),
            np.vstack([r * y for r, y in zip(roots, targets, strict=True)]),
            rcond=None,
        )[0]
        fitted.append(merged.T)
        hats = [np.maximum(sample(hat) @ merged, 0) for hat in hats]
        own = [np.maximum(sample(x) @ w.T, 0) for x, w in zip(own, weights, strict=True)]
    return fitted


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0])
def test_every_layer_is_the_least_squares_of_the_papers_on_what_the_merged_layers_below_make(
    alpha: float,
) -> None:
    parents, samples, shares = nets(), [shown(1), shown(2, 60)], [0.3, 0.7]
    model = calibrated(parents, samples, shares, alpha)
    for layer, expected in zip(model.layers, by_lstsq(parents, samples, shares, alpha), strict=True):
        got = torch.cat([layer.weight, layer.bias[:, None]], 1).detach().numpy()
        np.testing.assert_allclose(
            got, expected, atol=0.02 * np.abs(expected).max()
        )  # the ridge is not in the oracle


def test_the_parents_own_features_as_target_come_nearer_to_their_outputs() -> None:
    parents, samples = nets(3), [shown(i, 300) for i in range(3)]

    def error(alpha: float) -> float:
        model = calibrated(parents, samples, [1 / 3] * 3, alpha)
        with torch.no_grad():
            return sum(
                float(F.mse_loss(model(sample.inputs["x"]), parent(sample.inputs["x"])))
                for sample, parent in zip(samples, parents, strict=True)
            )

    assert error(1.0) < 0.9 * error(0.0)


def test_equal_parents_are_merged_into_themselves() -> None:
    model = calibrated([Net(0), Net(0)], [shown(1), shown(2)], [0.5, 0.5], 1.0)
    for merged, parent in zip(model.parameters(), Net(0).parameters(), strict=True):
        torch.testing.assert_close(merged, parent, atol=1e-3, rtol=1e-3)


def test_a_parent_without_examples_has_no_say() -> None:
    parents, samples = nets(), [shown(1), shown(2, 0)]
    model, x = calibrated(parents, samples, [0.5, 0.5], 1.0), samples[0].inputs["x"]
    torch.testing.assert_close(model(x), parents[0](x), atol=0.02, rtol=0.02)


def test_inputs_that_are_not_finite_are_a_divergence() -> None:
    bad = Net(1)
    bad.layers[0].weight.data[0, 0] = float("inf")
    with pytest.raises(Diverged):
        calibrated([Net(0), bad], [shown(1), shown(2)], [0.5, 0.5], 1.0)


def llama(seed: int, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=272, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
            tie_word_embeddings=tied,
        )
    ).eval()  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
def test_a_transformer_is_calibrated_in_memory_and_a_tied_head_stays_the_embedding(tied: bool) -> None:
    parents = [llama(0, tied), llama(1, tied)]
    states = [{name: p.detach() for name, p in model.named_parameters()} for model in parents]
    space = SearchSpace(parents=2, groups=3, methods=("linear", "featcal"), has_base=False, layers=2)
    items = mixture({"copy": 1.0, "max": 1.0}, [1], "train", 0, 0, 32)
    teachers = np.arange(32) % 2
    merged = MergedModel(
        llama(2, tied),
        GenomeMerger(ParentTensors(parents=states), space, layer_groups=2, seed=0),
        lambda: calibration_examples(items, teachers, 2, byte_tokenizer(), "cpu"),
    )
    samples = calibration_examples(items, teachers, 2, byte_tokenizer(), "cpu")

    def error(genome: Genome) -> float:
        model = merged.load(genome).eval()
        with torch.no_grad():
            return sum(
                float(
                    F.mse_loss(
                        model(**sample.inputs).logits[sample.used],
                        parent(**sample.inputs).logits[sample.used],
                    )
                )
                for sample, parent in zip(samples, parents, strict=True)
            )

    soup = error(space.default("linear"))
    plain = {name: tensor.clone() for name, tensor in merged.load(space.default("linear")).named_parameters()}
    assert error(Genome("featcal", ((1, 1),) * 3, alpha=20)) < (1.0 if tied else 0.8) * soup
    fitted = dict(merged.load(Genome("featcal", ((1, 1),) * 3, alpha=20)).named_parameters())
    assert torch.equal(fitted["model.embed_tokens.weight"], plain["model.embed_tokens.weight"])
    assert not torch.equal(
        fitted["model.layers.1.mlp.down_proj.weight"], plain["model.layers.1.mlp.down_proj.weight"]
    )
    assert "lm_head.weight" in fitted or tied


def test_an_item_is_taught_by_the_parent_that_answers_it_best() -> None:
    def of(*nll: float) -> AnswerScores:
        return AnswerScores(np.arange(3), np.zeros(3, bool), np.array(nll), np.array([1, 2, 1]))

    teachers = best_parent([of(1.0, 4.0, 2.0), of(0.5, 6.0, 2.0)])
    assert teachers.tolist() == [1, 0, 0]
    items = mixture({"copy": 1.0}, [1], "train", 0, 0, 3)
    first, second = calibration_examples(items, teachers, 2, byte_tokenizer(), "cpu")
    assert first.used.shape[0] == 2 and second.used.shape[0] == 1
    assert first.used.shape[1] == second.used.shape[1]
