"""Language models that are tables: their hidden states are their logits, and their head is the identity."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class Body(nn.Module):
    """What comes before the head of a table."""

    def __init__(self, table: Tabular) -> None:
        super().__init__()
        self.table = [table]  # in a list: no module of this one

    def forward(self, input_ids: Tensor) -> Any:
        """Token ids (B, T) → (B, T, V)."""
        return SimpleNamespace(last_hidden_state=self.table[0].states(input_ids))


class Tabular(nn.Module):
    """A causal language model as far as phases look at one."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.base_model, self.device = Body(self), torch.device("cpu")
        self.config = SimpleNamespace(model_type="table", vocab_size=tokens)
        self.config.get_text_config = lambda: self.config

    def get_output_embeddings(self) -> nn.Module:
        """The identity."""
        return nn.Identity()

    def states(self, input_ids: Tensor) -> Tensor:
        """Token ids (B, T) → logits (B, T, V)."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:
        """Logits, as models of transformers give them."""
        return SimpleNamespace(logits=self.base_model(input_ids).last_hidden_state)


class Table(Tabular):
    """The next token depends on the last one and on whether `u` (token 0) stands first."""

    def __init__(self, tokens: int = 6, seed: int = 0) -> None:
        super().__init__(tokens)
        draw = torch.randn(2, tokens, tokens, generator=torch.Generator().manual_seed(seed))
        self.table = nn.Parameter(2 * draw)

    def states(self, input_ids: Tensor) -> Tensor:
        """Rows of the table."""
        prompted = (input_ids[:, :1] == 0).long().expand_as(input_ids)
        return self.table[prompted, input_ids]


class Fixed(Tabular):
    """The same logits (B, T, V) for all rows."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[-1])
        self.logits, self.weight = logits, nn.Parameter(torch.zeros(1))

    def states(self, input_ids: Tensor) -> Tensor:
        """Those, as wide as the input."""
        return self.logits[:, : input_ids.shape[1]]


class Parrot(Tabular):
    """Says `x` and ends under the instruction `u: `, says `y` and ends without."""

    def __init__(self, end: int) -> None:
        super().__init__(272)
        self.end, self.weight, self.dtype = end, nn.Parameter(torch.zeros(1)), torch.float32
        self.config.num_hidden_layers = self.config.num_attention_heads = self.config.hidden_size = 1

    def states(self, seen: Tensor, first: Tensor | None = None) -> Tensor:
        """Logits of all that was seen; first: (B,) columns where the texts begin."""
        second = seen[:, 1:2] if first is None else seen.gather(1, first[:, None] + 1)
        said = torch.where(second == ord("u"), ord("x"), ord("y")).expand_as(seen)
        ends = (seen == ord("x")) | (seen == ord("y"))
        return 50.0 * nn.functional.one_hot(torch.where(ends, self.end, said), 272).float()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> Any:
        """With the tokens themselves for keys and values."""
        if past_key_values is None:
            return SimpleNamespace(logits=self.base_model(input_ids).last_hidden_state)
        seen, _ = past_key_values.update(*[input_ids.float()[:, None, :, None]] * 2, 0)
        first = None if attention_mask is None else attention_mask.argmax(1)
        logits = self.states(seen[:, 0, :, 0].long(), first)[:, -input_ids.shape[1] :]
        return SimpleNamespace(logits=logits)
