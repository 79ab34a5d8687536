"""Cognate: a small decoder-only transformer, plain or with a neural memory and a refinement loop.

RMSNorm, RoPE, SwiGLU, grouped-query attention, tied embeddings: the Llama block. Masks may be 2-D (B, S: which tokens
are real, padding left or right) or 4-D (B, 1 or H, T, S: boolean "may attend", or additive), so that parallel thoughts
can give every position its own diagonal.
"""

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_cognate import CognateConfig


def rotary(position_ids, head_dim, theta):
    """RoPE angles. position_ids (B, T) → cos, sin (B, 1, T, head_dim), float32."""
    frequencies = theta ** -(torch.arange(0, head_dim, 2, device=position_ids.device).float() / head_dim)
    angles = position_ids[:, None, :, None].float() * torch.cat((frequencies, frequencies))
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotate x (B, heads, T, head_dim) by the angles of `rotary`."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)


def attention_mask_4d(mask, query_length, past_length, device):
    """The mask that scaled_dot_product_attention takes, and whether plain causality is all that is needed.

    mask: None, 2-D (B, past + T) with 1 for real tokens, or 4-D (returned as given). A padded query sees itself
    alone, so that its softmax stays finite.
    """
    if mask is not None and mask.ndim == 4:
        return mask, False
    if mask is None and past_length == 0:
        return None, True
    if mask is None and query_length == 1:
        return None, False
    rows = torch.arange(past_length, past_length + query_length, device=device)[:, None]
    columns = torch.arange(past_length + query_length, device=device)[None, :]
    if mask is None:
        return (columns <= rows)[None, None], False
    if mask.ndim != 2 or mask.shape[1] != past_length + query_length:
        expected = past_length + query_length
        raise ValueError(f"attention_mask is {tuple(mask.shape)}; expected (batch, {expected}) or 4-D")
    seen = (columns <= rows) & mask.bool()[:, None, :] | (columns == rows)
    return seen[:, None], False


class Attention(nn.Module):
    """Causal self-attention; `slot` is its place in the key-value cache."""

    def __init__(self, config, slot):
        super().__init__()
        self.slot = slot
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        width = config.num_key_value_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.o_norm = (
            nn.RMSNorm(config.hidden_size, config.rms_norm_eps) if config.sublayer_norm else nn.Identity()
        )

    def forward(self, x, angles, mask, causal, cache, slot=None):
        q, k, v = (
            p(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.update(k, v, self.slot if slot is None else slot)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=self.grouped)
        return self.o_proj(self.o_norm(y.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config, size):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.down_proj = nn.Linear(size, config.hidden_size, bias=False)
        self.down_norm = nn.RMSNorm(size, config.rms_norm_eps) if config.sublayer_norm else nn.Identity()

    def forward(self, x):
        return self.down_proj(self.down_norm(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class Block(GradientCheckpointingLayer):
    """Pre-norm transformer block: attention, then SwiGLU."""

    def __init__(self, config, slot, size):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, slot)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config, size)

    def forward(self, x, angles, mask, causal, cache, slot=None):
        x = x + self.self_attn(self.input_layernorm(x), angles, mask, causal, cache, slot)
        return x + self.mlp(self.post_attention_layernorm(x))


class CognatePreTrainedModel(PreTrainedModel):
    config_class = CognateConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]
    _supports_sdpa = True

    def _init_weights(self, module):
        """Linear layers: N(0, 1/fan_in), those that write to the residual stream narrower by √(2·layers); embeddings .02."""
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, Block):
            for out in (module.self_attn.o_proj, module.mlp.down_proj):
                nn.init.normal_(out.weight, std=(2 * self.config.num_hidden_layers * out.in_features) ** -0.5)


class CognateModel(CognatePreTrainedModel):
    """Embedding, blocks and final norm: token ids (B, T) → hidden states (B, T, hidden)."""

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, i, config.intermediate_size) for i in range(config.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        output_hidden_states=None,
        **kwargs,
    ):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values
        if cache is None and use_cache:
            cache = DynamicCache(config=self.config)
        past, length = 0 if cache is None else cache.get_seq_length(), x.shape[1]
        if position_ids is None:
            if attention_mask is not None and attention_mask.ndim == 2:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -length:]
            else:
                position_ids = torch.arange(past, past + length, device=x.device)[None]
        angles = rotary(
            position_ids, self.config.hidden_size // self.config.num_attention_heads, self.config.rope_theta
        )
        mask, causal = attention_mask_4d(attention_mask, length, past, x.device)
        states = [x] if output_hidden_states else None
        for layer in self.layers:
            x = layer(x, angles, mask, causal, cache)
            if states is not None:
                states.append(x)
        x = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x, past_key_values=cache, hidden_states=states and tuple(states)
        )


class CognateForCausalLM(CognatePreTrainedModel, GenerationMixin):
    """Language-model head over CognateModel. `labels` are aligned with `input_ids` (shifted inside), −100 is ignored."""

    def __init__(self, config):
        super().__init__(config)
        self.model = CognateModel(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def head(self, x):
        """Hidden states (…, hidden) → logits (…, vocabulary)."""
        return (
            F.linear(x, self.model.embed_tokens.weight)
            if self.config.tie_word_embeddings
            else self.lm_head(x)
        )

    def forward(self, input_ids=None, labels=None, logits_to_keep=0, use_cache=None, **kwargs):
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        out = self.model(input_ids, use_cache=use_cache, **kwargs)
        x = out.last_hidden_state
        x = x[:, -logits_to_keep:] if isinstance(logits_to_keep, int) and logits_to_keep else x
        logits = self.head(x)
        loss = None if labels is None else next_token_loss(logits, labels)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states
        )


def next_token_loss(logits, labels):
    """Mean cross-entropy, nats a token. logits (B, T, V) predict labels (B, T) shifted by one; −100 is ignored."""
    targets = labels[:, 1:].flatten()
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), targets, ignore_index=-100, reduction="sum")
    return total / (targets != -100).sum().clamp_min(1)
