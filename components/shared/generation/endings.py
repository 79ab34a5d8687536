"""Strings that end a text: they are seen in text alone, a token may hold more than their first characters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase


def ended_by(
    tokenizer: PreTrainedTokenizerBase, ends: Sequence[str]
) -> Callable[[Sequence[int]], bool] | None:
    """Whether the tokens that were written hold a string that ends the text in their last ones; None: none does ever."""
    wanted = [end for end in ends if end]
    if not wanted:
        return None
    # a string's own tokens, and one more on either side, which it may begin or end inside of
    tail = max(len(tokenizer(end, add_special_tokens=False)["input_ids"]) for end in wanted) + 2

    def ended(ids: Sequence[int]) -> bool:
        text = tokenizer.decode(list(ids[-tail:]), clean_up_tokenization_spaces=False)
        return any(end in text for end in wanted)

    return ended
