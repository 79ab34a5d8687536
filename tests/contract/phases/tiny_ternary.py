"""The smallest ternary Cognate, made once a process by the phases that make such models, and a Llama with byte tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing

COGNATE = [
    "cognate.model={hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2}",
    *("cognate.trunk.steps=8", "cognate.standard.steps=8", "cognate.batch=8"),
    *("cognate.gram_items=8", "cognate.probe_items=16", "evaluation.items=16"),
]
BITNET = [
    *("bitnet.steps=4", "bitnet.batch=8", "bitnet.calibration_items=8", "bitnet.held_out_items=8"),
    "evaluation.items=16",
]


def ternary(factory: pytest.TempPathFactory) -> Path:
    """A folder with a ternary Cognate of hidden size 32 and one layer."""
    folder = factory.getbasetemp() / "ternary"
    if not folder.exists():
        folder.mkdir()
        killing.run("cognate", folder / "cognate", COGNATE)
        killing.run("bitnet", folder / "bitnet", ["--input", folder / "cognate", *BITNET])
    return folder / "bitnet"


def llama(folder: Path) -> Path:
    """A plain Llama of transformers, not ternary, with the byte tokenizer but without its padding token."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=272, **shape)).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    return folder
