"""The smallest ternary Cognate, made once a process by the phases that make such models, and a Llama with byte tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.models.loading import build, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact.artifact import seal
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
THOUGHTS = {"length": 2, "start": 259, "end": 260, "mixing": True}
BITNET = [
    *("bitnet.steps=4", "bitnet.batch=8", "bitnet.calibration_items=8", "bitnet.held_out_items=8"),
    "evaluation.items=16",
]


def ternary(factory: pytest.TempPathFactory) -> Path:
    """A folder with a ternary Cognate of hidden size 32 and one layer, which can think as quietstar leaves it."""
    folder = factory.getbasetemp() / "ternary"
    if not folder.exists():
        folder.mkdir()
        save(
            build(CognateConfig(**SHAPE, thoughts=THOUGHTS), seed=0),
            byte_tokenizer(),
            folder / "thinker",
            card="",
        )
        seal(folder / "thinker", kind="model", phase="quietstar")
        killing.run("bitnet", folder / "bitnet", ["--input", folder / "thinker", *BITNET])
    return folder / "bitnet"


def llama(folder: Path) -> Path:
    """A plain Llama of transformers, not ternary, with the byte tokenizer but without its padding token."""
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=272, **SHAPE)).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return folder
