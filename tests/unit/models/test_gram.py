"""Gram matrices of layer inputs."""

import pytest
import torch
from safetensors import safe_open

from components.shared.models.gram import FILE, capture_grams, load_grams, save_grams
from components.shared.runtime.errors import ArtifactError

from .test_coded import coded_twin
from .variants import cognate, some_ids


def inputs_of(model, path, batches):
    seen = []
    handle = model.get_submodule(path).register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        for batch in batches:
            model(**batch)
    handle.remove()
    return seen


def two_batches():
    first, second = some_ids(3, 12), some_ids(2, 7, seed=1)
    mask = torch.ones_like(first)
    mask[1, 8:] = 0
    return [{"input_ids": first, "attention_mask": mask}, {"input_ids": second}]


@pytest.mark.parametrize("path", ["model.layers.2.mlp.down_proj", "model.memory.k_proj"])
def test_a_gram_matrix_is_the_mean_outer_product_of_the_real_inputs(path):
    model, batches = cognate("union"), two_batches()
    first, second = inputs_of(model, path, batches)
    rows = torch.cat([first[batches[0]["attention_mask"].bool()], second.flatten(0, 1)]).double()
    assert len(rows) == 3 * 12 - 4 + 2 * 7
    torch.testing.assert_close(capture_grams(model, batches)[path], (rows.T @ rows / len(rows)).float())


def test_a_layer_that_runs_twice_for_a_token_counts_both_runs():
    model, batches = cognate("reasoning", refinement_steps=2), [{"input_ids": some_ids(2, 5)}]
    path = "model.refinement.block.mlp.up_proj"
    rows = torch.cat(inputs_of(model, path, batches)).flatten(0, 1)
    torch.testing.assert_close(capture_grams(model, batches)[path], rows.T @ rows / len(rows))


def test_coded_layers_have_gram_matrices_too():
    model, batches = cognate(), two_batches()
    assert capture_grams(coded_twin(model), batches).keys() == capture_grams(model, batches).keys()


def test_capturing_leaves_no_hook_behind():
    model = cognate()
    capture_grams(model, two_batches())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_saving_and_loading_gives_them_back_and_writes_shared_inputs_once(tmp_path):
    grams = capture_grams(cognate("union"), two_batches())
    save_grams(grams, tmp_path)
    back = load_grams(tmp_path)
    assert back.keys() == grams.keys() and all(torch.equal(back[path], grams[path]) for path in grams)
    with safe_open(tmp_path / FILE, "pt") as file:
        kept = set(file.keys())
    layer = "model.layers.0"
    assert len(kept & {f"{layer}.self_attn.{name}_proj" for name in "qkv"}) == 1
    assert len(kept & {f"{layer}.mlp.{name}_proj" for name in ("gate", "up", "down")}) == 2


def test_an_artifact_without_them_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=f"no Gram matrices.*{FILE} is missing"):
        load_grams(tmp_path)
