"""One model's tensor, as a merge reads it: a few rows at a time, in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


class Operand(Protocol):
    """One model's tensor, (rows, width)."""

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 in float32; not to be written to."""
        ...


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as its file has it. numbers: (rows·width,)."""

    numbers: Tensor
    width: int

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 in float32."""
        return self.numbers[first * self.width : last * self.width].float().view(-1, self.width)
