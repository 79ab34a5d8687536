"""One stage: what it learns from, what it leaves, and that a ternary model stays ternary."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.bitnet.conversion import convert
from components.shared.evaluation.answers import loss
from components.shared.models.build import build
from components.shared.models.loading import load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import hidden_matrices
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import mixture
from components.shared.tasks.tokenizer import byte_tokenizer
from components.training.settings import Settings, Stage, all_levels
from components.training.stage import Learner, train

TOKENIZER = byte_tokenizer()
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def cognate(**more):
    return build(CognateConfig(**SHAPE, **more), seed=3)


def stage(kind="adaptation", **more):
    return Stage(**{"name": kind, "kind": kind, "steps": 4, "levels": [1]} | more)


def settings(**more):
    ten = [stage(name=str(number)) for number in range(10)]
    return Settings(**{"stages": ten, "tasks": {"copy": 1.0, "chain": 1.0}, "batch": 8, "lr": 0.01} | more)


def state(**more):
    keys = {"within": 0, "done": 0, "rates": {}, "curve": [], "success": [], "unsteered": [], "dreams": []}
    return copy.deepcopy(keys) | more


def go(model, chosen, folder, *, known=None, every=10**9, **more):
    return train(
        model,
        model,
        TOKENIZER,
        chosen,
        settings(**more),
        state() if known is None else known,
        seed=1,
        checkpoints=Checkpoints(str(folder), "test", every=every),
        report=lambda entropy, success: None,
    )


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_seed_gives_the_same_weights_and_every_kind_of_stage_changes_them(tmp_path):
    start = weights(cognate())
    dreams = [[[257, 1, 2], [3, 258]], [[257, 4], [5, 258]]]
    for kind in ("adaptation", "edge_of_chaos", "dreaming", "self_modelling", "stabilisation"):
        once, again = (
            weights(go(cognate(), stage(kind), tmp_path, known=state(dreams=dreams))) for _ in range(2)
        )
        assert same(once, again) and not same(once, start)


def test_training_lowers_the_held_out_loss_of_what_it_trains(tmp_path):
    model = cognate()
    items = mixture({"copy": 1.0, "chain": 1.0}, [1], "search", 0, 0, 32)
    before = loss(model, TOKENIZER, items)
    after = loss(go(model, stage(steps=30), tmp_path), TOKENIZER, items)
    assert after < 0.7 * before


def test_stabilisation_leaves_the_average_of_the_weights_on_the_way(tmp_path):
    """Step by step from the same start: average ← ½·average + ½·weights."""
    path = [weights(cognate())]

    class Spy(Checkpoints):
        def due(self):
            path.append(weights(model))
            return False

    model = cognate()
    average = train(
        model, model, TOKENIZER, stage("stabilisation"), settings(average=0.5), state(), seed=1,
        checkpoints=Spy(str(tmp_path), "test"), report=lambda entropy, success: None,
    )  # fmt: skip
    name = "model.layers.0.mlp.up_proj.weight"
    expected = path[0][name]
    for visited in path[1:]:
        expected = expected / 2 + visited[name] / 2
    torch.testing.assert_close(average.state_dict()[name], expected)
    assert len(path) == 5


def test_success_is_measured_on_fresh_items_and_kept_by_cell(tmp_path):
    known = state()
    go(cognate(), stage("edge_of_chaos", levels={"copy": [1, 2], "chain": [1]}), tmp_path, known=known)
    assert set(known["rates"]) <= {"copy 1", "copy 2", "chain 1"} and known["rates"]
    assert len(known["success"]) == len(known["unsteered"]) == known["within"] == 4


def test_passing_rows_in_parts_of_like_length_changes_nothing_but_the_padding(tmp_path):
    """In float64: Muon rounds to bfloat16 within, which makes a visible step of the last bit of a float32 sum."""
    whole, parts = (
        weights(go(cognate().double(), stage(levels=[1, 3], steps=2), tmp_path, rows=rows))
        for rows in (64, 3)
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=2e-4, rtol=1e-3)


def test_a_stage_may_have_tasks_of_its_own(tmp_path):
    known = state()
    go(cognate(), stage(tasks={"sort": 1.0}), tmp_path, known=known)
    assert set(known["rates"]) == {"sort 1"}
    stages = [stage(name="a", tasks={"sort": 1.0}, levels=[2]), *(stage(name=str(n)) for n in range(9))]
    assert all_levels(settings(stages=stages)) == {"sort": [2], "copy": [1], "chain": [1]}


def test_an_untied_output_head_is_left_to_adamw_in_every_kind_of_stage():
    """Muon orthogonalises maps between hidden states; the head is none, self-model beside it or not."""
    model = LlamaForCausalLM(LlamaConfig(vocab_size=272, tie_word_embeddings=False, **SHAPE))
    alone = {id(p) for p in hidden_matrices(Learner(model, None))}
    with_read_out = {id(p) for p in hidden_matrices(Learner(model, torch.nn.Linear(32, 32)))}
    assert id(model.lm_head.weight) not in alone | with_read_out
    assert len(with_read_out - alone) == 1


def test_a_refinement_learns_when_to_halt(tmp_path):
    """A network that ponders is trained on its own loss: the halting head gets a gradient through all of its steps."""
    model = cognate(refinement=True, refinement_size=32)
    before = weights(model)
    go(model, stage(), tmp_path)
    assert not torch.equal(model.model.refinement.halt.bias, before["model.refinement.halt.bias"])


def test_a_loss_that_is_not_finite_stops_with_its_stage_named(tmp_path):
    model = cognate()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PhaseFailed, match="edge_of_chaos"):
        go(model, stage("edge_of_chaos"), tmp_path)


def test_a_ternary_model_stays_ternary_with_the_same_bytes(tmp_path):
    model = cognate()
    convert(model, {})
    save(model, TOKENIZER, tmp_path / "before", card="")
    loaded, _ = load(tmp_path / "before", trainable=True)
    save(loaded, TOKENIZER, tmp_path / "unchanged", card="")
    trained = go(loaded, stage(steps=6), tmp_path / "checkpoints", lr=0.05)
    save(trained, TOKENIZER, tmp_path / "after", card="")
    read = {
        name: (tmp_path / name / "model.safetensors").read_bytes()
        for name in ("before", "unchanged", "after")
    }
    assert read["before"] == read["unchanged"] != read["after"]
    assert len(read["before"]) == len(read["after"])
    stored, _ = load(tmp_path / "after")
    old, _ = load(tmp_path / "before")
    path = "model.layers.0.mlp.up_proj"
    assert len(stored.get_submodule(path).weight.unique()) == 3
    assert not torch.equal(stored.get_submodule(path).code, old.get_submodule(path).code)
    ids = torch.arange(20)[None]
    torch.testing.assert_close(stored(input_ids=ids).logits, trained(input_ids=ids).logits)
