"""A folder of a model from anywhere: no code of its own is run, no number in it becomes memory, and errors have words."""

import json
import os
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.models.loading import decode_all, load, save, wrap
from components.shared.models.remote_code.coded import Coded
from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.errors import ArtifactError
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.generate import TextModel

from .hostile import AUTO_MAP, EVIL, GOOD, outcome, small_models, tamper
from .remote_code.test_coded import coded_twin
from .test_loading import llama


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return small_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def folder(models, tmp_path):
    """A Llama with code beside it that would leave a mark."""
    shutil.copytree(models[0], tmp_path / "model")
    (tmp_path / "model" / "evil.py").write_text(EVIL.format(marker=str(tmp_path / "marker")))
    yield tmp_path / "model"
    assert not (tmp_path / "marker").exists()


def change(folder, name="config.json", **values):
    content = json.loads((folder / name).read_text()) | values
    (folder / name).write_text(json.dumps(content))


CONFIGS = {
    "no model_type": ({"model_type": None}, "names no model type"),
    "an unknown model type": ({"model_type": "lama"}, "'lama' is unknown.*did you mean llama"),
    "a huge width": ({"hidden_size": 10**9}, "hidden_size is 1,000,000,000"),
    "a width in words": ({"hidden_size": "32"}, "describes no model"),
    "no heads": ({"num_attention_heads": 0}, "describes no model"),
    "a negative vocabulary": ({"vocab_size": -1}, "config.json"),
    "a large vocabulary": ({"vocab_size": 10**6}, "larger model than its weights"),
    "a billion layers": ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1,000,000,000"),
    "an unknown activation": ({"hidden_act": "evil"}, "describes no model"),
    "an unknown dtype": ({"dtype": "evil"}, "evil"),
    "an unknown rope": ({"rope_parameters": {"rope_type": "evil"}}, "config.json|cannot be loaded"),
    "a quantised model": (
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
        "quantised .gptq..*give the model",
    ),
    "a kernel of a hub": (
        {"attn_implementation": "org/kernel"},
        "attn_implementation names code from elsewhere",
    ),
    "a kernel below": ({"text_config": {"_attn_implementation": "org/kernel"}}, "names code from elsewhere"),
    "a model of its own code": ({"auto_map": AUTO_MAP, "model_type": "mine"}, "which is not run"),
    "a wrapped one": (
        {"model_type": "forge_wrapped", "inner": {"model_type": "mine", "auto_map": AUTO_MAP}},
        "'mine' is unknown",
    ),
    "codes that are none": ({"storage": {"lm_head": 3}}, "does not say how lm_head is stored"),
    "codes of nothing": (
        {"storage": {"lm_head": {"codec": "scalar", "shape": [16384, 16384], "bytes": 48}}},
        "more weights than its codes can hold",
    ),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_that_asks_for_too_much_or_for_nothing_is_refused_in_words(case, folder):
    values, said = CONFIGS[case]
    change(folder, **values)
    with pytest.raises(ArtifactError, match=said):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("text", ["[]", "[" * 100_000, '{"a":', "null"])
def test_what_is_no_json_object_is_refused(name, text, folder):
    (folder / name).write_text(text)
    with pytest.raises(ArtifactError, match="not a JSON"):
        load(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "model.safetensors.index.json"])
def test_a_pipe_in_a_files_place_is_refused_and_not_waited_for(name, folder):
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(ArtifactError, match="neither a file"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_is_named_beside_a_known_type_is_not_run(name, folder):
    change(folder, name, auto_map=AUTO_MAP)
    assert type(load(folder)[0]).__name__ == "LlamaForCausalLM"


def test_an_adapter_is_refused_with_what_to_do(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/model"}')
    with pytest.raises(ArtifactError, match="merge_and_unload"):
        load(folder)


def test_the_root_of_a_hubs_cache_says_where_its_model_lies(folder, tmp_path):
    root = tmp_path / "models--org--name"
    shutil.copytree(folder, root / "snapshots" / "abc")
    for read in (load, adopt):
        with pytest.raises(ArtifactError, match=r"hub's cache.*give .*snapshots/abc"):
            read(root)


def test_an_artifact_that_was_changed_after_it_was_sealed_is_not_loaded(folder):
    (folder / "evil.py").unlink()
    seal(folder, kind="model", phase="test")
    assert TextModel.load(folder)
    change(folder, bos_token_id=3)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        TextModel.load(folder)


@pytest.mark.parametrize("trainable", [True, False])
def test_a_code_that_cannot_be_read_is_refused_by_the_name_of_its_layer(trainable, tmp_path):
    save(coded_twin(wrap(llama())), byte_tokenizer(), tmp_path, card="")
    tensors = load_file(tmp_path / "model.safetensors")
    code = tensors["inner.model.layers.0.mlp.up_proj.code"]
    code[10] = 255
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"layers\.0\.mlp\.up_proj cannot be decoded"):
        load(tmp_path, trainable=True) if trainable else decode_all(load(tmp_path)[0], tmp_path)


def test_a_coded_layer_is_decoded_when_a_model_is_asked_to_be(tmp_path):
    model = coded_twin(wrap(llama()))
    decode_all(model, tmp_path)
    assert all(
        module.decoded is None for module in model.modules() if isinstance(module, Coded)
    )  # ternary: only looked at
    assert torch.isfinite(model(torch.arange(4)[None]).logits).all()


@pytest.mark.parametrize("seed", range(16))
def test_a_tampered_folder_ends_in_a_model_or_in_an_error_with_words(seed, models, tmp_path):
    rng = random.Random(seed)
    shutil.copytree(rng.choice(models), tmp_path / "model")
    tamper(tmp_path / "model", rng)
    kind, detail = outcome(tmp_path / "model")
    assert kind in GOOD, detail
