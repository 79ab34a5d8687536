"""A coded model runs in the dtype of its model, and in any that is asked for at loading."""

import pytest
import torch
from safetensors import safe_open
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
)

from components.adas.svf import matrices
from components.shared.models.half import halved
from components.shared.models.loading import load, save, trainable_layers, wrap
from components.shared.models.remote_code.experts import set_expert
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.tasks.tokenizer import byte_tokenizer

from .remote_code.test_coded import coded_twin
from .variants import cognate, some_ids

IDS = some_ids(2, 12)
SHAPE = {
    "vocab_size": 272,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "pad_token_id": 256,
}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2}
FOREIGN = {
    "qwen2, with biases": Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "gpt2": GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=272),
    "mixtral": MixtralConfig(**SHAPE, num_local_experts=2),
    "llama": LlamaConfig(**SHAPE),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def coded(name, dtype):
    """A model whose matrices are coded, random biases included, in a dtype."""
    torch.manual_seed(0)
    if name == "cognate":
        model = cognate("union", thoughts={"length": 4, "start": 259, "end": 260, "mixing": True}).to(dtype)
    else:
        model = wrap(AutoModelForCausalLM.from_config(FOREIGN[name], dtype=dtype))
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith("bias"):
                parameter.normal_(std=0.1)
    twin = coded_twin(model.eval())
    if name != "cognate":
        twin.tie_to_code()
    return twin


def dtypes_in(file):
    with safe_open(file, "pt") as tensors:
        return {tensors.get_tensor(name).dtype for name in sorted(tensors.keys())} - {torch.uint8}


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("name", ["cognate", *FOREIGN])
def test_a_coded_model_is_stored_loaded_and_run_in_its_models_dtype(name, dtype, tmp_path):
    model = coded(name, dtype)
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    back, _ = load(tmp_path / "m")
    assert dtypes_in(tmp_path / "m" / "model.safetensors") == {dtype} == {p.dtype for p in back.parameters()}
    assert torch.equal(back(IDS).logits, model(IDS).logits) and back(IDS).logits.dtype == dtype
    plain = trainable_layers(load(tmp_path / "m")[0])
    assert torch.equal(plain(IDS).logits, back(IDS).logits)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["cognate", *FOREIGN])
def test_it_runs_in_any_dtype_that_is_asked_for_at_loading(name, dtype, tmp_path):
    model = coded(name, torch.float32)
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=dtype).eval()
    logits = back(IDS).logits
    assert {p.dtype for p in back.parameters()} == {dtype} == {logits.dtype}
    close = torch.cosine_similarity(logits.float(), model(IDS).logits, dim=-1)
    assert close.min() > 0.99
    written = back.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=2, do_sample=False)
    assert written.shape[1] <= IDS.shape[1] + 2


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_experts_weights_are_of_the_models_dtype_and_the_base_comes_back(dtype, tmp_path):
    model = coded("qwen2, with biases", torch.bfloat16)
    model.config.experts = {"names": ["sums"]}
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=dtype).eval()
    base = back(IDS).logits
    set_expert(back, {path: torch.full((size,), 1.5).half() for path, size in matrices(back).items()})
    expert = back(IDS).logits
    set_expert(back, None)
    assert expert.dtype == dtype and not torch.equal(expert, base) and torch.equal(back(IDS).logits, base)


@pytest.mark.parametrize("dtype", DTYPES[1:])
@pytest.mark.parametrize("name", ["llama", "gpt2", "coded llama", "ternary"])
def test_what_is_loaded_to_be_trained_is_float32_says_the_same_and_moves(name, dtype, tmp_path):
    if name == "ternary":
        model = cognate("union")
        layer = model.model.layers[0].mlp
        for path, old in list(layer.named_children()):
            new = BitLinear(old.in_features, old.out_features)
            new.weight = old.weight
            setattr(layer, path, new)
        model = model.to(dtype)
    elif name == "coded llama":
        model = coded("llama", dtype)
    else:
        model = AutoModelForCausalLM.from_config(FOREIGN[name], dtype=dtype).eval()
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    trainable, tokenizer = load(tmp_path / "m", trainable=True)
    assert {tensor.dtype for tensor in trainable.state_dict().values()} == {torch.float32}
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32).eval()
    expected = stored(IDS).logits
    torch.testing.assert_close(trainable(IDS).logits, expected, rtol=1e-3, atol=1e-3)

    before = [parameter.detach().clone() for parameter in trainable.parameters()]
    optimizer = torch.optim.AdamW(trainable.parameters(), lr=1e-4, weight_decay=0.0)
    trainable(IDS, labels=IDS).loss.backward()
    optimizer.step()
    for old, parameter in zip(before, trainable.parameters(), strict=True):
        if parameter.grad is not None:
            assert not ((parameter.grad.abs() > 1e-4) & (parameter == old)).any()
    save(trainable, tokenizer, tmp_path / "after", card="")  # and none of that is rounded away
    again, _ = load(tmp_path / "after")
    torch.testing.assert_close(again(IDS).logits, trainable(IDS).logits)
    assert again.dtype == torch.float32


def test_a_file_has_one_dtype_halves_or_none():
    exact, other = torch.ones(2), torch.full((2,), 1 / 3)
    assert {t.dtype for t in halved({"a": exact, "b": exact}).values()} == {torch.float16}
    assert {t.dtype for t in halved({"a": exact, "b": other}).values()} == {torch.float32}
