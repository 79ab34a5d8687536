"""Artifacts: saved, loaded here, and loaded in a process that knows transformers only."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, Gemma3Config, GPT2Config, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from components.shared.models.card import model_card
from components.shared.models.loading import load, save, stored_tensors, trainable_layers, wrap
from components.shared.models.remote_code.coded import Coded, install
from components.shared.models.remote_code.experts import set_expert
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.runtime import malloc
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import plain_transformers

from .remote_code.test_coded import coded_twin
from .variants import VARIANTS, cognate, some_ids

CARD = model_card("A test", "Nothing more.")
IDS = some_ids(2, 12)
THOUGHTS = {"length": 4, "start": 259, "end": 260, "mixing": True}


def ternary_twin(model, *, norm=False):
    """The model with every linear layer of its blocks ternary."""
    for path, old in [(p, m) for p, m in model.named_modules() if isinstance(m, nn.Linear)]:
        if ".layers." in path or ".block." in path:
            new = BitLinear(old.in_features, old.out_features, bias=old.bias is not None, norm=norm)
            new.load_state_dict(old.state_dict(), strict=False)
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, new)
    return model.eval()


def llama(**settings):
    torch.manual_seed(0)
    shape = {"vocab_size": 272, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 256}
    return LlamaForCausalLM(LlamaConfig(**shape | settings)).eval()


CASES = {
    **{name: (lambda name=name: cognate(name)) for name in VARIANTS},
    "thinking": lambda: cognate("memory", thoughts=THOUGHTS),
    "untied": lambda: cognate(tie_word_embeddings=False),
    "ternary": lambda: ternary_twin(cognate("union")),
    "coded": lambda: coded_twin(cognate("union", experts={"file": "experts.safetensors"})),
    "llama": llama,
    "wrapped ternary llama": lambda: ternary_twin(
        wrap(llama(tie_word_embeddings=True, attention_bias=True)), norm=True
    ),
    "wrapped coded llama": lambda: coded_twin(wrap(llama())),
}
every_case = pytest.mark.parametrize("case", CASES)


@every_case
def test_a_saved_model_loads_with_identical_logits(case, tmp_path):
    model = CASES[case]()
    save(model, byte_tokenizer(), tmp_path / "m", card=CARD)
    back, tokenizer = load(tmp_path / "m")
    assert torch.equal(back(IDS).logits, model(IDS).logits)
    assert not back.training and tokenizer("é<eos>").input_ids == [0xC3, 0xA9, 258]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    assert torch.equal(back.generate(IDS, **options), model.generate(IDS, **options))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """Logits and generated tokens of every case, from one process that cannot import this project."""
    root = tmp_path_factory.mktemp("artifacts")
    for number, case in enumerate(CASES):
        save(CASES[case](), byte_tokenizer(), root / f"case{number}", card=CARD)
    script = """
import pathlib, torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
root, out = pathlib.Path(sys.argv[1]), {}
for folder in sorted(root.glob("case*")):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    ids = torch.load(root / "ids.pt", weights_only=True)
    out[folder.name] = model(ids).logits.detach()
    out[folder.name + ".generated"] = model.generate(ids, max_new_tokens=5, do_sample=False, eos_token_id=None)
    out[folder.name + ".text"] = torch.tensor(tokenizer("h<bos>").input_ids)
    out[folder.name + ".has_thoughts"] = torch.tensor([hasattr(model, "talk_head")])
