"""A GGUF file as a Hugging Face folder: llama.cpp's format, read by transformers with the weights decoded.

GGUF is numbers and texts, never code. Which architectures can be read is transformers' matter; the file carries the
tokenizer and the chat template too. What was rounded stays rounded: the weights are those of the quantised model, in
16 or 32 bits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from components.shared.models.loading import save_tokenizer
from components.shared.runtime.errors import ArtifactError

MAGIC = b"GGUF"


def unpack_gguf(file: Path, folder: Path, *, dtype: torch.dtype = torch.float32) -> dict[str, str]:
    """Write the model in `file` as safetensors with its tokenizer.

    :param folder: where; it is made.
    :param dtype: that the decoded weights are stored in.
    :returns: what the file says of itself: architecture, name, licence, how it is quantised.
    :raises ArtifactError: it is no GGUF file, it is cut off, or of an architecture or kind that cannot be read.
    """
    facts = described(file)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as alone:  # what lies beside the file is no part of it
            (Path(alone) / "model.gguf").symlink_to(file.resolve())
            model: Any = AutoModelForCausalLM.from_pretrained(
                alone, gguf_file="model.gguf", dtype=dtype, quantization_config=GgufConfig(dequantize=True),
                local_files_only=True, trust_remote_code=False,
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(
                alone, gguf_file="model.gguf", local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # whatever a foreign file makes transformers raise is a fault of that file
        raise _unreadable(file, error) from error
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder, max_shard_size="5GB")
    save_tokenizer(tokenizer, folder)
    return facts


def described(file: Path) -> dict[str, str]:
    """What a GGUF file says of itself, from its head alone.

    :raises ArtifactError: it is none, or its head is damaged.
    """
    from gguf import GGUFReader

    with file.open("rb") as opened:
        magic = opened.read(4)
    if magic != MAGIC:
        raise ArtifactError(
            "not a GGUF file", where=str(file), why=f"it begins with {magic!r}", fix="download the file again"
        )
    try:
        fields = GGUFReader(file).fields
        keys = {
            "architecture": "general.architecture", "name": "general.name", "licence": "general.license",
            "file_type": "general.file_type",
        }  # fmt: skip
        values = {name: fields[key].contents() for name, key in keys.items() if key in fields}
    except Exception as error:  # the reader checks little: a damaged head raises whatever comes
        raise _unreadable(file, error) from error
    return {name: str(value) for name, value in values.items()}


def _unreadable(file: Path, error: Exception) -> ArtifactError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return ArtifactError(
        "the GGUF file cannot be read",
        where=str(file),
        why=f"{type(error).__name__}: {said[:300]}",
        fix="download it again; of an architecture that transformers does not read as GGUF, give the original model",
    )
