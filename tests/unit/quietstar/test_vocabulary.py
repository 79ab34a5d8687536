"""Any causal language model learns the words of thinking, and takes its talk head with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.quietstar.vocabulary import add_thought_tokens
from components.shared.models.build import build
from components.shared.models.loading import load, save, wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer


def stranger(words=("a", "b", "-", "<eos>")):
    """A Llama with a tokenizer that has never heard of thoughts."""
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval(), tokenizer


def test_words_that_are_missing_begin_as_copies_of_a_dash():
    model, tokenizer = stranger()
    before = model(torch.tensor([[0, 1, 2]])).logits
    taught, words = add_thought_tokens(model, tokenizer, 3, seed=0)
    assert isinstance(taught, ForgeWrapped) and sorted(words) == [4, 5, 6]
    assert tokenizer.convert_ids_to_tokens(list(words)) == ["<think>", "</think>", "<pause>"]
    embedding = taught.get_input_embeddings().weight
    assert all(torch.equal(embedding[row], embedding[2]) for row in words)
    after = taught(torch.tensor([[0, 1, 2]])).logits
    torch.testing.assert_close(after[..., :4], before)  # what it says of its old words does not change


def test_rows_that_no_token_uses_are_taken_before_the_embedding_grows():
    model, tokenizer = stranger()
    model.resize_token_embeddings(16, mean_resizing=False)
    taught, words = add_thought_tokens(model, tokenizer, 3, seed=0)
    embedding = taught.get_input_embeddings().weight
    assert len(embedding) == 16 and sorted(words) == [4, 5, 6]
    assert all(torch.equal(embedding[row], embedding[2]) for row in words)


def test_the_words_of_the_reference_are_kept_where_the_tokenizer_has_them():
    model, tokenizer = stranger()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|startofthought|>", "<|endofthought|>"]})
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    taught, words = add_thought_tokens(model, tokenizer, 3, seed=0)
    assert tokenizer.convert_ids_to_tokens(list(words)) == [
        "<|startofthought|>",
        "<|endofthought|>",
        "<pause>",
    ]
    assert taught.config.thoughts["start"] == tokenizer.convert_tokens_to_ids("<|startofthought|>")


def test_a_model_that_is_wrapped_already_grows_and_loads_again(tmp_path):
    model, tokenizer = stranger()
    taught, words = add_thought_tokens(wrap(model), tokenizer, 3, seed=0)
    save(taught.eval(), tokenizer, tmp_path / "m", card="")
    again, _ = load(tmp_path / "m")
    ids = torch.tensor([[0, 1, *words]])
    assert torch.equal(again(ids).logits, taught(ids).logits) and again.config.vocab_size == len(tokenizer)


def test_words_that_are_known_keep_what_they_have_learnt():
    model = build(
        CognateConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2),
        seed=0,
    )
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    taught, words = add_thought_tokens(model, byte_tokenizer(), 3, seed=0)
    assert words == (259, 260, 261)
    assert all(torch.equal(taught.state_dict()[name], tensor) for name, tensor in weights.items())
    assert taught.config.thoughts == {"length": 3, "mixing": True, "start": 259, "end": 260}


def test_a_model_that_can_think_already_keeps_its_head():
    model = build(
        CognateConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2),
        seed=0,
    )
    taught, _ = add_thought_tokens(model, byte_tokenizer(), 3, seed=0)
    torch.nn.init.ones_(taught.talk_head.outward.weight)
    again, _ = add_thought_tokens(taught, byte_tokenizer(), 5, seed=1)
    assert again.talk_head is taught.talk_head and again.talk_head.outward.weight.all()
    assert again.config.thoughts["length"] == 5


def test_a_tokenizer_without_any_dash_is_refused_with_what_to_do():
    model, tokenizer = stranger(("a", "b", "<eos>"))  # a dash is the unknown word
    with pytest.raises(InputError, match="What to do: add <think>"):
        add_thought_tokens(model, tokenizer, 3, seed=0)


def test_artifacts_think_with_their_own_code_in_plain_transformers(tmp_path):
    config = CognateConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, memory=True
    )
    ids, expected = torch.tensor([[0, 1, 2, 1]]), []
    for name, (model, tokenizer) in {
        "ours": (build(config, seed=0), byte_tokenizer()),
        "theirs": stranger(),
    }.items():
        model, _ = add_thought_tokens(model, tokenizer, 3, seed=0)
        torch.nn.init.normal_(model.talk_head.outward.weight)
        save(model.eval(), tokenizer, tmp_path / name, card="")
        expected.append(think(load(tmp_path / name)[0], ids).logits)
    script = """
import sys, torch
from transformers import AutoModelForCausalLM
for name in ("ours", "theirs"):
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
    think = sys.modules[type(model.talk_head).__module__].think
    torch.save(think(model, torch.tensor([[0, 1, 2, 1]])).logits, f"{name}.logits")
assert "components" not in sys.modules
"""
    environment = {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for name, logits in zip(("ours", "theirs"), expected, strict=True):
        assert torch.allclose(torch.load(tmp_path / f"{name}.logits", weights_only=True), logits, atol=1e-5)
