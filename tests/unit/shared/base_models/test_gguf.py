"""GGUF files: a tiny one that is written here comes back as the model that it was made of; what is none is refused."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.shared.base_models.gguf_file import described, unpack_gguf
from components.shared.runtime.errors import ArtifactError
from tests import shapes

HEADS, KEYS = 4, 2


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rotated rows."""
    return (
        weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
        .swapaxes(1, 2)
        .reshape(weight.shape)
    )


def write(source: Path, file: Path, *, kind: gguf.GGMLQuantizationType | None = None) -> Path:
    """The Llama in `source` as GGUF, as llama.cpp's converter writes it."""
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    names = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    writer.add_token_list(names)
    writer.add_token_types([3 if name in ("<pad>", "<s>", "</s>") else 1 for name in names])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(tokenizer.chat_template)
    blocks = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, tensor in model.state_dict().items():
        path = name.removesuffix(".weight")
        if path in outer:
            target = outer[path]
        else:
            _, _, number, rest = path.split(".", 3)
            target = f"blk.{number}.{blocks[rest]}"
        values = tensor.numpy()
        if target.endswith(("attn_q", "attn_k")):
            values = permuted(values, HEADS if target.endswith("q") else KEYS)
        values = np.ascontiguousarray(values)
        if kind is not None and values.ndim == 2 and "blk" in target:
            writer.add_tensor(f"{target}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{target}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_a_gguf_file_comes_back_as_the_model_that_it_was_made_of(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source")
    file = write(source, tmp_path / "tiny.gguf")
    assert described(file)["licence"] == "mit"
    facts = unpack_gguf(file, tmp_path / "out")
    assert (facts["architecture"], facts["name"]) == ("llama", "tiny")
    before, after = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (source, tmp_path / "out"))
    own, back = AutoTokenizer.from_pretrained(source), AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "What is the capital of France? 47+3=50"
    ids = own(text, add_special_tokens=False, return_tensors="pt").input_ids
    assert back(text, add_special_tokens=False).input_ids == ids[0].tolist()
    assert back.chat_template.strip() == own.chat_template.strip() and back.eos_token == "</s>"
    with torch.no_grad():
        torch.testing.assert_close(before(ids).logits, after(ids).logits, rtol=1e-4, atol=1e-4)
    assert not hasattr(after.config, "quantization_config")
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix != ".json") == [
        "chat_template.jinja", "model.safetensors"
    ]  # fmt: skip


def test_quantised_blocks_are_decoded(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source")
    unpack_gguf(
        write(source, tmp_path / "q.gguf", kind=gguf.GGMLQuantizationType.Q8_0),
        tmp_path / "out",
        dtype=torch.bfloat16,
    )
    before, after = (
        AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (source, tmp_path / "out")
    )
    name = "model.layers.1.mlp.up_proj.weight"
    difference = (before.state_dict()[name] - after.state_dict()[name]).abs().max()
    assert 0 < difference < 0.01


@pytest.mark.parametrize("content", [b"PK\x03\x04pickled", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_what_is_no_gguf_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"not a GGUF file|cannot be read"):
        unpack_gguf(tmp_path / "x.gguf", tmp_path / "out")


def test_an_architecture_that_transformers_does_not_read_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "unheard")
    writer.add_tensor("a", np.zeros((2, 2), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ArtifactError, match=r"cannot be read.*unheard"):
        unpack_gguf(tmp_path / "x.gguf", tmp_path / "out")
