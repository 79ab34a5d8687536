"""Quiet-STaR's inference: think before each prediction, then mix what was thought into it (arXiv 2403.09629).

A *slot* is one thought: row b of the batch has S slots, slot s hanging off column `positions[b, s]` of its text. Two slots
may hang off one position (the passes of REINFORCE). All slots of all rows grow by one token per forward pass: with each
step the attention mask gets one more diagonal block, so that a thought token sees the text up to its position and
its own thought, and nothing of any other. With `positions = 0 … T−1` this is the tokenwise parallel sampling of the
paper's figure 3.

    text  x0 x1 x2 │ <think> of each slot │ a sampled token of each slot │ … │ </think> of each slot

A thought may end itself: where it says </think> before its full length, what is left of its steps is *padding*. Padding
tokens take part in the forward passes (every slot costs the same), but nothing sees them and they have no position, so
that <think> 8 9 </think> is read as the same words in a text are. The reference always thinks at full length.

The prediction after a thought is mixed with the prediction without it by the talk head's weight w:
logits = before + w·(after − before). The reference code (ezelikman/quiet-star) mixes the hidden states and applies
the output layer once; that is the same function wherever the output layer is affine, and mixing logits leaves any other
output layer (soft capping, scaling) alone. w = 0 gives the logits without a thought, bit for bit.

This file travels inside the artifact and imports torch and transformers alone. A model that can think has the submodule
`talk_head` and `config.thoughts = {"length": tokens of a thought, "start": id of <think>, "end": id of </think>,
"mixing": true}`.
Training is not here: a model needs none of it to think.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache


class Head(NamedTuple):
    """From hidden states to logits, as the model itself does it."""

    layer: Any  # hidden states (…, d) → (…, V)
    scale: float  # of the logits: Cohere's `logit_scale`, one over Granite's `logits_scaling`
    cap: float | None  # logits become cap · tanh(logits / cap), as in Gemma 2; None: they stay
    width: int  # V

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states (…, d) after the final norm → logits (…, V)."""
        logits = self.layer(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def head_of(model: Any) -> Head:
    """The head of a Cognate, of a model of transformers, or of one that is wrapped; `layer` is None where it has none."""
    model = model.inner if model.config.model_type == "forge_wrapped" else model
    config = model.config.get_text_config()
    layer = model.head if config.model_type == "cognate" else model.get_output_embeddings()
    scale = (getattr(config, "logit_scale", None) or 1.0) / (getattr(config, "logits_scaling", None) or 1.0)
    return Head(layer, scale, getattr(config, "final_logit_softcapping", None), config.vocab_size)


class TalkHead(nn.Module):
    """The mixing weight of a thought: an MLP 2d → d → d → 1 with ReLU over the hidden states without and with it.

    The last layer has no bias and starts at zero, as in the reference: an untrained head gives w = 0 exactly, and so
    leaves every logit as it was. The weight is not squashed: it may pass 1 or fall below 0.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.inward = nn.Linear(2 * hidden_size, hidden_size)
        self.middle = nn.Linear(hidden_size, hidden_size)
        self.outward = nn.Linear(hidden_size, 1, bias=False)
        self.start_closed()

    def start_closed(self) -> None:
        """Zero the last layer, so that thoughts count for nothing until they are trained to."""
        nn.init.zeros_(self.outward.weight)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """before, after: (…, d) hidden states without and with the thought → w: (…, 1)."""
        hidden = torch.relu(self.inward(torch.cat([before, after], dim=-1)))
        return self.outward(torch.relu(self.middle(hidden)))


class Text(NamedTuple):
    """A forward pass over plain text, with all that thoughts need to hang off it."""

    hidden: Tensor  # (B, T′, d), of the last T′ ≤ T columns, after the final norm
    cache: Any  # keys and values of the text
    position_ids: Tensor  # (B, T) int64
    attention_mask: Tensor  # (B, T), 1 at text and 0 at padding


class Thought(NamedTuple):
    """The predictions of S slots."""

    logits: Tensor  # (B, S, V), mixed
    before: Tensor  # (B, S, V), without the thought
    weight: Tensor  # (B, S, 1), the talk head's
    tokens: (
        Tensor  # (B, S, L) int64, the thoughts without <think>; from the end of a shorter one on, </think>
    )


def encode_text(model: Any, input_ids: Tensor, attention_mask: Tensor | None = None) -> Text:
    """One forward pass over the text. input_ids: (B, T), padded wherever `attention_mask` is 0."""
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    position_ids = (mask.long().cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=position_ids,
        past_key_values=DynamicCache()
        if slides(model)
        else None,  # of all columns, those beyond a window too
        use_cache=True,
        output_hidden_states=True,
        logits_to_keep=1,
    )
    return Text(out.hidden_states[-1], out.past_key_values, position_ids, mask)


def slides(model: Any) -> bool:
    """Whether some of the model's layers see no further back than a window.

    :raises ValueError: some keep another state than keys and values, which thoughts cannot hang off.
    """
    config = model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    if unknown := sorted({*kinds} - {"full_attention", "sliding_attention"}):
        raise ValueError(f"thoughts cannot hang off layers of the kind {', '.join(unknown)}")
    return getattr(config, "sliding_window", None) is not None and "sliding_attention" in kinds


def by_layer(model: Any, mask: Tensor, queries: Tensor, keys: Tensor) -> Any:
    """An additive mask (B, 1, Q, K) as the model's layers take it: by its kind of layer where some see a window only.

    :param queries: (B, Q), and keys: (B, K): positions in the text; a window counts those, not columns.
    """
    if not slides(model):
        return mask
    config = model.config.get_text_config()
    far = queries[:, :, None] - keys[:, None] >= config.sliding_window
    near = mask.masked_fill(far[:, None], torch.finfo(mask.dtype).min)
    whole = "full_attention" in (getattr(config, "layer_types", None) or ())
    return {"full_attention": mask, "sliding_attention": near} if whole else near


def fork(cache: Any) -> Any:
    """A cache that grows apart from `cache`. Growing replaces tensors and never writes into them, so they are shared."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def thought_mask(
    visible: Tensor, padding_mask: Tensor, steps: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """The additive attention mask of the last `steps` thought steps.

    :param visible: (B, S, T) bool, the text that each slot sees.
    :param padding_mask: (B, K, S) bool, which tokens of all K steps so far nothing may see.
    :return: (B, 1, steps·S, T + K·S), 0 where a thought token may look and the dtype's minimum elsewhere. Queries
        and keys run step by step, and slot by slot within a step: every step's block of keys is a diagonal.
    """
    batch, slots, text = visible.shape
    total = padding_mask.shape[1]
    earlier = torch.ones(steps, total, dtype=torch.bool, device=visible.device).tril(total - steps)
    same_slot = torch.eye(slots, dtype=torch.bool, device=visible.device)
    own_slot = (earlier[:, None, :, None] & same_slot[None, :, None, :]).reshape(steps * slots, -1)
    visible_columns = visible[:, None].expand(batch, steps, slots, text).reshape(batch, steps * slots, text)
    allowed = torch.cat([visible_columns, own_slot & ~padding_mask.reshape(batch, 1, -1)], dim=-1)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def visible_text(text: Text, positions: Tensor) -> Tensor:
    """positions: (B, S) → (B, S, T) bool: the text up to and with each slot's position, without padding."""
    columns = torch.arange(text.attention_mask.shape[1], device=positions.device)
    return (columns <= positions[..., None]) & text.attention_mask[:, None].bool()


def continue_thoughts(
    model: Any, text: Text, cache: Any, positions: Tensor, tokens: Tensor, padding_mask: Tensor
) -> Tensor:
    """Feed further thought tokens to every slot in one forward pass; `cache` grows by them.

    :param positions: (B, S), the column of the text that each slot hangs off.
    :param tokens: (B, K, S) int64, K further tokens of each slot.
    :param padding_mask: (B, K₀ + K, S) bool, padding tokens among the K₀ that the cache holds and these.
    :return: hidden states (B, K, S, d) at these tokens, after the final norm.
    """
    batch, steps, slots = tokens.shape
    origin = text.position_ids.gather(1, positions)
    own = (origin[:, None] + (~padding_mask).long().cumsum(1)).flatten(
        1
    )  # of all steps, those in the cache too
    position_ids = own[:, -steps * slots :]
    mask = thought_mask(visible_text(text, positions), padding_mask, steps, text.hidden.dtype)
    out = model(
        input_ids=tokens.reshape(batch, steps * slots),
        attention_mask=by_layer(model, mask, position_ids, torch.cat([text.position_ids, own], dim=1)),
        position_ids=position_ids,
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
        logits_to_keep=1,
    )
    return out.hidden_states[-1].reshape(batch, steps, slots, -1)


def silence(logits: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """The logits (…, V) with some tokens made impossible."""
    return logits.index_fill(-1, torch.tensor(tokens, device=logits.device), torch.finfo(logits.dtype).min)


def choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """(…, V) → (…) a sample of softmax(logits / temperature), by the Gumbel-max trick; temperature 0 is greedy."""
    if temperature == 0:
        return logits.argmax(-1)
    device = logits.device if generator is None else generator.device
    noise = torch.empty(logits.shape, device=device).exponential_(generator=generator).log_()
    return (logits.float() / temperature - noise.to(logits.device)).argmax(-1)


@torch.no_grad()
def sample_thoughts(
    model: Any,
    text: Text,
    positions: Tensor,
    *,
    length: int,
    start: int,
    end: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample a thought of `length` tokens in every slot, one token of every slot in each forward pass.

    Every thought opens with `start`, which is never sampled, and is closed by `end`, by its own choice or at its length.

    :param positions: (B, S).
    :return: (B, S, length) int64; from the end of a shorter thought on, `end`.
    """
    cache, head = fork(text.cache), head_of(model)
    token = torch.full_like(positions, start)
    thought: list[Tensor] = []
    padding_mask = [torch.zeros_like(positions, dtype=torch.bool)]
    for _ in range(length):
        hidden = continue_thoughts(
            model, text, cache, positions, token[:, None], torch.stack(padding_mask, dim=1)
        )
        token = choose(silence(head(hidden[:, 0]), (start,)), temperature, generator).masked_fill(
            padding_mask[-1], end
        )
        thought.append(token)
        padding_mask.append(token == end)
    return torch.stack(thought, dim=-1)


def enclose(thoughts: Tensor, start: int, end: int) -> tuple[Tensor, Tensor]:
    """Thoughts (B, S, L) between <think> and </think>, step by step: tokens (B, L + 2, S) and which of them are padding."""
    tokens = nn.functional.pad(nn.functional.pad(thoughts, (1, 0), value=start), (0, 1), value=end)
    return tokens.transpose(1, 2), nn.functional.pad(thoughts == end, (1, 1)).transpose(1, 2)


def without_thought(text: Text, columns: Tensor) -> Tensor:
    """The text's own hidden states (B, …, d) at columns (B, …) of it."""
    rows = torch.arange(columns.shape[0], device=columns.device).view(-1, *[1] * (columns.dim() - 1))
    return text.hidden[rows, columns - (text.position_ids.shape[1] - text.hidden.shape[1])]


def mix(before: Tensor, after: Tensor, weight: Tensor) -> Tensor:
    """Logits (…, V) without and with a thought, mixed with the talk head's weight (…, 1)."""
    return before + weight * (after - before)


@torch.no_grad()
def think_at(
    model: Any,
    text: Text,
    positions: Tensor,
    *,
    length: int | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    thoughts: Tensor | None = None,
) -> Thought:
    """Think at some positions of a text that was read, and predict the token after each of them.

    :param positions: (B, S) columns of the text.
    :param length: thought tokens between <think> and </think>; left out: as the model was trained.
    :param temperature: 0 is greedy and deterministic.
    :param thoughts: (B, S, L) thoughts to use in place of sampled ones; `end` from the end of a shorter one on.
    :raises ValueError: the model was not taught to think.
    """
    settings = getattr(model.config, "thoughts", None)
    if not settings:
        raise ValueError("this model has no talk head: give one that was trained to think")
    start, end = settings["start"], settings["end"]
    if thoughts is None:
        thoughts = sample_thoughts(
            model,
            text,
            positions,
            length=settings["length"] if length is None else length,
            start=start,
            end=end,
            temperature=temperature,
            generator=generator,
        )
    enclosed, padding_mask = enclose(thoughts, start, end)
    hidden = continue_thoughts(model, text, fork(text.cache), positions, enclosed, padding_mask)[:, -1]
    plain, head = without_thought(text, positions), head_of(model)
    before, weight = head(plain), model.talk_head(plain, hidden)
    return Thought(mix(before, head(hidden), weight), before, weight, thoughts)


@torch.no_grad()
def think(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    positions: Tensor | None = None,
    **options: Any,
) -> Thought:
    """Read a text (B, T) and think at `positions` (B, S), or at all its T columns; `options` are those of `think_at`."""
    text = encode_text(model, input_ids, attention_mask)
    if positions is None:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    return think_at(model, text, positions, **options)


@torch.no_grad()
def generate_with_thoughts(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    limit: int,
    stops: Sequence[int],
    **options: Any,
) -> Tensor:
    """Greedy generation that thinks before every token; the thoughts are forgotten once the token is generated.

    <think> and </think> are never generated: the model is not taught not to.

    :param input_ids: (B, T) prompts, padded on either side where `attention_mask` is 0.
    :param limit: tokens to generate at most.
    :param stops: the tokens that end a row; what follows in a row is the same one again.
    :param options: those of `think_at`.
    :return: (B, ≤ limit) int64.
    """
    text = encode_text(model, input_ids, attention_mask)
    columns = torch.arange(input_ids.shape[1], device=input_ids.device)
    position = (columns * text.attention_mask).amax(-1, keepdim=True)
    ended = torch.zeros_like(position, dtype=torch.bool)
    generated: list[Tensor] = []
    ends = torch.tensor(list(stops), dtype=torch.long, device=input_ids.device)
    while len(generated) < limit and not bool(ended.all()):
        if generated:
            text = append_token(model, text, generated[-1], position)
            position = torch.full_like(position, text.position_ids.shape[1] - 1)
        thought = think_at(model, text, position, **options)
        silent = (model.config.thoughts["start"], model.config.thoughts["end"])
        token = silence(thought.logits[:, 0], silent).argmax(-1, keepdim=True)
        generated.append(torch.where(ended, generated[-1], token) if generated else token)
        ended = ended | torch.isin(generated[-1], ends)
    return torch.cat(generated, dim=1) if generated else input_ids[:, :0]


def append_token(model: Any, text: Text, token: Tensor, position: Tensor) -> Text:
    """The text with one more token (B, 1), which follows the one in column `position` (B, 1), in one cached pass."""
    mask = torch.cat([text.attention_mask, torch.ones_like(token)], dim=1)
    position_ids = text.position_ids.gather(1, position) + 1
    positions = torch.cat([text.position_ids, position_ids], dim=1)
    seen: Any = mask
    if slides(model):
        additive = torch.zeros(mask[:, None, None].shape, dtype=text.hidden.dtype, device=mask.device)
        additive.masked_fill_(mask[:, None, None] == 0, torch.finfo(additive.dtype).min)
        seen = by_layer(model, additive, position_ids, positions)
    out = model(
        input_ids=token,
        attention_mask=seen,
        position_ids=position_ids,
        past_key_values=text.cache,
        use_cache=True,
        output_hidden_states=True,
    )
    return Text(out.hidden_states[-1], out.past_key_values, positions, mask)
