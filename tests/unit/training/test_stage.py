"""One stage: what it learns from, what it leaves, and that a ternary model stays ternary."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.bitnet.conversion import convert
from components.shared.evaluation.answers import batches, loss
from components.shared.models.build import build
from components.shared.models.loading import load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.optim.optimizer import build_optimizer, hidden_matrices
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.tasks.batches import mixture
from components.shared.tasks.room import Room
from components.shared.tasks.tokenizer import byte_tokenizer
from components.training.edge_of_chaos import Edge
from components.training.settings import Settings, Stage, all_levels
from components.training.stage import Learner, train
from components.training.step_batches import StepBatches, dreams_in_a_step, dreamt_part, items_at_the_edge

TOKENIZER = byte_tokenizer()
TASKS = {"copy": 1.0, "chain": 1.0}
DREAMS = [[[257, 1, 2], [3, 258]], [[257, 4], [5, 258]]]
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


def cognate(**more):
    return build(CognateConfig(**SHAPE, **more), seed=3)


def stage(name, **more):
    return Stage(**{"name": name, "kind": "adaptation", "steps": 4, "levels": [1]} | more)


def settings(**more):
    ten = [stage(name=str(number)) for number in range(10)]
    return Settings(**{"stages": ten, "tasks": TASKS, "lr": 0.01} | more)


def state(**more):
    keys = {"within": 0, "done": 0, "rates": {}, "loss": [], "success": [], "unsteered": []}
    return copy.deepcopy(keys) | more


def run_stage(model, checkpoints, kind, *, steps=4, levels=(1,), tasks=TASKS, rows=64, lr=0.01, **more):
    """One stage on the model, of 8 items a step; `more`: average, and the state to go on with."""
    known = more.get("state", state())
    edge = Edge(tasks, levels, known["rates"], target=0.65, memory=0.9)

    def draw(step):
        if kind == "edge_of_chaos":
            items = items_at_the_edge(edge, 8, 0.0, Room(TOKENIZER, None), stage=kind, seed=1, step=step)
        else:
            items = mixture(tasks, levels, "train", 1, step, 4 if kind == "dreaming" else 8)
        parts = list(batches(items, TOKENIZER, rows))
        if kind == "dreaming":
            parts.append(dreamt_part(DREAMS, 4, 256, stage=kind, seed=1, step=step))
        return StepBatches([(item.task, item.level) for item in items], parts)

    train(
        model,
        None,
        draw,
        edge,
        known,
        name=kind,
        kind=kind,
        steps=steps,
        optimizer_of=lambda learner: build_optimizer(learner, "muon", lr),
        clip=1.0,
        self_weight=0.1,
        average=more.get("average", 0.95),
        checkpoints=checkpoints,
        report=lambda step, metrics: None,
    )
    return model


def go(model, folder, kind="adaptation", **more):
    return run_stage(model, Checkpoints(str(folder), "test", every=10**9), kind, **more)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(ours, theirs):
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_same_seed_gives_the_same_weights_and_every_kind_of_stage_changes_them(tmp_path):
    start = weights(cognate())
    for kind in ("adaptation", "edge_of_chaos", "dreaming", "self_modelling", "stabilisation"):
        once, again = (weights(go(cognate(), tmp_path, kind)) for _ in range(2))
        assert same(once, again) and not same(once, start)


def test_training_lowers_the_held_out_loss_of_what_it_trains(tmp_path):
    model = cognate()
    items = mixture({"copy": 1.0, "chain": 1.0}, [1], "search", 0, 0, 32)
    before = loss(model, TOKENIZER, items)
    after = loss(go(model, tmp_path, steps=30), TOKENIZER, items)
    assert after < 0.7 * before


def test_stabilisation_leaves_the_average_of_the_weights_on_the_way(tmp_path):
    """Step by step from the same start: average ← ½·average + ½·weights."""
    path = [weights(cognate())]

    class Spy(Checkpoints):
        def due(self):
            path.append(weights(model))
            return False

    model = cognate()
    average = run_stage(model, Spy(str(tmp_path), "test"), "stabilisation", average=0.5)
    name = "model.layers.0.mlp.up_proj.weight"
    expected = path[0][name]
    for visited in path[1:]:
        expected = expected / 2 + visited[name] / 2
    torch.testing.assert_close(average.state_dict()[name], expected)
    assert len(path) == 5


def test_success_is_measured_on_fresh_items_and_kept_by_cell(tmp_path):
    known = state()
    go(cognate(), tmp_path, "edge_of_chaos", levels={"copy": [1, 2], "chain": [1]}, state=known)
    assert set(known["rates"]) <= {"copy 1", "copy 2", "chain 1"} and known["rates"]
    assert len(known["success"]) == len(known["unsteered"]) == known["within"] == 4


def test_passing_rows_in_parts_of_like_length_changes_nothing_but_the_padding(tmp_path):
    """In float64: Muon computes in float32 within, whose last bit differs from machine to machine."""
    whole, parts = (
        weights(go(cognate().double(), tmp_path, levels=[1, 3], steps=2, rows=rows)) for rows in (64, 3)
    )
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, atol=2e-4, rtol=1e-3)


def test_a_step_dreams_at_least_one_row_and_at_least_one_item_is_real():
    assert [dreams_in_a_step(share, 8) for share in (0.01, 0.5, 0.99)] == [1, 4, 7]


def test_a_stage_may_have_tasks_of_its_own():
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
    go(model, tmp_path)
    assert not torch.equal(model.model.refinement.halt.bias, before["model.refinement.halt.bias"])


def test_a_loss_that_is_not_finite_stops_with_its_stage_named(tmp_path):
    model = cognate()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(PhaseFailed, match="edge_of_chaos"):
        go(model, tmp_path, "edge_of_chaos")


def test_a_ternary_model_stays_ternary_with_the_same_bytes(tmp_path):
    model = cognate()
    convert(model, {})
    save(model, TOKENIZER, tmp_path / "before", card="")
    loaded, _ = load(tmp_path / "before", trainable=True)
    save(loaded, TOKENIZER, tmp_path / "unchanged", card="")
    trained = go(loaded, tmp_path / "checkpoints", steps=6, lr=0.05)
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
