"""Tiny thinkers: models of transformers and every variant of the Cognate, with talk heads that are open."""

from __future__ import annotations

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.thoughts import TalkHead

VOCABULARY, START, END = 24, 22, 23
THOUGHTS = {"length": 3, "mixing": True, "start": START, "end": END}
SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
FOREIGN = {
    "llama": SHAPE,
    "mistral": SHAPE | {"sliding_window": 4},
    "gemma2": SHAPE | {"sliding_window": 4, "head_dim": 4, "query_pre_attn_scalar": 4},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64},
}
"""Full attention, windows that the texts here outgrow, both by turns, and absolute positions."""
KINDS = (*FOREIGN, "standard", "memory", "refinement", "union")


def make(kind: str) -> PreTrainedModel:
    """An untrained model with weights large enough that no two tokens tie.

    In float64, so that what two ways of computing the same have in common does not hang on the last bits of their sums.
    """
    torch.manual_seed(0)
    if kind in FOREIGN:
        tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
        config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, **tokens, **FOREIGN[kind])
        model = AutoModelForCausalLM.from_config(config)
        model.config.thoughts = dict(THOUGHTS)
        model.talk_head = TalkHead(16)
    else:
        model = build(
            CognateConfig(
                vocab_size=VOCABULARY,
                hidden_size=16,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                memory=kind in ("memory", "union"),
                memory_size=8,
                memory_chunk=3,
                refinement=kind in ("refinement", "union"),
                refinement_size=24,
                thoughts=dict(THOUGHTS),
                pad_token_id=None,
                bos_token_id=None,
                eos_token_id=None,
            ),
            seed=0,
        )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.7)
            elif parameter.dim() == 2:
                parameter.normal_(std=0.25)
        head = model.lm_head if kind in FOREIGN else model.get_input_embeddings()
        head.weight[END] *= 3  # so that some thoughts end before their length
    return model.double().eval()
