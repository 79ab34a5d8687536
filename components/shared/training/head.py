"""Losses of a language model without its logits at all positions.

The last product of a language model is its largest tensor: positions × vocabulary, 40 times the hidden states of a small
model at a real vocabulary, and in training kept three times over. Few of its rows are ever looked at. So a loss here
begins at the hidden states, takes the rows that have a label, and passes these through the head some at a time; where
there are several such chunks their logits are computed again in the backward pass (gradient checkpointing, Chen et al.,
arXiv 1604.06174), and never are more than a chunk of them in memory.

    hidden = hidden_states(model, batch.input_ids)
    rows, targets = labelled(hidden.last, batch.labels)
    loss = chunked_cross_entropy(rows, hidden.head, targets)

Everything behind the logits is float32, whatever the model computes in. B rows, T columns, d hidden size, V vocabulary.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from components.shared.models.remote_code import thoughts
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped
from components.shared.models.remote_code.refinement import Ponder, ponder_loss
from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import IGNORED, Batch
from components.shared.tasks.room import positions_of

from .packed import readable

CHUNK = 1 << 22
"""Logits in memory at a time: 16 MiB of float32, and as much again for each step of what is made of them."""

_CHECKED: WeakSet[nn.Module] = WeakSet()


class Head(thoughts.Head):
    """From hidden states to logits, as the model itself does it."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """Hidden states (…, d) after the final norm → logits (…, V) float32, or float64."""
        logits = super().__call__(hidden)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Hidden(NamedTuple):
    """A forward pass up to the head.

    last      (B, T, d) hidden states after the final norm, with their graph
    head      what makes logits of them
    states    every layer's (B, T, d), the embedding's first, where they were asked for
    ponder    the steps of an open refinement in training, whose losses are weighed one by one; else None
    """

    last: Tensor
    head: Head
    states: tuple[Tensor, ...] | None
    ponder: Ponder | None


def causal_lm(model: nn.Module) -> Any:
    """The causal language model inside what was wrapped around it."""
    model = _unwrapped(model)
    return model.inner if isinstance(model, ForgeWrapped) else model


def _unwrapped(model: nn.Module) -> Any:
    while not hasattr(model, "get_output_embeddings"):
        model = model.get_submodule("module")
    return model


def head_of(model: nn.Module) -> Head:
    """The head of a model.

    :raises InputError: it has none.
    """
    lm = causal_lm(model)
    head = Head(*thoughts.head_of(lm))
    if head.layer is None:
        raise InputError(
            "the model has no output layer",
            where=type(lm).__name__,
            fix="give a causal language model",
        )
    return head


def hidden_states(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    position_ids: Tensor | None = None,
    *,
    every: bool = False,
) -> Hidden:
    """Read rows of tokens, up to the head: the network's own pass, of whose logits only the last column is computed.

    :param model: any causal language model; a Cognate, one of transformers, either of them wrapped.
    :param input_ids: (B, T) int64, on the model's device.
    :param attention_mask: (B, T); left out, causality alone hides what is padded on the right.
    :param position_ids: (B, T); left out, a row is one text.
    :param every: give every layer's hidden states too.
    :raises InputError: a row is longer than the model's positions, or its logits are made in a way that is not known here.
    """
    lm = causal_lm(model)
    longest = positions_of(lm)
    if position_ids is None and longest is not None and input_ids.shape[1] > longest:
        raise InputError(
            f"a row has {input_ids.shape[1]} tokens, the model takes {longest}",
            where=type(lm).__name__,
            fix="use shorter items or texts, or a model with more positions",
        )
    options: dict[str, Any] = {"attention_mask": attention_mask, "position_ids": position_ids}
    options = {name: tensor for name, tensor in options.items() if tensor is not None}
    if "logits_to_keep" in inspect.signature(lm.forward).parameters:
        options["logits_to_keep"] = 1
    with _output_of(lm.base_model) as outputs:
        out = model(input_ids=input_ids, use_cache=False, output_hidden_states=every, **options)
    if not outputs:
        raise InputError(
            "the hidden states before the output layer cannot be seen",
            where=type(lm).__name__,
            why="the model computes its logits without calling its base model",
            fix="compile its layers rather than the whole model, or give a causal language model of transformers",
        )
    head, body = head_of(model), outputs[0]
    last = body.last_hidden_state if hasattr(body, "last_hidden_state") else body[0]
    if lm not in _CHECKED:
        _check(lm, head, last[:, -1], out.logits[:, -1])
    ponder = getattr(body, "ponder", None)
    weighed = ponder is not None and lm.training and _refinement(model)[0].gate.requires_grad
    return Hidden(last, head, out.hidden_states if every else None, ponder if weighed else None)


def labelled(hidden: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states that predict a labelled token, and these tokens, row by row.

    :param hidden: (B, T, …).
    :param labels: (B, T) int64, aligned with the text; IGNORED where nothing is learnt.
    :returns: (n, …), and (n,) int64.
    """
    learnt = labels[:, 1:] != IGNORED
    return hidden[:, :-1][learnt], labels[:, 1:][learnt]


