"""Generation in slots: a fixed number of texts go on together, and a finished one's slot is given to the next prompt.

Longest first, so that what goes on together is of like length. Prompts are read in passes of their own, several at a time,
padded on the left (positions count from each text's first token); the same prompt is read once, however often it is
asked. What a cache may hold is counted in tokens, slots times columns, and every admitted text has its place to the end.
Continuous batching is Orca's (Yu et al., OSDI 2022); there a step mixes reading and writing, here passes do one of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .cache import RowCache, require_rows, row_cache, takes
from .requests import Decoding, Request, choose, penalised

SLOTS = 64
"""Texts that go on together."""
CACHE_BYTES = 2 << 30
"""What keys and values may take on a CPU; on a GPU it is half of what is free."""
READ_TOKENS = 4096
"""Tokens of prompts in one pass, padding counted: what is computed for each is many times its keys and values."""


@dataclass(eq=False)
class Row:
    """A text under way."""

    number: int
    request: Request
    written: list[int] = field(default_factory=list)
    generator: torch.Generator | None = None

    @property
    def reach(self) -> int:
        """Columns that it may come to need."""
        return len(self.request.prompt) + self.request.limit

    def is_over(self) -> bool:
        """Whether it ends with the token that was written last."""
        request, written = self.request, self.written
        if written[-1] in request.stops or len(written) == request.limit:
            return True
        return request.ended is not None and request.ended(written)


def generate(
    model: Any,
    requests: Sequence[Request],
    *,
    slots: int = SLOTS,
    cache_tokens: int | None = None,
    finished: Callable[[int, list[int]], None] | None = None,
) -> list[list[int]]:
    """What the model writes after each prompt: up to and with the token that ends it, or `limit` tokens.

    :param slots: texts that go on together at most.
    :param cache_tokens: slots times columns of the cache at most; left out: what CACHE_BYTES holds. One text alone may
        have more.
    :param finished: is told of each text as it ends: its number among the requests, and its tokens.
    :returns: token ids, in the order of the requests.
    :raises InputError: the model keeps another state than keys and values.
    """
    require_rows(model)
    answers: list[list[int]] = [[] for _ in requests]
    rows = [Row(number, request) for number, request in enumerate(requests) if request.limit > 0]
    budget = tokens_that_fit(model) if cache_tokens is None else cache_tokens
    batch = Batch(model, sorted(rows, key=lambda row: (-row.reach, row.number)), slots, budget)
    with torch.no_grad():
        for row in batch.run():
            answers[row.number] = row.written
            if finished is not None:
                finished(row.number, row.written)
    return answers


def tokens_that_fit(model: Any) -> int:
    """Tokens whose keys and values fit into what a cache may take."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = len(row_cache(model).layers)
    bytes_of_token = 2 * layers * heads * size * torch.finfo(model.dtype).bits // 8
    free = CACHE_BYTES
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0] // 2
    return int(max(1, free // bytes_of_token))


class Batch:
    """The texts under way, their cache, and those that wait.

    :param waiting: longest first.
    """

    def __init__(self, model: Any, waiting: list[Row], slots: int, budget: int) -> None:
        self.model, self.waiting, self.slots, self.budget = model, waiting, slots, budget
        self.takes = takes(model)
        self.rows: list[Row | None] = []
        self.cache: RowCache | None = None
        self.lengths = torch.zeros(0, dtype=torch.long, device=model.device)
        self.next = self.lengths

    def run(self) -> Iterator[Row]:
        """Step until all texts have ended, and give each as it does."""
        while self.waiting or any(self.rows):
            yield from self.admit()
            if any(self.rows):
                yield from self.step()

    def admit(self) -> Iterator[Row]:
        """Read further prompts, where enough slots are free to make a pass worth it, and give up slots nobody needs."""
        alive = sum(row is not None for row in self.rows)
        room = self.room(alive)
        if room and (not alive or room >= min(len(self.waiting), max(1, self.slots // 8))):
            newcomers, self.waiting = self.waiting[:room], self.waiting[room:]
            for group in groups(newcomers):
                yield from self.read(group)
        elif not self.waiting and alive < 0.75 * len(self.rows):
            self.keep([slot for slot, row in enumerate(self.rows) if row is not None])

    def room(self, alive: int) -> int:
        """How many of those that wait can go on beside the living, each with its place to the end."""
        if not self.waiting:
            return 0
        reach = max([self.waiting[0].reach, *(row.reach for row in self.rows if row is not None)])
        fits = max(self.budget // reach, 1)
        return max(0, min(len(self.waiting), min(self.slots, fits) - alive))

    def read(self, group: list[Row]) -> Iterator[Row]:
        """Read prompts and write the first token behind each."""
        prompts = list(dict.fromkeys(tuple(row.request.prompt) for row in group))
        width = max(map(len, prompts))
        device = self.model.device
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        mask = torch.arange(width, device=device) >= width - lengths[:, None]
        cache = row_cache(self.model)
        logits = self.forward(ids, mask, (mask.cumsum(-1) - 1).clamp_min(0), cache)
        which = [prompts.index(tuple(row.request.prompt)) for row in group]
        ended, tokens = self.write(group, logits[which])
        yield from ended
        living = [place for place, row in enumerate(group) if row not in ended]
        if living:
            chosen = torch.tensor([which[place] for place in living], device=device)
            if chosen.tolist() != list(range(len(prompts))):
                cache.select(chosen)
            self.join([group[place] for place in living], cache, lengths[chosen], tokens[living])

    def join(self, newcomers: list[Row], cache: RowCache, lengths: Tensor, tokens: Tensor) -> None:
        """Give slots to texts whose prompts were read: free ones, or new ones beside them."""
        if self.cache is None or not any(self.rows):
            self.rows, self.cache, self.lengths, self.next = list(newcomers), cache, lengths, tokens
            return
        free = [slot for slot, row in enumerate(self.rows) if row is None]
        if len(free) < len(newcomers):  # further rows begin as copies of one, and are replaced at once
            more = len(newcomers) - len(free)
            free += range(len(self.rows), len(self.rows) + more)
            self.keep([*range(len(self.rows)), *[0] * more])
        for slot, row in zip(free, newcomers, strict=False):
            self.rows[slot] = row
        into = torch.tensor(free[: len(newcomers)], device=lengths.device)
        self.cache.replace(into, cache)
        self.lengths = self.lengths.index_copy(0, into, lengths)
        self.next = self.next.index_copy(0, into, tokens)

    def keep(self, slots: list[int]) -> None:
        """Keep these slots alone, in this order."""
        assert self.cache is not None
        index = torch.tensor(slots, device=self.lengths.device)
        self.rows = [self.rows[slot] for slot in slots]
        self.cache.select(index)
        self.lengths, self.next = self.lengths[index], self.next[index]

    def step(self) -> Iterator[Row]:
        """Write one token more in every slot, and give the texts that end with it."""
        assert self.cache is not None
        self.lengths = self.lengths + 1
        self.cache.trim(int(self.lengths.max()) - 1)
        width = self.cache.get_seq_length() + 1
        mask = torch.arange(width, device=self.lengths.device) >= width - self.lengths[:, None]
        logits = self.forward(self.next[:, None], mask, self.lengths[:, None] - 1, self.cache)
        ended, self.next = self.write(self.rows, logits)
        for row in ended:
            slot = self.rows.index(row)
            self.rows[slot] = None
            self.lengths[slot] = 0
        yield from ended

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: RowCache) -> Tensor:
        """The logits (rows, V) behind the last column, float32."""
        options: dict[str, Any] = {"position_ids": positions, "logits_to_keep": 1}
        out = self.model(
            input_ids=ids,
            attention_mask=mask.long(),
            past_key_values=cache,
            use_cache=True,
            **{name: value for name, value in options.items() if name in self.takes},
        )
        return out.logits[:, -1].float()

    def write(self, rows: Sequence[Row | None], logits: Tensor) -> tuple[list[Row], Tensor]:
        """Choose the next token of each text.

        :param rows: None where a slot is free.
        :returns: the texts that end with it, and the tokens (rows,).
        """
        alike: dict[Decoding, list[int]] = {}
        for place, row in enumerate(rows):
            if row is not None:
                alike.setdefault(row.request.decoding, []).append(place)
        tokens = torch.zeros(len(rows), dtype=torch.long, device=logits.device)
        for decoding, places in alike.items():
            of_these = logits if len(places) == len(rows) else logits[places]
            if decoding.repetition_penalty != 1:
                texts = [[*row.request.prompt, *row.written] for place in places if (row := rows[place])]
                of_these = torch.stack(
                    [
                        penalised(own, text, decoding.repetition_penalty)
                        for own, text in zip(of_these, texts, strict=True)
                    ]
                )
            uniforms = torch.tensor(
                [uniform(rows[place]) if decoding.temperature else 0.0 for place in places]
            )
            tokens[places] = choose(of_these, decoding, uniforms.to(logits.device))
        ended = []
        for row, token in zip(rows, tokens.tolist(), strict=True):
            if row is not None:
                row.written.append(token)
                if row.is_over():
                    ended.append(row)
        return ended, tokens


def uniform(row: Row | None) -> float:
    """The next number of a text's own stream; 0 for a free slot."""
    if row is None:
        return 0.0
    if row.generator is None:
        row.generator = torch.Generator().manual_seed(row.request.seed)
    return float(torch.rand((), generator=row.generator))


def groups(rows: list[Row]) -> Iterator[list[Row]]:
    """Rows whose prompts are read in one pass: of like length, at most READ_TOKENS together."""
    rows = sorted(rows, key=lambda row: -len(row.request.prompt))
    while rows:
        count = max(1, READ_TOKENS // len(rows[0].request.prompt))
        yield rows[:count]
        rows = rows[count:]
