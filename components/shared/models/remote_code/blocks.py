"""The transformer block of the Cognate: grouped-query attention with RoPE, SwiGLU, RMSNorm before each (Llama's block)."""

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer


def rotary(position_ids, head_dim, theta):
    """RoPE angles. position_ids (B, T) → cos, sin (B, 1, T, head_dim), float32."""
    frequencies = theta ** -(torch.arange(0, head_dim, 2, device=position_ids.device).float() / head_dim)
    angles = position_ids[:, None, :, None].float() * torch.cat((frequencies, frequencies))
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Rotate x (B, heads, T, head_dim) by the angles of `rotary`."""
    half = x.shape[-1] // 2
    rotated = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + rotated * sin).to(x.dtype)


def attention_mask_4d(mask, query_length, past_length, device):
    """The mask that scaled_dot_product_attention takes, and whether plain causality is all that is needed.

    mask: None, 2-D (B, past + T) with 1 for real tokens, or 4-D (returned as given). A padded query sees
    itself alone, so that its softmax stays finite.
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
    visible = (columns <= rows) & mask.bool()[:, None, :] | (columns == rows)
    return visible[:, None], False


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
        self.o_proj.into_residual = True  # type: ignore[assignment]  # read where weights begin

    def forward(self, x, angles, mask, causal, cache, slot=None):
        """Attend from x (B, T, hidden) to itself and the cache → (B, T, hidden).

        :param angles: cos and sin of `rotary`; slot: of the cache, where it is not the layer's own.
        """
        q, k, v = (
            p(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, *angles), rotate(k, *angles)
        if cache is not None:
            k, v = cache.update(k, v, self.slot if slot is None else slot)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=self.grouped)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """SwiGLU (arXiv 2002.05202)."""

    def __init__(self, config, size):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, size, bias=False)
        self.down_proj = nn.Linear(size, config.hidden_size, bias=False)
        self.down_proj.into_residual = True  # type: ignore[assignment]  # read where weights begin

    def forward(self, x):
        """Hidden states (…, hidden) → (…, hidden)."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(GradientCheckpointingLayer):
    """Pre-norm transformer block: attention, then SwiGLU."""

    def __init__(self, config, slot, size):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, slot)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config, size)

    def forward(self, x, angles, mask, causal, cache, slot=None):
        """Hidden states x (B, T, hidden) after attention and SwiGLU."""
        x = x + self.self_attn(self.input_layernorm(x), angles, mask, causal, cache, slot)
        return x + self.mlp(self.post_attention_layernorm(x))
