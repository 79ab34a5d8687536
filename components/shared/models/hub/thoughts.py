"""Quiet-STaR's inference: think before each prediction, then mix what was thought into it (arXiv 2403.09629).

A *slot* is one thought: row b of the batch thinks S thoughts, thought s hanging off position `positions[b, s]`. Two slots
may hang off one position (the passes of REINFORCE). All slots of all rows grow by one token per forward pass: the
attention mask gets, for each step, one more diagonal block (`eye(S)`), so that a thought token sees the text up to its
position and its own thought, and nothing of any other thought. With `positions = 0…T−1` this is the tokenwise parallel
sampling of the paper's figure 3.

    text  x0 x1 x2 │ step 0: <think> per slot │ step 1: a sampled token per slot │ … │ </think> per slot

The prediction after a thought is mixed with the prediction without it by the talk head's weight w:
logits = before + w·(after − before). The reference code mixes the hidden states and applies the output layer once;
that is the same function wherever the output layer is affine, and mixing logits leaves any other output layer (soft
capping, scaling) alone. w = 0 gives the logits without a thought bit for bit.

This file travels inside the artifact: it imports torch only. What it does not do: training (components/quietstar).
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class TalkHead(nn.Module):
    """The mixing weight of a thought: MLP 2d → d → d → 1 with ReLU on the hidden states without and with the thought.

    The last layer has no bias and starts at zero, as in the reference: an untrained head gives w = 0 exactly, and so
    leaves every logit as it was. The weight is not squashed: it may pass 1 or fall below 0.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.inward = nn.Linear(2 * hidden_size, hidden_size)
        self.middle = nn.Linear(hidden_size, hidden_size)
        self.weight = nn.Linear(hidden_size, 1, bias=False)
        self.start_closed()

    def start_closed(self) -> None:
        """Set the last layer to zero, so that thoughts count for nothing until they are trained to."""
        nn.init.zeros_(self.weight.weight)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """before, after: (…, d) hidden states without and with the thought → w: (…, 1)."""
        hidden = torch.relu(self.inward(torch.cat([before, after], dim=-1)))
        return self.weight(torch.relu(self.middle(hidden)))


class Text(NamedTuple):
    """A forward pass over plain text, and what thoughts need to hang off it."""

    logits: Tensor  # (B, T, V)
    hidden: Tensor  # (B, T, d), the last layer's, after the final norm
    cache: Any  # the keys and values of the text
    position_ids: Tensor  # (B, T), int64
    attention_mask: Tensor  # (B, T), 1 at text and 0 at padding


class Thought(NamedTuple):
    """What `think` found for S slots."""

    logits: Tensor  # (B, S, V), mixed
    before: Tensor  # (B, S, V), without the thought
    weight: Tensor  # (B, S, 1), the talk head's
    tokens: Tensor  # (B, S, length), the thoughts themselves, without <think> and </think>


def read(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None) -> Text:
    """One forward pass over the text. input_ids: (B, T), padded on either side where `attention_mask` is 0."""
    if attention_mask is None:
        attention_mask = torch.ones_like(input_ids)
    position_ids = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=position_ids,
        use_cache=True,
        output_hidden_states=True,
    )
    return Text(out.logits, out.hidden_states[-1], out.past_key_values, position_ids, attention_mask)


def fork(cache: Any) -> Any:
    """A cache that grows apart from `cache`, sharing its tensors: growing replaces tensors and never writes into them."""
    twin = copy.copy(cache)
    twin.layers = [copy.copy(layer) for layer in cache.layers]
    return twin


