"""Whole models: groups, variants with modules of their own, paths, refusals."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from components.evomerge.evaluation.genome_merger import Diverged, GenomeMerger, ParentTensors
from components.evomerge.evaluation.merged_model import MergedModel
from components.evomerge.evaluation.parents import tensors_of
from components.evomerge.search.genome import UNIT, Genome
from components.evomerge.search.space import SearchSpace
from components.shared.merging.layer_groups import layer_stack
from components.shared.merging.methods.activations.regmean import regmean
from components.shared.merging.methods.layers.dfs import indicator
from components.shared.merging.methods.task_vectors.ties import ties
from tests.unit.evomerge.landscape import EVERYTHING, TENSORWISE

CONFIG = LlamaConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=3,
    num_attention_heads=2,
    num_key_value_heads=2,
    rms_norm_eps=1e-9,
)
IDS = torch.arange(24).view(2, 12) % 40


def llama(seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    return LlamaForCausalLM(CONFIG).eval()


@pytest.fixture(scope="module")
def family() -> tuple[LlamaForCausalLM, list[LlamaForCausalLM]]:
    """A trunk and three models near to it."""
    trunk = llama(0)
    children = [copy.deepcopy(trunk) for _ in range(3)]
    for seed, child in enumerate(children):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in child.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return trunk, children


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def merged_model(
    family, layer_groups: int = 3, *, repeats: int = 1, deepest: int = 6, **models
) -> MergedModel:
    trunk, children = family
    models = {"parents": [tensors_of(child) for child in children], "base": tensors_of(trunk)} | models
    whole = ParentTensors(**models)
    space = SearchSpace(
        parents=len(children),
        groups=layer_groups + 1,
        methods=EVERYTHING,
        layers=3,
        repeats=repeats,
        deepest=deepest,
    )
    merger = GenomeMerger(whole, space, layer_groups=layer_groups, seed=5)
    return MergedModel(copy.deepcopy(trunk), merger, list)


def rows(*row: int) -> tuple[tuple[int, ...], ...]:
    return (row,) * 4


def test_the_genomes_of_base_and_parents_are_these_models_bit_for_bit(family) -> None:
    trunk, children = family
    model_in_memory = merged_model(family)
    assert torch.equal(logits(model_in_memory.load(model_in_memory.merger.space.base())), logits(trunk))
    for index, child in enumerate(children):
        assert torch.equal(
            logits(model_in_memory.load(model_in_memory.merger.space.parent(index))), logits(child)
        )


def test_each_layer_group_has_its_own_weights(family) -> None:
    _, children = family
    genome = Genome("linear", ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)))
    merged = dict(merged_model(family).merger.merged(genome))
    states = [tensors_of(child) for child in children]
    for layer in range(3):
        name = f"model.layers.{layer}.self_attn.q_proj.weight"
        assert torch.equal(merged[name], states[layer][name])
    embedding = "model.embed_tokens.weight"
    torch.testing.assert_close(merged[embedding], (states[0][embedding] + states[1][embedding]) / 2)


def test_two_groups_split_three_layers_in_order() -> None:
    stack = layer_stack(f"model.layers.{i}.w" for i in range(3))
    assert [stack.group(f"model.layers.{i}.w", 2) for i in range(3)] == [0, 0, 1]
    assert stack.group("model.norm.weight", 2) == 2


def test_layers_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="numbered"):
        layer_stack(["h.0.w", "h.2.w"])


def test_ties_trims_the_task_vector_of_the_whole_model_as_in_the_paper(family) -> None:
    trunk, children = family
    base, states = tensors_of(trunk), [tensors_of(child) for child in children]
    flat = [torch.cat([(state[name] - base[name]).flatten() for name in base]) for state in states]
    limits = [float(task.abs().sort(descending=True).values[-(-len(task) // 5) - 1]) for task in flat]
    expected = ties(flat, [1 / 3] * 3, limits)
    merged = dict(merged_model(family).merger.merged(Genome("ties", rows(1, 1, 1), density=4)))
    steps = torch.cat([(merged[name] - base[name]).flatten() for name in base])
    torch.testing.assert_close(steps, expected, rtol=1e-4, atol=1e-5)


def test_regmean_uses_the_grams_of_linear_layers_and_averages_the_rest(family) -> None:
    _, children = family
    name, plain = "model.layers.1.mlp.up_proj.weight", "model.norm.weight"
    states = [tensors_of(child) for child in children]
    inputs = [torch.randn(50, 16, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    grams = [{name: x.T @ x / 50} for x in inputs]
    merged = dict(merged_model(family, grams=grams).merger.merged(Genome("regmean", rows(1, 1, 1))))
    expected = regmean([s[name] for s in states], [g[name] for g in grams], [1 / 3] * 3, 0.9)
    assert torch.equal(merged[name], expected)
    torch.testing.assert_close(merged[plain], sum(s[plain] for s in states) / 3)


def test_dare_does_not_depend_on_the_order_of_the_tensors(family) -> None:
    _, children = family
    genome = Genome("dare_ties", rows(1, 2, 1), density=9)
    forward = dict(merged_model(family).merger.merged(genome))
    backward = [dict(reversed(tensors_of(child).items())) for child in children]
    reordered = dict(merged_model(family, parents=backward).merger.merged(genome))
    assert all(torch.equal(forward[name], reordered[name]) for name in forward)


def test_a_module_that_only_one_parent_has_comes_from_it_and_its_gate_is_weighed() -> None:
    shared = {"layers.0.w": torch.tensor([1.0]), "layers.1.w": torch.tensor([2.0])}
    added = {"memory.gate": torch.zeros(2), "memory.k": torch.full((2,), 9.0)}
    owner = shared | {"memory.gate": torch.tensor([0.5, -1.0]), "memory.k": torch.tensor([3.0, 4.0])}
    models = ParentTensors(
        parents=[shared | added, owner],
        base=shared,
        owned=[frozenset(shared), frozenset(owner)],
    )
    space = SearchSpace(parents=2, groups=2, methods=EVERYTHING, layers=2)
    merger = GenomeMerger(models, space, layer_groups=1, seed=0)
    for method in TENSORWISE:
        merged = dict(merger.merged(Genome(method, ((1, 1), (1, 3)), (UNIT, UNIT), density=10)))
        assert merged["memory.k"].tolist() == [3.0, 4.0]
        assert merged["memory.gate"].tolist() == pytest.approx([0.375, -0.75])
    closed = dict(merger.merged(space.base()))
    assert closed["memory.gate"].tolist() == [0.0, 0.0]
    first = dict(merger.merged(space.parent(0)))
    assert first["memory.gate"].tolist() == [0.0, 0.0]


def scaled_path(children: list[LlamaForCausalLM], path, scales: dict[int, float], embed: nn.Module) -> Tensor:
    """The path walked literally: the hidden state is multiplied where the path jumps."""
    walk = copy.deepcopy(children[0])
    layers = nn.ModuleList(copy.deepcopy(children[parent].model.layers[layer]) for parent, layer in path)
    for position, layer in enumerate(layers):
        layer.self_attn.layer_idx = position
        scale = scales.get(position, 1.0)
        layer.register_forward_pre_hook(lambda _, args, scale=scale: (args[0] * scale, *args[1:]))
    walk.model.layers, walk.config.num_hidden_layers = layers, len(path)
    walk.model.embed_tokens = embed
    return logits(walk)


@pytest.mark.parametrize("deep", [False, True])
def test_a_path_with_scaled_jumps_is_the_walk_through_these_layers(family, deep: bool) -> None:
    _, children = family
    path = ((0, 0), (0, 1), (1, 1), (2, 2), (0, 2)) if deep else ((0, 0), (1, 1), (2, 2))
    model_in_memory = merged_model(family, repeats=2, deepest=6)
    slots = indicator(path, 3, 3, 2)
    hops, chosen = [UNIT] * 18, iter([UNIT, UNIT, 13, 25, 16] if deep else [UNIT, 13, 25])
    for slot, on in enumerate(slots):
        if on:
            hops[slot] = next(chosen)
    genome = model_in_memory.merger.space.canonical(
        Genome("dfs", rows(1, 0, 0), path=slots, hops=tuple(hops))
    )
    scales = {2: 13 / 20, 3: 25 / 20, 4: 16 / 20} if deep else {1: 13 / 20, 2: 25 / 20}
    expected = scaled_path(children, path, scales, children[0].model.embed_tokens)
    model = model_in_memory.load(genome)
    assert model.config.num_hidden_layers == len(path)
    torch.testing.assert_close(logits(model), expected, rtol=1e-3, atol=1e-4)
    unscaled = scaled_path(children, path, {}, children[0].model.embed_tokens)
    assert (expected - unscaled).abs().max() > 0.01
    plain = model_in_memory.load(model_in_memory.merger.space.canonical(replace(genome, hops=(UNIT,) * 18)))
    torch.testing.assert_close(logits(plain), unscaled, rtol=1e-3, atol=1e-4)


def test_a_merge_that_is_not_finite_is_a_failure_and_names_the_tensor(family) -> None:
    _, children = family
    states = [tensors_of(child) for child in children]
    states[1] = states[1] | {"model.norm.weight": torch.full((16,), float("inf"))}
    model_in_memory = merged_model(family, parents=states)
    with pytest.raises(Diverged, match=r"model\.norm\.weight"):
        model_in_memory.load(Genome("linear", rows(1, 1, 1)))


def drop(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "norm" not in name}


def widen(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return state | {"model.embed_tokens.weight": torch.zeros(41, 16)}


@pytest.mark.parametrize(
    ("break_it", "message"),
    [(drop, r"other tensors: model\.layers"), (widen, r"shapes in model\.embed_tokens\.weight")],
)
def test_parents_that_do_not_fit_are_refused_by_name(
    family, break_it: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str
) -> None:
    _, children = family
    states = [tensors_of(child) for child in children]
    with pytest.raises(ValueError, match=message):
        ParentTensors(parents=[states[0], break_it(states[1])])
    with pytest.raises(ValueError, match="does not fit"):
        ParentTensors(parents=states, base=widen(states[0]))
