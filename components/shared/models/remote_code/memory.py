"""Titans' neural memory (Behrouz et al., arXiv 2501.00663) in its linear form: a matrix that learns while reading.

The memory M maps keys to values. Each real token x_t writes by one step of gradient descent with momentum on
ℓ(M; x_t) = ½‖k_t M − v_t‖², its surprise, and forgets by weight decay, all three at rates that it chooses
itself:

    S_t = η_t S_{t−1} − θ_t ∇ℓ(M_c; x_t)        M_t = (1 − α_t) M_{t−1} + S_t        y_t = q_t M_t

M_c is the memory at the start of the token's chunk (the paper's chunk-parallel form, section 3.2). Within a
chunk both recurrences are then linear in the gradients, so a chunk is two triangular matrices of decay
products and three matrix products. Padding neither writes nor counts. Queries and keys have length 1.

Ours: θ_t = σ(·)(1 − η_t)/chunk, so that a chunk of equal tokens makes one step of at most 1 and cannot
overshoot; the result is scaled back by the chunk and bounded by y/√(1 + mean y²). The paper's convolutions on
q, k, v are left out: attention blocks come before this memory and mix neighbours already.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.cache_utils import CacheLayerMixin


def rows_at(t, index):
    """Entries `index` (B, L') of t (B, heads, L, …), row by row → (B, heads, L', …)."""
    shape = (*index.shape, *[1] * (t.ndim - 3))
    return t.gather(2, index.reshape(shape)[:, None].expand(-1, t.shape[1], -1, *t.shape[3:]))


class Tokens(NamedTuple):
    """What tokens write, packed to the left of each row.

    k, v: (B, heads, L, d); logarithms of η and 1−α, and θ: (B, heads, L); real: (B, L) bool.
    """

    k: torch.Tensor
    v: torch.Tensor
    log_eta: torch.Tensor
    log_keep: torch.Tensor
    theta: torch.Tensor
    real: torch.Tensor

    def take(self, index):
        """The tokens at `index` (B, L'), row by row."""
        return Tokens._make([*(rows_at(t, index) for t in self[:5]), self.real.gather(1, index)])

    def widen(self, width):
        """The same tokens with padding at the right, `width` wide."""
        padding = width - self.real.shape[1]
        k, v = (F.pad(t, (0, 0, 0, padding)) for t in self[:2])
        return Tokens(k, v, *(F.pad(t, (0, padding)) for t in self[2:]))


class Written(NamedTuple):
    """A run of N chunks and what reading it needs. Row r of a chunk stands for "after its first r tokens"."""

    k: torch.Tensor  # (B, heads, N, C, d)
    errors: torch.Tensor  # (B, heads, N, C, d): −∇ℓ without its key, v − k M_c
    weights: torch.Tensor  # (B, heads, N, 1 + C, C): θ_i and what has become of token i's gradient by row r
    carry_m: torch.Tensor  # (B, heads, N, 1 + C): what is left of M_c
    carry_s: torch.Tensor  # (B, heads, N, 1 + C): what S_c has added
    memory: torch.Tensor  # (B, heads, N + 1, d, d): M at chunk starts and at the end
    momentum: torch.Tensor  # (B, heads, N + 1, d, d)
    token_count: torch.Tensor  # (B, T): how many tokens of this run came before or with column t of the input


def decay(log_rate):
    """log_rate (…, C) → (…, 1 + C, C): Π of the rates after token i up to row r, 0 where it comes later."""
    total = F.pad(log_rate.cumsum(-1), (1, 0))
    later = torch.ones(total.shape[-1], log_rate.shape[-1], dtype=torch.bool, device=log_rate.device).triu()
    return (total[..., :, None] - total[..., None, 1:]).masked_fill(later, -torch.inf).exp()


def write(tokens, memory, momentum, chunk, token_count):
    """Run all of `tokens` through the memory. memory, momentum: (B, heads, d, d), float32."""
    count = -(-tokens.real.shape[1] // chunk)
    if count > 1:
        tokens = tokens.widen(count * chunk)
    k, v, log_eta, log_keep, theta = (t.unflatten(2, (count, -1)) for t in tokens[:5])
    real = tokens.real.unflatten(1, (count, -1))[:, None]
    log_eta, log_keep, theta = log_eta * real, log_keep * real, theta * real
    by_keep, by_eta = decay(log_keep), decay(log_eta)
    to_memory = by_keep * real[..., None, :]  # M takes S in at every real token: Σ_j Π(1−α) over j of S_j
    weights = to_memory @ by_eta[..., 1:, :] * theta[..., None, :]
    carry_m = F.pad(log_keep.cumsum(-1), (1, 0)).exp()
    left_s = log_eta.cumsum(-1).exp()
    carry_s = (to_memory @ left_s[..., None])[..., 0]
    last_m = (k * weights[..., -1, :, None]).mT
    last_s = (k * (by_eta[..., -1, :] * theta)[..., None]).mT
    errors, memories, momenta = [], [memory], [momentum]
    for c in range(count):
        errors.append(v[:, :, c] - k[:, :, c] @ memory)
        end = (slice(None), slice(None), c, slice(-1, None), None)
        memory = carry_m[end] * memory + carry_s[end] * momentum + last_m[:, :, c] @ errors[c]
        momentum = left_s[end] * momentum + last_s[:, :, c] @ errors[c]
        memories.append(memory)
        momenta.append(momentum)
    return Written(
        k,
        torch.stack(errors, 2),
        weights,
        carry_m,
        carry_s,
        torch.stack(memories, 2),
        torch.stack(momenta, 2),
        token_count,
    )


def read_in_order(w, q):
    """Every token of the run reads right after it wrote. q: (B, heads, N, C, d) → the same shape."""
    from_own_chunk = (w.weights[..., 1:, :] * (q @ w.k.mT)) @ w.errors
    past = w.carry_m[..., 1:, None] * (q @ w.memory[:, :, :-1])
    return past + w.carry_s[..., 1:, None] * (q @ w.momentum[:, :, :-1]) + from_own_chunk


def read_at(w, q, after):
    """Read without writing. q: (B, heads, Q, d); after: (B, Q), how many of its tokens are written."""
    chunk = w.k.shape[3]
    which = (after - 1).clamp_min(0) // chunk
    row = (after - which * chunk)[:, None].expand(-1, q.shape[1], -1)
    y = torch.zeros_like(q)
    for c in range(w.k.shape[2]):
        rows = w.weights[:, :, c].gather(2, row.clamp(0, chunk)[..., None].expand(-1, -1, -1, chunk))
        keep = w.carry_m[:, :, c].gather(2, row.clamp(0, chunk))[..., None]
        push = w.carry_s[:, :, c].gather(2, row.clamp(0, chunk))[..., None]
        from_chunk = keep * (q @ w.memory[:, :, c]) + push * (q @ w.momentum[:, :, c])
        from_chunk = from_chunk + (rows * (q @ w.k[:, :, c].mT)) @ w.errors[:, :, c]
        y = torch.where((which == c)[:, None, :, None], from_chunk, y)
    return y


class MemoryState(CacheLayerMixin):
    """The memory's place in a cache: M and S at the start of the unfinished chunk, and that chunk's tokens.

    Beside it the latest run, so that tokens with a 4-D mask can read at any of its positions. Tensors are
    replaced, never changed: a shallow copy is a fork.
    """

    supports_early_init = False
    memory: Any
    momentum: Any
    tokens: Any
    written: Any

    def __init__(self):
        super().__init__()
        self.memory = self.momentum = self.tokens = self.written = None
        self.columns = self.first = self.last = (
            0  # columns of the cache; first and last + 1 of the latest run
        )

    def lazy_initialization(self, key_states, value_states):
        """Nothing is to be made: tensors come with the first run."""
        self.is_initialized = True

    def update(self, key_states, value_states, *args, **kwargs):
        """Refused: a memory has no keys and values.

        :raises TypeError: always.
        """
        raise TypeError("a memory state holds no keys and values")

    def get_seq_length(self):
        """Columns of the cache so far."""
        return self.columns

    def get_mask_sizes(self, query_length):
        """Columns of a mask for a query of this length, and where they begin."""
        return self.columns + query_length, 0

    def get_max_length(self):
        """There is none: −1."""
        return -1

    def reset(self):
        """Forget everything."""
        vars(self).update(vars(MemoryState()))

    def crop(self, tokens_to_remove):
        """Forget the last tokens: only those that did not write can be forgotten."""
        if -tokens_to_remove > self.columns - self.last:
            raise ValueError(
                "a neural memory cannot forget tokens that it has written: fork the cache before them"
            )
        self.columns += tokens_to_remove

    def rearrange(self, change):
        """Apply `change` to every tensor, all of which have the batch first."""
        if self.memory is not None:
            self.memory, self.momentum = change(self.memory), change(self.momentum)
            self.tokens = Tokens(*map(change, self.tokens))
            self.written = self.written and Written(*map(change, self.written))

    def reorder_cache(self, beam_idx):
        """Take other rows of the batch, as beam search asks."""
        self.rearrange(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_select_indices(self, indices):
        """Keep these rows of the batch."""
        self.rearrange(lambda t: t[indices])

    def replace_rows(self, rows, other):
        """Put the rows of another state in place of these; readers of the latest run are dropped."""
        self.memory, self.momentum = (
            mine.index_copy(0, rows, theirs)
            for mine, theirs in ((self.memory, other.memory), (self.momentum, other.momentum))
        )
        width = max(self.tokens.real.shape[1], other.tokens.real.shape[1])
        pairs = zip(self.tokens.widen(width), other.tokens.widen(width), strict=True)
        self.tokens = Tokens(*(mine.index_copy(0, rows, theirs) for mine, theirs in pairs))
        self.written = None

    def batch_repeat_interleave(self, repeats):
        """Repeat each row of the batch."""
        self.rearrange(lambda t: t.repeat_interleave(repeats, dim=0))

    def store(self, run, written, length, chunk):
        """Keep what comes after the last whole chunk of `run` (packed), and the run itself for readers."""
        total = run.real.sum(1)
        whole = total // chunk
        chunk_index = whole[:, None, None, None, None].expand(
            -1, *written.memory.shape[1:2], 1, *written.memory.shape[3:]
        )
        self.memory, self.momentum = (
            t.gather(2, chunk_index)[:, :, 0] for t in (written.memory, written.momentum)
        )
        rest = total - whole * chunk
        index = torch.arange(int(rest.max()), device=rest.device).expand(len(rest), -1)
        tokens = run.take((index + (whole * chunk)[:, None]).clamp_max(run.real.shape[1] - 1))
        self.tokens, self.written = tokens._replace(real=index < rest[:, None]), written
        self.first, self.last = self.columns, self.columns + length
        self.columns = self.last

    def anchors(self, mask):
        """How many tokens of the latest run come before each query: (B, Q), by a mask (B, 1 or H, Q, S)."""
        if self.written is None:
            raise ValueError("rows of this cache were exchanged: read the text in one go to think about it")
        visible = mask[:, 0, :, self.first : self.last]
        visible = visible if visible.dtype == torch.bool else visible > torch.finfo(visible.dtype).min / 2
        column = (visible * torch.arange(1, visible.shape[-1] + 1, device=visible.device)).amax(-1)
        if self.first and not bool(column.all()):
            raise ValueError(
                "a token reads the memory further back than the last written run: read the text in one go"
            )
        after = self.written.token_count.gather(
            1, (column - 1).clamp_min(0).expand(self.written.token_count.shape[0], -1)
        )
        return after * (column > 0)


class NeuralMemory(nn.Module):
    """x + gate · o(y): reads the memory for every token and, but for tokens with a 4-D mask, writes it."""

    def __init__(self, config):
        super().__init__()
        self.heads, self.chunk = config.memory_heads, config.memory_chunk
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.q_proj = nn.Linear(config.hidden_size, config.memory_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.memory_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.memory_size, bias=False)
        self.rates = nn.Linear(config.hidden_size, 3 * config.memory_heads)
        self.o_proj = nn.Linear(config.memory_size, config.hidden_size, bias=False)
        self.gate = nn.Parameter(torch.zeros(config.hidden_size))
        self.start_closed()

    def start_closed(self):
        """Before training: η = ½, 1 − α = .98, the step half of what it may be."""
        with torch.no_grad():
            self.rates.bias.copy_(torch.tensor([0.0, 4.0, 0.0]).repeat_interleave(self.heads))

    def split(self, x):
        """(B, T, size) → (B, heads, T, size / heads), float32."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).float()

    def tokens(self, h, real):
        """What each token writes, by its normed hidden state h (B, T, hidden)."""
        eta, keep, step = self.rates(h).float().transpose(1, 2).unflatten(1, (3, self.heads)).unbind(1)
        theta = step.sigmoid() * (-eta).sigmoid() / self.chunk
        k = F.normalize(self.split(self.k_proj(h)), dim=-1)
        return Tokens(k, self.split(self.v_proj(h)), F.logsigmoid(eta), F.logsigmoid(keep), theta, real)

    def forward(self, x, mask=None, state=None):
        """Read the memory for each token of x (B, T, hidden), and write it.

        :param mask: the model's attention mask, None, 2-D (its last T columns say which tokens are real) or 4-D (together
            with a state that has written: read only).
        :param state: MemoryState or None.
        """
        if state is None and not torch.is_grad_enabled() and not self.gate.any():
            return x  # a closed gate adds nothing
        h = self.norm(x)
        q = F.normalize(self.split(self.q_proj(h)), dim=-1)
        if mask is not None and mask.ndim == 4 and state is not None and state.memory is not None:
            after = state.anchors(mask)
            y = read_at(state.written, q, after)
            state.columns += x.shape[1]
        else:
            y = self.read_and_write(h, q, mask if mask is None or mask.ndim == 2 else None, state)
        y = y * self.chunk
        y = y * torch.rsqrt(1 + y.square().mean(-1, keepdim=True))
        return x + self.gate * self.o_proj(y.transpose(1, 2).flatten(2).to(x.dtype))

    def read_and_write(self, h, q, mask, state):
        """Run tokens through the memory and read it after each of them.

        :param h: (B, T, hidden), normed; q: queries (B, heads, T, d).
        :param mask: 2-D, or None where all tokens are real.
        :returns: (B, heads, T, d).
        """
        batch, length = h.shape[:2]
        real = mask[:, -length:].bool() if mask is not None else h.new_ones((batch, length), dtype=torch.bool)
        run, token_count, unfinished = self.tokens(h, real), real.cumsum(1), 0
        memory = momentum = q.new_zeros(batch, self.heads, q.shape[-1], q.shape[-1])
        if state is not None and state.memory is not None:  # the unfinished chunk goes first
            memory, momentum, unfinished = state.memory, state.momentum, state.tokens.real.shape[1]
            token_count = token_count + state.tokens.real.sum(1, keepdim=True)
            pairs = zip(state.tokens, run, strict=True)
            run = Tokens(*(torch.cat(pair, 2 if pair[0].ndim > 2 else 1) for pair in pairs))
            q = F.pad(q, (0, 0, unfinished, 0))
        gaps = unfinished > 0 or bool((run.real[:, 1:] > run.real[:, :-1]).any())
        if gaps:  # real tokens to the left of each row, in order
            order = run.real.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
            run, q = run.take(order), rows_at(q, order)
        written = write(run, memory, momentum, self.chunk, token_count)
        count, width = written.k.shape[2:4]
        q = F.pad(q, (0, 0, 0, count * width - q.shape[2])).unflatten(2, (count, width))
        y = read_in_order(written, q).flatten(2, 3)
        y = rows_at(y, (token_count - 1).clamp_min(0)) if gaps else y[:, :, :length]
        if state is not None:
            state.store(run, written, length, self.chunk)
        return y
