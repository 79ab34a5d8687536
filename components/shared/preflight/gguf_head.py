"""The shape of the model in a GGUF file, from the head of the file: its keys, and which tensors it lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError

from .shape import ModelShape


def read_gguf(file: Path) -> ModelShape:
    """The shape in a GGUF file, by llama.cpp's keys; its weights will be decoded to float32.

    :raises InputError: the head cannot be read, or does not say a decoder's numbers.
    """
    from gguf import GGUFReader

    try:
        reader = GGUFReader(file)
        said = {name: field.contents() for name, field in reader.fields.items() if "tokenizer." not in name}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
        rows = int(tensors["token_embd.weight"].shape[1])
    except Exception as error:  # the reader checks little: a damaged head raises whatever comes
        raise InputError(
            "the head of the GGUF file cannot be read",
            where=str(file),
            why=str(error),
            fix="download the file again",
        ) from error
    family = said.get("general.architecture")

    def number(key: str, default: int | None = None) -> int:
        value: Any = said.get(f"{family}.{key}", default)
        if value is None:
            raise InputError(
                f"the GGUF file does not say {family}.{key}",
                where=str(file),
                fix="give a decoder of llama.cpp",
            )
        return (
            int(max(value)) if isinstance(value, list) else int(value)
        )  # a list has a number for each layer

    hidden, heads = number("embedding_length"), number("attention.head_count")
    experts = number("expert_count", 0)
    inner = number("feed_forward_length")
    return ModelShape(
        hidden=hidden,
        inner=number("expert_feed_forward_length", inner) if experts else inner,
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv", heads),
        head=number("attention.key_length", hidden // heads),
        vocabulary=rows,
        positions=number("context_length", 2048),
        experts=max(1, experts),
        active=number("expert_used_count") if experts else 1,
        gated=any(".ffn_gate" in name for name in tensors),
        tied="output.weight" not in tensors,
        learnt_positions="position_embd.weight" in tensors,
    )
