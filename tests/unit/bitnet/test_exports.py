"""Exports, read back by the libraries whose formats they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from components.bitnet.conversion import convert, linears_to_convert
from components.bitnet.placement import unnormed
from components.shared.export import gguf as export_gguf
from components.shared.export import transformers as export_transformers
from components.shared.export.llama_shape import read
from components.shared.models.half import round_to_half
from components.shared.models.loading import build, load, save, wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.cli import app
from tests import shapes

SHAPE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
IDS = torch.tensor([[257, *b"12+7=19 abc"]])


@pytest.fixture(autouse=True)
def without_compiling() -> Any:
    """transformers unpacks in a function under torch.compile, which would start a C++ compiler."""
    before, torch._dynamo.config.disable = torch._dynamo.config.disable, True  # type: ignore[attr-defined]
    yield
    torch._dynamo.config.disable = before  # type: ignore[attr-defined]


def artifact(
    folder: Path,
    *,
    family: str = "llama",
    norms: bool = True,
    as_dtype: torch.dtype = torch.float32,
    **more: Any,
) -> Path:
    """A ternary model as phase bitnet leaves it, its norms no ones."""
    model: Any
    torch.manual_seed(0)
    if family == "llama":
        config = LlamaConfig(vocab_size=272, num_key_value_heads=2, **(SHAPE | more))
        model = wrap(LlamaForCausalLM(config).eval())
    else:
        model = build(CognateConfig(num_key_value_heads=2, **SHAPE, **more), seed=0).eval()
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    model.to(as_dtype)
    convert(model, dict.fromkeys(unnormed(model, linears_to_convert(model)), 0.7) if norms else {})
    round_to_half(model)
    save(model, byte_tokenizer(), folder, card="", half=True)
    return folder


CASES = [("llama", True, True), ("llama", False, False), ("cognate", True, True), ("cognate", False, True)]


@pytest.mark.parametrize(("family", "norms", "tied"), CASES)
def test_transformers_reads_the_same_weights_and_says_the_same(
    family: str, norms: bool, tied: bool, tmp_path: Path
) -> None:
    source = artifact(tmp_path / "in", family=family, norms=norms, tie_word_embeddings=tied)
    assert export_transformers.export(source, tmp_path / "out") == []
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == ("BitNetForCausalLM" if norms else "LlamaForCausalLM")
    for name, (trits, scale) in read(source).ternary.items():
        layer = theirs.get_submodule(name)
        assert type(layer).__name__ == "AutoBitLinear" and float(layer.weight_scale) == np.float32(scale)
        assert np.array_equal(layer.weight.detach().numpy(), trits)
    with torch.no_grad():
        ours, peer = load(source)[0](IDS).logits, theirs(IDS).logits
    difference = (peer - ours).abs() / ours.std()
    assert difference[0, 0].max() < 1e-5 and difference.median() < 0.01
    assert difference.max() < 0.1  # a rounding of an activation that tips costs 1/127, and goes on from there
    assert not list((tmp_path / "out").glob("*.py"))


def test_a_model_in_bfloat16_is_exported_as_what_it_says_in_float32(tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", as_dtype=torch.bfloat16, tie_word_embeddings=True)
    assert load(source)[0].dtype == torch.bfloat16
    export_transformers.export(source, tmp_path / "out")
    export_gguf.export(source, tmp_path / "gguf", "TQ2_0")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        ours = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()(IDS).logits
        assert torch.cosine_similarity(theirs(IDS).logits, ours, dim=-1).min() > 0.999


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize(("family", "norms", "tied"), CASES)
def test_gguf_reads_the_trits_exactly_and_the_scale_in_float16(
    family: str, norms: bool, tied: bool, kind: export_gguf.Type, tmp_path: Path
) -> None:
    source = artifact(tmp_path / "in", family=family, norms=norms, tie_word_embeddings=tied)
    notes = export_gguf.export(source, tmp_path / "out", kind)
    assert "rounded to float16" in notes[0]
    reader = gguf.GGUFReader(tmp_path / "out" / "model.gguf")
    arch = "bitnet" if norms else "llama"
    assert reader.fields["general.architecture"].contents() == arch
    assert reader.fields[f"{arch}.attention.head_count_kv"].contents() == 2
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    shape = read(source)
    assert len(tensors) == len(shape.ternary) + len(shape.others)
    assert ("output.weight" in tensors) == (not tied)
    for name, ours in [("ffn_down", "mlp.down_proj"), ("attn_q", "self_attn.q_proj")]:
        tensor = tensors[f"blk.1.{name}.weight"]
        assert tensor.tensor_type.name == kind
        trits, scale = shape.ternary[f"model.layers.1.{ours}"]
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if name == "attn_q" and not norms:
            assert not np.array_equal(np.sign(values), trits)
            values = halves(values, 4)
        assert np.array_equal(values, trits * np.float32(np.float16(scale)))
    embedding = tensors["token_embd.weight"].data
    assert np.array_equal(embedding, shape.others["model.embed_tokens.weight"].half().numpy())


def halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """What `neighbours` does, undone."""
    return rows.reshape(heads, -1, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def test_permuted_rows_turn_as_neighbours_what_turned_as_halves() -> None:
    d, heads, at = 8, 2, 5
    x = np.random.default_rng(0).normal(size=heads * d)
    angle = at * 10000.0 ** -(np.arange(0, d, 2) / d)
    by_head = x.reshape(heads, d)
    low, high = by_head[:, : d // 2], by_head[:, d // 2 :]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.concatenate((low * cos - high * sin, high * cos + low * sin), axis=1).reshape(-1)
    pairs = export_gguf.neighbours(x[:, None], heads).reshape(heads, -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    theirs = np.stack((even * cos - odd * sin, odd * cos + even * sin), axis=-1).reshape(-1)
    assert np.allclose(export_gguf.neighbours(turned[:, None], heads)[:, 0], theirs)


def test_what_a_format_cannot_hold_is_refused_by_name(tmp_path: Path) -> None:
    thinker = artifact(tmp_path / "memory", family="cognate", memory=True, memory_size=32)
    with pytest.raises(InputError, match="it has memory"):
        export_transformers.export(thinker, tmp_path / "out")
    narrow = artifact(tmp_path / "narrow", intermediate_size=384)
    with pytest.raises(InputError, match=r"down_proj.*384 weights, no multiple of 256|384 weights"):
        export_gguf.export(narrow, tmp_path / "out")
    headed = artifact(tmp_path / "headed", tie_word_embeddings=False)
    with pytest.raises(InputError, match="a head of its own"):
        export_gguf.export(headed, tmp_path / "out")
    LlamaForCausalLM(LlamaConfig(vocab_size=272, **SHAPE)).save_pretrained(tmp_path / "plain")
    byte_tokenizer().save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="without ternary layers"):
        export_transformers.export(tmp_path / "plain", tmp_path / "out")


def test_scaled_rotary_frequencies_are_refused_with_the_way_out(tmp_path: Path) -> None:
    scaled = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    source = artifact(tmp_path / "in", rope_parameters=scaled)
    for export in (export_transformers.export, export_gguf.export):
        with pytest.raises(InputError, match=r"frequencies are scaled .linear.*load the artifact as it is"):
            export(source, tmp_path / "out")


def test_another_epsilon_is_said(tmp_path: Path) -> None:
    source = artifact(tmp_path / "in", rms_norm_eps=1e-5)
    (note,) = export_transformers.export(source, tmp_path / "out")
    assert "1e-05, not 1e-06" in note


def test_the_command_writes_what_it_was_asked_for_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    source, run = str(artifact(tmp_path / "in", tie_word_embeddings=True)), CliRunner().invoke
    result = run(app, ["bitnet", "export", "-i", source, "-o", str(tmp_path / "t")])
    assert result.exit_code == 0 and "model.safetensors" in result.output
    arguments = ["bitnet", "export", "-i", source, "--format", "gguf", "--type", "TQ1_0"]
    assert run(app, [*arguments, "-o", str(tmp_path / "g")]).exit_code == 0
    types = {tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "g" / "model.gguf").tensors}
    assert types == {"TQ1_0", "F16", "F32"}
    assert run(app, [*arguments, "-o", str(tmp_path / "g")]).exit_code == 2, "it wrote over a folder"
    assert (
        run(app, ["bitnet", "export", "-i", source, "-o", str(tmp_path / "n"), "--format", "onnx"]).exit_code
        == 2
    )


@pytest.mark.parametrize("family", shapes.FAMILIES)
def test_of_the_families_llama_and_mistral_without_a_window_are_exported_and_others_refused_by_name(
    family: str, tmp_path: Path
) -> None:
    model, tokenizer = load(shapes.make(family, tmp_path / "base"))
    if family == "mistral":
        model.config.sliding_window = None
    ternary = wrap(model)
    convert(ternary, {})
    save(ternary.eval(), tokenizer, tmp_path / "ternary", card="")
    if family in ("llama", "mistral"):
        export_transformers.export(tmp_path / "ternary", tmp_path / "out")
        theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
        ours, _ = load(tmp_path / "ternary")
        torch.testing.assert_close(theirs(IDS).logits, ours(IDS).logits, rtol=1e-2, atol=1e-2)
    else:
        with pytest.raises(InputError, match=f"it is a {family}"):
            export_transformers.export(tmp_path / "ternary", tmp_path / "out")
