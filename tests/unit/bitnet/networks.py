"""Small networks to convert, and text to convert them on."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.shared.models.loading import build, wrap
from components.shared.models.remote_code.configuration_cognate import CognateConfig

SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
BLOCK = [f"self_attn.{name}_proj" for name in "qkvo"] + [
    f"mlp.{name}_proj" for name in ("gate", "up", "down")
]
IDS = torch.randint(0, 256, (3, 11), generator=torch.Generator().manual_seed(0))


def cognate(**more):
    return build(CognateConfig(**SHAPE, memory_size=16, refinement_size=32, **more), seed=0).eval()


def llama(**more):
    torch.manual_seed(0)
    return wrap(LlamaForCausalLM(LlamaConfig(vocab_size=272, **SHAPE, **more))).eval()


def paths_of_blocks(prefix):
    return {f"{prefix}.{number}.{name}" for number in range(2) for name in BLOCK}