save_file(out, root / "out.safetensors")
"""
    torch.save(IDS, root / "ids.pt")
    plain_transformers.run(script, root, cwd=root)
    return {case: (root / f"case{number}", number) for number, case in enumerate(CASES)}, load_file(
        root / "out.safetensors"
    )


@every_case
def test_plain_transformers_elsewhere_gives_identical_logits_and_tokens(case, foreign):
    folders, out = foreign
    _, number = folders[case]
    model = CASES[case]()
    assert torch.equal(out[f"case{number}"], model(IDS).logits)
    generated = model.generate(IDS, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert torch.equal(out[f"case{number}.generated"], generated)
    assert out[f"case{number}.text"].tolist() == [104, 257]
    assert bool(out[f"case{number}.has_thoughts"]) == (case == "thinking")


def test_an_artifact_carries_only_the_code_that_it_needs(foreign):
    folders, _ = foreign
    code = {case: {file.stem for file in folder.glob("*.py")} for case, (folder, _) in folders.items()}
    plain = {"blocks", "configuration_cognate", "modeling_cognate"}
    assert code["standard"] == code["untied"] == plain
    assert code["memory"] == plain | {"memory"} and code["union"] == plain | {"memory", "refinement"}
    assert code["thinking"] == plain | {"memory", "thoughts"}
    decoding = {"decoders", "decoder_table", "decode_ternary"}
    assert code["ternary"] == code["union"] | {"coded", "ternary"} | decoding
    assert code["coded"] == code["ternary"] | {"experts"}
    assert code["llama"] == set()
    assert code["wrapped coded llama"] == {"modeling_wrapped", "coded", "ternary"} | decoding


def test_saving_twice_writes_the_same_bytes_and_saving_what_was_loaded_too(tmp_path):
    for case in ("ternary", "wrapped coded llama"):
        model = CASES[case]()
        folders = [tmp_path / case / name for name in ("a", "b", "c")]
        save(model, byte_tokenizer(), folders[0], card=CARD)
        save(model, byte_tokenizer(), folders[1], card=CARD)
        save(*load(folders[0]), folders[2], card=CARD)
        for folder in folders[1:]:
            for file in folders[0].iterdir():
                assert (folder / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("case", ["ternary", "wrapped ternary llama"])
def test_ternary_weights_made_trainable_quantise_to_exactly_what_was_stored(case, tmp_path):
    model = CASES[case]()
    save(model, byte_tokenizer(), tmp_path / "a", card=CARD)
    trainable, tokenizer = load(tmp_path / "a", trainable=True)
    assert any(isinstance(m, BitLinear) for m in trainable.modules())
    assert not any(isinstance(m, Coded) for m in trainable.modules())
    assert torch.equal(trainable(IDS).logits, model(IDS).logits)
    trainable.train()(IDS, labels=IDS).loss.backward()
    assert all(m.weight.grad.abs().sum() > 0 for m in trainable.modules() if isinstance(m, BitLinear))
    save(trainable, tokenizer, tmp_path / "b", card=CARD)
    for file in (tmp_path / "a").iterdir():
        assert (tmp_path / "b" / file.name).read_bytes() == file.read_bytes(), file.name


def test_other_coded_layers_made_trainable_hold_the_decoded_weights(tmp_path):
    model = coded_twin(cognate("union"))
    expected = model(IDS).logits
    trainable = trainable_layers(model)
    assert torch.equal(trainable(IDS).logits, expected)
    assert (
        isinstance(trainable.model.embed_tokens, nn.Embedding)
        and trainable.model.embed_tokens.weight.requires_grad
    )
    save(trainable, byte_tokenizer(), tmp_path / "m", card=CARD)
    assert torch.equal(load(tmp_path / "m")[0](IDS).logits, expected)


def test_a_layer_that_is_not_ternary_any_more_cannot_be_trained_through_int8_activations():
    model = CASES["ternary"]()
    layer = install(
        model, "model.layers.0.mlp.up_proj", {"codec": "ternary", "shape": [48, 32], "bytes": 312}
    )
    layer.decoded = torch.randn(48, 32)
    with pytest.raises(InputError, match=r"not ternary cannot be trained.*layers\.0\.mlp\.up_proj"):
        trainable_layers(model)


def test_a_ternary_model_in_its_warm_up_cannot_be_saved(tmp_path):
    model = CASES["ternary"]()
    model.model.layers[1].mlp.up_proj.strength = 0.5
    with pytest.raises(InputError, match=r"still warming up \[model\.layers\.1\.mlp\.up_proj\]"):
        save(model, byte_tokenizer(), tmp_path, card=CARD)


def test_where_a_model_was_loaded_from_leaves_no_trace(tmp_path):
    save(llama(), byte_tokenizer(), tmp_path / "here", card=CARD)
    model, tokenizer = load(tmp_path / "here")
    save(wrap(model), tokenizer, tmp_path / "there", card=CARD)
    assert not any(str(tmp_path).encode() in file.read_bytes() for file in (tmp_path / "there").iterdir())


def test_a_ternary_model_stores_1_6_bits_a_weight():
    tensors, storage = stored_tensors(CASES["ternary"]())
    weights = sum(torch.tensor(spec["shape"]).prod().item() for spec in storage.values())
    assert sum(tensors[f"{path}.code"].numel() for path in storage) <= weights / 5 + 5 * len(storage)


def test_wrapping_shares_the_weights_and_keeps_the_function():
    model = llama()
    wrapped = wrap(model)
    assert isinstance(wrapped, ForgeWrapped) and wrapped.inner is model
    assert torch.equal(wrapped(IDS).logits, model(IDS).logits)
    assert torch.equal(wrapped(IDS, labels=IDS).loss, model(IDS, labels=IDS).loss)
    assert wrapped.config.hidden_size == 32 and wrapped.config.vocab_size == 272


def test_any_causal_model_of_transformers_loads(tmp_path):
    model = AutoModelForCausalLM.from_config(
        GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=272)
    ).eval()
    model.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path)[0](IDS).logits, model(IDS).logits)


@pytest.mark.parametrize("case", ["standard", "ternary", "wrapped coded llama"])
def test_freed_memory_goes_back_to_the_system_once_a_large_model_is_loaded(case, tmp_path, monkeypatch):
    save(CASES[case](), byte_tokenizer(), tmp_path, card=CARD)
    told = []
    monkeypatch.setattr(malloc, "set_mmap_threshold", told.append)
    model, _ = load(tmp_path)
    assert not told
    coded = [each.weight for each in model.modules() if isinstance(each, Coded)]
    assert bool(coded) == (case != "standard")
    size = sum(each.nbytes for each in (*model.parameters(), *coded))  # codes count as what they decode to
    monkeypatch.setattr(malloc, "LARGE", size + 1)
    load(tmp_path)
    assert not told
    monkeypatch.setattr(malloc, "LARGE", size)
    load(tmp_path)
    assert told == [1 << 20]


def test_a_model_whose_sizes_lie_in_its_text_config_is_loaded_wrapped_and_stored(tmp_path):
    tower = {"intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = tower | {
        "vocab_size": 272,
        "hidden_size": 32,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "pad_token_id": 256,
    }
    vision = tower | {"hidden_size": 16, "image_size": 28, "patch_size": 14}
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    assert not hasattr(config, "vocab_size")
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path / "gemma")
    byte_tokenizer().save_pretrained(tmp_path / "gemma")
    back, tokenizer = load(tmp_path / "gemma")
    save(wrap(back), tokenizer, tmp_path / "wrapped", card="")
    wrapped, _ = load(tmp_path / "wrapped")
    assert torch.equal(back(IDS).logits, model(IDS).logits) and torch.equal(
        wrapped(IDS).logits, model(IDS).logits
    )
    assert wrapped.config.get_text_config().vocab_size == 272


def test_pickled_weights_are_refused_by_name(tmp_path):
    llama().config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(
        ArtifactError, match=r"no safetensors.*pytorch_model\.bin, which would have to be unpickled"
    ):
        load(tmp_path)


def test_foreign_code_is_refused(tmp_path):
    save(cognate(), byte_tokenizer(), tmp_path, card=CARD)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "strange"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="'strange' needs code from its own directory, which is not run"):
        load(tmp_path)


def test_weights_that_do_not_fit_the_config_are_refused_by_name(tmp_path):
    save(cognate(), byte_tokenizer(), tmp_path, card=CARD)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights | {"extra": torch.zeros(1)}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match=r"do not fit.*extra, model\.norm\.weight"):
        load(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match=r"not a model directory.*no config\.json"):
        load(tmp_path)


def test_a_model_with_an_expert_set_cannot_be_saved(tmp_path):
    model = cognate()
    set_expert(model, {"model.layers.0.mlp.up_proj": torch.ones(32)})
    with pytest.raises(InputError, match=r"an expert is set.*set_expert"):
        save(model, byte_tokenizer(), tmp_path, card=CARD)


def test_a_plain_transformers_model_must_be_wrapped_to_hold_ternary_layers(tmp_path):
    with pytest.raises(InputError, match=r"use wrap\(model\)"):
        save(ternary_twin(llama(), norm=True), byte_tokenizer(), tmp_path / "m", card=CARD)
    assert not (tmp_path / "m").exists()


def test_large_models_are_sharded_with_an_index(tmp_path, monkeypatch):
    from components.shared.models import loading

    real = loading.split_torch_state_dict_into_shards
    monkeypatch.setattr(
        loading,
        "split_torch_state_dict_into_shards",
        lambda t, **k: real(t, **k | {"max_shard_size": "20KB"}),
    )
    model = cognate()
    save(model, byte_tokenizer(), tmp_path, card=CARD)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert torch.equal(load(tmp_path)[0](IDS).logits, model(IDS).logits)


def test_the_card_holds_no_time_and_says_how_to_load():
    text = model_card("Name", "Summary.", facts={"parameters": "777607"})
    assert "| parameters | 777607 |" in text and "trust_remote_code=True" in text
    assert text.startswith("---\nlibrary_name: transformers\n")
    assert "It loads in transformers 5" in text
    readme = Path(__file__).parents[4] / "README.md"
    assert "loads in plain transformers 5" in readme.read_text()


def test_what_transformers_remarks_by_itself_does_not_show():
    """Where nobody has asked for it by TRANSFORMERS_VERBOSITY, as this module's import has seen it."""
    if "TRANSFORMERS_VERBOSITY" in os.environ:
        pytest.skip("asked for")
    logger = transformers_logging.get_logger("transformers.modeling_utils")
    assert logger.getEffectiveLevel() == logging.ERROR
