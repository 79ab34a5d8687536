"""Cognate: a small decoder-only transformer, plain or with a neural memory and a refinement loop.

RMSNorm, RoPE, SwiGLU, grouped-query attention, tied embeddings: the Llama block. Masks may be 2-D (B, S:
which tokens are real, padding left or right) or 4-D (B, 1 or H, T, S: boolean "may attend", or additive), so
that parallel thoughts can give every position its own diagonal. Tokens with a 4-D mask over a cache read the
neural memory as it was at the last text token that their mask shows, and do not write it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .blocks import Block, attention_mask_4d, rotary
from .coded import apply_storage  # if coded
from .configuration_cognate import CognateConfig
from .experts import set_expert  # if experts
from .memory import MemoryState, NeuralMemory  # if memory
from .refinement import Refinement, ponder_loss  # if refinement
from .thoughts import TalkHead  # if thoughts


class CognatePreTrainedModel(PreTrainedModel):
    """What both Cognates share: their config, and how weights begin."""

    config_class = CognateConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Block"]  # noqa: RUF012
    _supports_sdpa = True

    def _init_weights(self, module):
        """Linear layers N(0, 1/fan_in), embeddings .02; added modules are closed.

        Into the residual stream linear layers are narrower by .05, so that each of them begins not much larger than the
        embedding: else no later layer can tell which token it stands on.
        """
        if isinstance(module, nn.Linear):
            std = module.in_features**-0.5
            if getattr(module, "into_residual", False):
                std *= 0.05
            nn.init.normal_(module.weight, std=std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.RMSNorm):
            nn.init.ones_(module.weight)
        elif hasattr(module, "start_closed"):
            module.start_closed()


@dataclass
class CognateOutput(BaseModelOutputWithPast):
    """`ponder`: the refinement's steps, their states after the final norm; None without an open refinement."""

    ponder: tuple | None = None


class CognateModel(CognatePreTrainedModel):
    """Embedding, blocks and final norm: token ids (B, T) → hidden states (B, T, hidden)."""

    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Block(config, i, config.intermediate_size) for i in range(config.num_hidden_layers)
        )
        if config.memory:
            self.memory = NeuralMemory(config)
        if config.refinement:
            block = Block(config, config.num_hidden_layers, config.refinement_size)
            self.refinement = Refinement(config, block)
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def extend(self, cache):
        """Give `cache` the slots that generate() does not know of → the memory's state, or None."""
        slots = self.config.num_hidden_layers + (
            self.config.refinement_steps if self.config.refinement else 0
        )
        while len(cache.layers) < slots:
            cache.layers.append(DynamicLayer())
        if not self.config.memory:
            return None
        if len(cache.layers) == slots:
            cache.layers.append(MemoryState())
        return cache.layers[slots]

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
        """Token ids or embeddings → CognateOutput with normed hidden states (B, T, hidden).

        :raises ValueError: both or neither of input_ids and inputs_embeds are given.
        """
        config = self.config
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values
        if cache is None and use_cache:
            cache = DynamicCache(config=config)
        state = None if cache is None else self.extend(cache)
        past, length = 0 if cache is None else cache.get_seq_length(), x.shape[1]
        if position_ids is None:
            if attention_mask is not None and attention_mask.ndim == 2:
                position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, -length:]
            else:
                position_ids = torch.arange(past, past + length, device=x.device)[None]
        angles = rotary(position_ids, config.hidden_size // config.num_attention_heads, config.rope_theta)
        mask, causal = attention_mask_4d(attention_mask, length, past, x.device)
        states = [x] if output_hidden_states else None
        for number, layer in enumerate(self.layers):
            if config.memory and number == config.num_hidden_layers // 2:
                x = self.memory(x, attention_mask, state)
            x = layer(x, angles, mask, causal, cache)
            if states is not None:
                states.append(x)
        ponder = self.refinement(x, angles, mask, causal, cache) if config.refinement else None
        if ponder is None:
            x = self.norm(x)
        else:
            ponder = ponder._replace(states=self.norm(ponder.states))
            x = ponder.choose(ponder.states)
        if states is not None:
            states[-1] = x  # as in transformers, the last one is normed
        hidden_states = None if states is None else tuple(states)
        return CognateOutput(x, past_key_values=cache, hidden_states=hidden_states, ponder=ponder)


class CognateForCausalLM(CognatePreTrainedModel, GenerationMixin):
    """The language model. `labels` are aligned with `input_ids` (shifted inside), −100 is ignored.

    The loss is the mean cross-entropy in nats a token; while training with an open or opening refinement it
    is PonderNet's, with its KL term. A cache is made only when `use_cache` asks for one (`generate` does).
    """

    set_expert = set_expert  # if experts

    def __init__(self, config):
        super().__init__(config)
        self.model = CognateModel(config)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.thoughts:
            self.talk_head = TalkHead(config.hidden_size)
        if config.storage:
            apply_storage(self, config.storage)
        self.post_init()

    def head(self, x):
        """Hidden states (…, hidden) → logits (…, vocabulary)."""
        if self.config.tie_word_embeddings:
            return F.linear(x, self.model.embed_tokens.weight)
        return self.lm_head(x)

    def forward(self, input_ids=None, labels=None, logits_to_keep=0, **kwargs):
        """Token ids (B, T) → logits (B, T′, vocabulary), and with labels the loss.

        :param logits_to_keep: T′, of the last columns; 0: all; or (T′,) int64, the columns.
        """
        out = self.model(input_ids, **kwargs)
        ponder, loss = out.ponder, None
        if (
            labels is not None
            and self.training
            and ponder is not None
            and self.model.refinement.gate.requires_grad
        ):
            every = self.head(ponder.states)
            logits = ponder.choose(every)
            losses = torch.stack([next_token_loss(step, labels, "none") for step in every])
            log_p = ponder.log_p[:, :, :-1][:, labels[:, 1:] != -100]
            loss = ponder_loss(log_p, losses, self.config.refinement_prior, self.config.refinement_beta)
        else:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.head(out.last_hidden_state[:, kept])
            if labels is not None:
                loss = next_token_loss(logits, labels)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, past_key_values=out.past_key_values, hidden_states=out.hidden_states
        )


def next_token_loss(logits, labels, reduction="mean"):
    """Cross-entropy in nats of logits (B, T, V) for labels (B, T) one place later, where they are not −100.

    reduction: "mean" (0 where nothing is labelled) or "none" → one loss for each labelled token, in order.
    """
    learnt = labels[:, 1:] != -100
    losses = F.cross_entropy(logits[:, :-1][learnt].float(), labels[:, 1:][learnt], reduction="none")
    return losses if reduction == "none" else losses.sum() / max(losses.numel(), 1)