def thought_mask(visible: Tensor, first: int, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The additive attention mask of thought steps `first … first+steps−1`.

    :param visible: (B, S, T) bool, the text that each slot sees.
    :return: (B, 1, steps·S, T + (first+steps)·S), 0 where a thought token may look, the dtype's minimum elsewhere.
        Queries and keys run step by step, slot by slot within a step; every key block of a step is a diagonal.
    """
    batch, slots, text = visible.shape
    own_step = torch.ones(steps, first + steps, dtype=torch.bool, device=visible.device).tril(first)
    own_slot = torch.eye(slots, dtype=torch.bool, device=visible.device)
    own = (own_step[:, None, :, None] & own_slot[None, :, None, :]).reshape(steps * slots, -1)
    seen = visible[:, None].expand(batch, steps, slots, text).reshape(batch, steps * slots, text)
    allowed = torch.cat([seen, own.expand(batch, -1, -1)], dim=-1)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=visible.device)
    return mask.masked_fill_(~allowed, torch.finfo(dtype).min)[:, None]


def visible_text(text: Text, positions: Tensor) -> Tensor:
    """positions: (B, S) → (B, S, T) bool: the text up to and with each slot's position, without padding."""
    columns = torch.arange(text.attention_mask.shape[1], device=positions.device)
    return (columns <= positions[..., None]) & text.attention_mask[:, None].bool()


def continue_thoughts(
    model: nn.Module, text: Text, cache: Any, positions: Tensor, tokens: Tensor, first: int
) -> tuple[Tensor, Tensor]:
    """Feed thought tokens of steps `first …` to every slot in one forward pass; `cache` grows by them.

    :param positions: (B, S), where in the text each slot hangs.
    :param tokens: (B, K, S) int64, K further tokens of each slot.
    :return: logits (B, K, S, V) and hidden states (B, K, S, d) at these tokens.
    """
    batch, steps, slots = tokens.shape
    origin = text.position_ids.gather(1, positions)
    step = torch.arange(first + 1, first + steps + 1, device=positions.device)
    out = model(
        input_ids=tokens.reshape(batch, steps * slots),
        attention_mask=thought_mask(visible_text(text, positions), first, steps, text.hidden.dtype),
        position_ids=(origin[:, None] + step[:, None]).reshape(batch, steps * slots),
        past_key_values=cache,
        use_cache=True,
        output_hidden_states=True,
    )
    shape = (batch, steps, slots, -1)
    return out.logits.reshape(shape), out.hidden_states[-1].reshape(shape)


def choose(logits: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Sample from softmax(logits / temperature) by the Gumbel-max trick; temperature 0 takes the most likely."""
    if temperature == 0:
        return logits.argmax(-1)
    noise = torch.empty_like(logits).exponential_(generator=generator).log_()
    return (logits / temperature - noise).argmax(-1)


@torch.no_grad()
def sample_thoughts(
    model: nn.Module,
    text: Text,
    positions: Tensor,
    length: int,
    *,
    start: int,
    silent: tuple[int, ...],
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Sample a thought of `length` tokens for every slot, all slots at once, one token of each per forward pass.

    :param positions: (B, S).
    :param start: the token <think> which opens every thought.
    :param silent: tokens that no thought may hold (<think> and </think>, as in the reference).
    :return: (B, S, length) int64.
    """
    cache = fork(text.cache)
    token = torch.full_like(positions, start)
    thought = []
    for step in range(length):
        logits, _ = continue_thoughts(model, text, cache, positions, token[:, None], first=step)
        token = choose(hush(logits[:, 0], silent), temperature, generator)
        thought.append(token)
    return torch.stack(thought, dim=-1)


def hush(logits: Tensor, silent: tuple[int, ...]) -> Tensor:
    """The logits with the tokens `silent` made impossible."""
    return logits.index_fill(-1, torch.tensor(silent, device=logits.device), torch.finfo(logits.dtype).min)


def mix(
    head: nn.Module, text: Text, places: Tensor, logits: Tensor, hidden: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix predictions after thoughts with those of the text at `places` (B, …): (mixed, before, weight)."""
    rows = torch.arange(places.shape[0], device=places.device).view(-1, *[1] * (places.dim() - 1))
    before = text.logits[rows, places]
    weight = head(text.hidden[rows, places], hidden)
    return before + weight * (logits - before), before, weight


@torch.no_grad()
def think(
    model: nn.Module,
    input_ids: Tensor,
    *,
    attention_mask: Tensor | None = None,
    positions: Tensor | None = None,
    length: int | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    tokens: Tensor | None = None,
) -> Thought:
    """Think at some positions of a text and predict the token after each of them.

    :param model: a causal language model with `talk_head` and `config.thoughts = {length, start, end}`.
    :param input_ids: (B, T), padded where `attention_mask` is 0.
    :param positions: (B, S) columns of input_ids to think at; all T columns when left out.
    :param length: thought tokens between <think> and </think>; the model's own when left out.
    :param temperature: 0 is greedy and deterministic.
    :param tokens: (B, S, length) thoughts to use instead of sampling them (pause tokens, shuffled thoughts).
    :raises ValueError: when the model was not taught to think.
    """
    settings = getattr(model.config, "thoughts", None)
    if not settings or getattr(model, "talk_head", None) is None:
        raise ValueError("this model has no talk head: only models that passed the quietstar phase can think")
    text = read(model, input_ids, attention_mask)
    if positions is None:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    if tokens is None:
        tokens = sample_thoughts(
            model,
            text,
            positions,
            settings["length"] if length is None else length,
            start=settings["start"],
            silent=(settings["start"], settings["end"]),
            temperature=temperature,
            generator=generator,
        )
    spoken = enclose(tokens, settings["start"], settings["end"])
    logits, hidden = continue_thoughts(model, text, fork(text.cache), positions, spoken, first=0)
    mixed, before, weight = mix(model.talk_head, text, positions, logits[:, -1], hidden[:, -1])
    return Thought(mixed, before, weight, tokens)


def enclose(tokens: Tensor, start: int, end: int) -> Tensor:
    """(B, S, length) thoughts → (B, length + 2, S), step by step, between <think> and </think>."""
    return nn.functional.pad(nn.functional.pad(tokens, (1, 0), value=start), (0, 1), value=end).transpose(
        1, 2
    )
