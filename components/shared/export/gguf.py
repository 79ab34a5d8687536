"""A ternary artifact as a GGUF file, its matrices in ggml's ternary types.

TQ2_0 takes 2.0625 bits a weight and is the faster one, TQ1_0 1.6875. Both hold 256 weights of a row with one float16
scale: the trits stay exactly what they are, the scale is rounded to 11 bits. Networks with norms in front of o_proj and
down_proj have the architecture "bitnet", others "llama"; a llama's q and k are permuted, because GGUF turns neighbours and
transformers halves (convert_hf_to_gguf.py of llama.cpp). Embedding and head are float16, norms float32.

The tokenizer stays outside, as tokenizer.json: GGUF has no place for one of bytes and special tokens alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from components.shared.models.loading import save_tokenizer
from components.shared.runtime.errors import InputError

from .llama_shape import LlamaShape, read

Type = Literal["TQ1_0", "TQ2_0"]
BLOCK = 256
OTHER = "export it to transformers: --format transformers"
SUB_NORMS = {"attn_sub_norm": "inner_attn_ln", "ffn_sub_norm": "ffn_layernorm"}
"""As the first BitNet models called them, whose names the gguf package knows."""
OWN_NAMES = re.compile("|".join(SUB_NORMS))


def export(source: Path, output: Path, kind: Type = "TQ2_0") -> list[str]:
    """Write the artifact `source` as model.gguf to the folder `output` → what differs from it, for a person to read.

    :raises InputError: the model is no ternary Llama (llama_shape.py), its rows are not of whole blocks of 256 weights,
        or it has norms and a head of its own, which "bitnet" cannot hold.
    """
    shape = read(source)
    ragged = next((name for name, (trits, _) in shape.ternary.items() if trits.shape[1] % BLOCK), None)
    if ragged:
        why = f"its rows have {shape.ternary[ragged][0].shape[1]} weights, no multiple of {BLOCK}"
        raise InputError(f"{kind} cannot hold this layer", where=ragged, why=why, fix=OTHER)
    if shape.sub_norms and "lm_head.weight" in shape.others:
        raise InputError(
            "GGUF's architecture bitnet takes its embedding as its head",
            where=str(source),
            why="this model has a head of its own",
            fix="export it for transformers, or make it ternary without sub-layer norms",
        )
    output.mkdir(parents=True, exist_ok=True)
    write(shape, output / "model.gguf", kind)
    save_tokenizer(shape.tokenizer, output)
    widest = max(abs(float(np.float16(scale)) / scale - 1) for _, scale in shape.ternary.values() if scale)
    return [
        f"scales are rounded to float16, by {widest:.1e} at most",
        "ggml rounds activations to 8 bits in blocks of 256, where the model did so token by token",
        "the tokenizer is beside the file, not in it",
    ]


def write(shape: LlamaShape, file: Path, kind: Type) -> None:
    """The GGUF file.

    :raises InputError: GGUF has no name for a tensor.
    """
    known = gguf.MODEL_ARCH.BITNET if shape.sub_norms else gguf.MODEL_ARCH.LLAMA
    settings, heads = shape.settings, shape.settings["num_attention_heads"]
    name_map = gguf.get_tensor_name_map(known, settings["num_hidden_layers"])

    def gguf_name_of(name: str) -> str:
        gguf_name = name_map.get_name(
            OWN_NAMES.sub(lambda part: SUB_NORMS[part[0]], name), try_suffixes=(".weight",)
        )
        if gguf_name is None:
            raise InputError("GGUF has no name for this tensor", where=name, fix=OTHER)
        return str(gguf_name)

    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[known])
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(settings["num_key_value_heads"])
    writer.add_rope_dimension_count(settings["hidden_size"] // heads)
    writer.add_rope_freq_base(shape.theta)
    writer.add_layer_norm_rms_eps(settings["rms_norm_eps"])
    writer.add_tokenizer_model("none")
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind}"])
    for name, (trits, scale) in shape.ternary.items():
        if known is gguf.MODEL_ARCH.LLAMA and name.endswith((".q_proj", ".k_proj")):
            trits = neighbours(trits, heads if name.endswith("q_proj") else settings["num_key_value_heads"])
        block = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(
            gguf_name_of(f"{name}.weight"),
            gguf.quantize(trits.astype(np.float32) * np.float32(scale), block),
            raw_dtype=block,
        )
    for name, tensor in shape.others.items():
        values = tensor.float().numpy()
        values = values.astype(np.float32 if values.ndim == 1 else np.float16)
        writer.add_tensor(gguf_name_of(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows (heads · d, in) of q or k whose rotated pairs are (i, i + d/2) in each head, so that they are (2i, 2i + 1)."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)
