"""Making Cognates: fresh ones, and variants that share their weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from components.shared.runtime.errors import ConfigError

from .remote_code.blocks import rotary
from .remote_code.configuration_cognate import CognateConfig
from .remote_code.modeling_cognate import CognateForCausalLM

Config = TypeVar("Config", bound=PreTrainedConfig)
LOOK_BACK = 4.0
"""How large each pair of RoPE is in the query and key of the head that looks back."""
MODULES = ("memory", "refinement")
GEOMETRY = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "rope_theta", "rms_norm_eps", "tie_word_embeddings"),
    *("memory_size", "memory_heads", "memory_chunk", "refinement_size", "refinement_steps"),
)


def build(config: CognateConfig, *, seed: int) -> CognateForCausalLM:
    """A fresh network, the same for the same (config, seed); torch's global generator is left as it was.

    It looks back from the start (`look_back`).
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CognateForCausalLM(config)
    look_back(model)
    return model


@torch.no_grad()
def look_back(model: CognateForCausalLM) -> None:
    """Make one head of the first block look at the token before, whatever it is, as a beginning.

    Finding again what was said before takes an induction head, and that a head in an earlier block that looks one token
    back (Olsson et al. 2022, arXiv 2209.11895); attention that begins as trained attention is seen to be learns faster
    (mimetic initialisation, Trockman and Kolter 2023, arXiv 2305.09828). Without biases a head sees positions only through
    what all tokens share, so the embeddings get a mean as large as their deviation. Along it the head's key is constant,
    and its query the same turned back by one step of RoPE, so that their product is greatest one token back.
    """
    config: Any = model.config
    embedding, attention = model.model.embed_tokens.weight, model.model.layers[0].self_attn
    embedding += embedding.std()
    size = attention.head_dim
    cosine, sine = (part[0, 0, 0] for part in rotary(torch.ones(1, 1), size, config.rope_theta))
    key = torch.zeros(size)
    # Half of the square of a normed embedding is its mean's.
    key[: size // 2] = LOOK_BACK / config.hidden_size / 0.5**0.5
    query = torch.where(key > 0, key * cosine, -key.roll(size // 2) * sine)
    for projection, direction in ((attention.q_proj, query), (attention.k_proj, key)):
        projection.weight[:size].mul_(0.3).add_(direction[:, None])


def extend(
    model: CognateForCausalLM, *, memory: bool = False, refinement: bool = False, seed: int = 0
) -> CognateForCausalLM:
    """A copy with the named modules added where they are missing.

    Their gates are exactly 0: the function is the same bit for bit. A module starts from the same weights whatever
    else is added, so that extended models still share their initialisation; it is in training mode where the model is.

    :param seed: of the added modules' weights.
    """
    added = {name for name, enabled in (("memory", memory), ("refinement", refinement)) if enabled}
    added -= {name for name in MODULES if getattr(model.config, name)}
    settings: Any = model.config
    fresh = build(with_changes(settings, memory=True, refinement=True, storage={}, thoughts=None), seed=seed)
    config: Any = with_changes(model.config, **dict.fromkeys(added, True))
    larger = copy.deepcopy(model)
    larger.config = larger.model.config = config
    for name in added:
        module = getattr(fresh.model, name).to(device=model.device, dtype=model.dtype)
        setattr(larger.model, name, module.train(model.training))
    return larger


def union(model: PreTrainedModel, *, seed: int = 0) -> PreTrainedModel:
    """The same function in the architecture with all modules, in which all variants can be merged.

    Models of other families have no optional modules and come back as they are.
    """
    if not isinstance(model, CognateForCausalLM):
        return model
    return extend(model, memory=True, refinement=True, seed=seed)


def union_config(configs: Sequence[CognateConfig]) -> CognateConfig:
    """The smallest architecture that holds every one of `configs`.

    :raises ConfigError: they differ in a dimension, so no architecture holds them all.
    """
    first = configs[0]
    for number, other in enumerate(configs):
        for name in GEOMETRY:
            if getattr(other, name) != getattr(first, name):
                raise ConfigError(
                    f"the models differ in {name}",
                    where=f"model {number}",
                    why=f"{getattr(other, name)}, but model 0 has {getattr(first, name)}",
                    fix="merge models of one geometry",
                )
    return with_changes(first, **{name: any(getattr(config, name) for config in configs) for name in MODULES})


def with_changes(config: Config, **changes: object) -> Config:
    """A copy of a config with some settings changed."""
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
