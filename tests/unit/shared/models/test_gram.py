"""Gram matrices of layer inputs."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from components.shared.models.gram import FILE, capture_grams, load_grams, map_grams, save_grams
from components.shared.models.gram_file import write_grams
from components.shared.runtime.errors import ArtifactError

from .remote_code.test_coded import coded_twin
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


class Fickle(torch.nn.Module):
    """Layers whose inputs are the same at times, and at times not."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (torch.nn.Linear(3, 3) for _ in range(4))

    def forward(self, x, way):
        y = x + 1
        for name in way:
            getattr(self, name.lower())(x if name.islower() else y)


@pytest.mark.parametrize(
    ("ways", "sums"),
    [
        (["abcd", "abcd"], 1),  # always together
        (["abcd", "aBcd", "abcd"], 3),  # b leaves the others for one run
        (["abc", "bc", "abc", "a"], 2),  # a and the others run without each other
        (["aab", "abA", "d", "abcd"], 4),  # a runs twice on one tensor, then on two
        (["abCD", "ABcd", "acbd"], 2),
    ],
)
def test_layers_share_a_sum_for_as_long_as_they_share_their_inputs(ways, sums, tmp_path):
    torch.manual_seed(0)
    model, batches = Fickle(), [{"x": torch.randn(5, 3), "way": way} for way in ways]
    grams, files = capture_grams(model, batches), map_grams(model, batches, tmp_path)
    assert set(grams) == set(files) == {name for way in ways for name in way.lower()}
    for name in grams:
        rows = torch.cat([b["x"] + (n != name) for b in batches for n in b["way"] if n.lower() == name])
        torch.testing.assert_close(grams[name], rows.T @ rows / len(rows))
        torch.testing.assert_close(torch.from_numpy(np.load(files[name])), grams[name])
    assert len(set(files.values())) == sums


def test_sums_in_files_equal_those_in_memory_and_layers_with_one_input_have_one_file(tmp_path):
    model, batches = cognate("union"), two_batches()
    grams, files = capture_grams(model, batches), map_grams(model, batches, tmp_path)
    assert files.keys() == grams.keys()
    for path, file in files.items():
        torch.testing.assert_close(torch.from_numpy(np.load(file)), grams[path])
    layer = "model.layers.0"
    assert len({files[f"{layer}.self_attn.{name}_proj"] for name in "qkv"}) == 1
    assert len({files[f"{layer}.mlp.{name}_proj"] for name in ("gate", "up", "down")}) == 2


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


def test_matrices_summed_in_the_file_are_those_summed_in_memory(tmp_path):
    model, batches = cognate("union"), two_batches()
    save_grams(capture_grams(model, batches), tmp_path)
    kept, folder = load_grams(tmp_path), tmp_path / "streamed"
    folder.mkdir()
    write_grams(model, batches, folder, held=0)
    streamed = load_grams(folder)
    assert streamed.keys() == kept.keys()
    for path, gram in kept.items():
        torch.testing.assert_close(streamed[path], gram, rtol=1e-5, atol=1e-6)
    q, k, v = (f"model.layers.0.self_attn.{name}_proj" for name in "qkv")
    assert streamed[q].data_ptr() == streamed[k].data_ptr() == streamed[v].data_ptr()


def test_small_models_have_the_same_file_either_way(tmp_path):
    model, batches = cognate("standard"), two_batches()
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    save_grams(capture_grams(model, batches), folders[0])
    write_grams(model, batches, folders[1])
    assert (folders[0] / FILE).read_bytes() == (folders[1] / FILE).read_bytes()