def over_chunks(
    hidden: Tensor, head: Head, of_logits: Callable[..., Tensor], *aligned: Tensor, chunk: int | None = None
) -> Tensor:
    """Apply a function of logits to rows of hidden states, some rows at a time.

    :param hidden: (n, d).
    :param of_logits: (logits (m, V) float32, the same m rows of each of `aligned`) → (m, …).
    :param aligned: tensors (n, …).
    :param chunk: logits in memory at a time.
    :returns: (n, …), with its graph.
    """

    def of_rows(rows: Tensor, *others: Tensor) -> Tensor:
        return of_logits(head(rows), *others)

    size = max(1, (chunk or CHUNK) // head.width)
    if len(hidden) <= size:
        return of_rows(hidden, *aligned)
    pieces = list(zip(*(each.split(size) for each in (hidden, *aligned)), strict=True))
    if not torch.is_grad_enabled():
        return torch.cat([of_rows(*piece) for piece in pieces])
    return torch.cat(
        [checkpoint(of_rows, *piece, use_reentrant=False, preserve_rng_state=False) for piece in pieces]
    )


def cross_entropies(hidden: Tensor, head: Head, targets: Tensor, *, chunk: int | None = None) -> Tensor:
    """−log p of each row's token: hidden (n, d), targets (n,) int64 → (n,) nats."""

    def losses(logits: Tensor, expected: Tensor) -> Tensor:
        return F.cross_entropy(logits, expected, reduction="none")

    return over_chunks(hidden, head, losses, targets, chunk=chunk)


def chunked_cross_entropy(hidden: Tensor, head: Head, targets: Tensor, *, chunk: int | None = None) -> Tensor:
    """The mean of `cross_entropies`, in nats a token; 0 where there is no row."""
    return cross_entropies(hidden, head, targets, chunk=chunk).sum() / max(len(targets), 1)


def outcomes(
    hidden: Tensor, head: Head, targets: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """How each row's token was predicted: −log p (n,) in nats, and (n,) bool whether it was the most likely one."""

    def both(logits: Tensor, expected: Tensor) -> Tensor:
        right = (logits.argmax(-1) == expected).float()
        return torch.stack([F.cross_entropy(logits, expected, reduction="none"), right], dim=1)

    found = over_chunks(hidden, head, both, targets, chunk=chunk)
    return found[:, 0], found[:, 1].detach() > 0


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The model's own loss on a batch on its device: `loss_of` what it reads.

    Rows are padded on the right, so that causality alone hides the padding: no mask is needed, but where a row is packed.
    """
    batch, options = readable(model, causal_lm(model), batch)
    return loss_of(model, hidden_states(model, batch.input_ids, **options), batch.labels)


def loss_of(model: nn.Module, hidden: Hidden, labels: Tensor) -> Tensor:
    """The mean cross-entropy of the labelled tokens in nats; with an open refinement in training PonderNet's loss.

    :param labels: (B, T) int64, aligned with the text.
    """
    if hidden.ponder is None:
        rows, targets = labelled(hidden.last, labels)
        return chunked_cross_entropy(rows, hidden.head, targets)
    steps = [labelled(states, labels) for states in hidden.ponder.states]
    losses = torch.stack([cross_entropies(rows, hidden.head, targets) for rows, targets in steps])
    log_p = hidden.ponder.log_p[:, :, :-1][:, labels[:, 1:] != IGNORED]
    return ponder_loss(log_p, losses, *_refinement(model)[1:])


def _refinement(model: nn.Module) -> tuple[Any, float, float]:
    """The refinement of a model that has one, its prior and the weight of its KL."""
    own = _unwrapped(model)
    if isinstance(own, ForgeWrapped):
        return own.refinement, own.config.refinement["prior"], own.config.refinement["beta"]
    return own.base_model.refinement, own.config.refinement_prior, own.config.refinement_beta


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Any]]:
    """What a module returns in this thread while the block lasts."""
    outputs, thread = list[Any](), threading.get_ident()

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if threading.get_ident() == thread:
            outputs.append(output)

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


@torch.no_grad()
def _check(lm: nn.Module, head: Head, hidden: Tensor, logits: Tensor) -> None:
    """Hold the head against the model's own logits, once a model: some compute more behind it than is known here."""
    ours, own = head(hidden), logits.float()
    apart, scale = (ours - own).abs().max(), own.abs().max()
    if apart > (1e-3 if logits.dtype == torch.float32 else 0.02) * scale:
        raise InputError(
            "the model does something with its logits that its loss here would leave out",
            where=type(lm).__name__,
            why=f"they are {float(apart):.3g} apart from those of its output layer, scaled and capped as config.json says",
            fix="give a model whose logits are a linear layer of its last hidden states",
        )
    _CHECKED.add(lm)
