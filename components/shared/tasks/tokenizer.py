"""The byte tokeniser of the Cognate family: 256 bytes and sixteen special tokens, 272 ids in all."""

from __future__ import annotations

import functools
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPECIAL: Final = (
    *("<pad>", "<bos>", "<eos>", "<think>", "</think>", "<pause>", "<sep>"),
    *(f"<reserved_{number}>" for number in range(263, 272)),
)
VOCAB_SIZE: Final = 256 + len(SPECIAL)
CHAT_TEMPLATE: Final = (
    "{% for m in messages %}"
    "{% if loop.first or loop.previtem.role == 'assistant' %}{{ bos_token or '' }}{% endif %}{{ m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
"""For programs that ask in turns: each question with its answer is a row as in training (batches.encode)."""


def byte_characters() -> list[str]:
    """The printable character that byte-level BPE writes for each byte (GPT-2's table), by byte value."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    characters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        characters.setdefault(byte, chr(256 + len(characters) - len(printable)))
    return [characters[byte] for byte in range(256)]


@functools.cache
def _backend() -> str:
    """The tokeniser as JSON: a BPE without merges, so that a byte's id is its value."""
    vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return tokenizer.to_str()


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Ids 0–255 are bytes, then <pad> 256, <bos> 257, <eos> 258, <think>, </think>, <pause>, <sep>, nine reserved."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_backend()),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def is_byte_tokenizer(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a tokenizer is this one: its models know the tasks' short forms, all others have a language of their own."""
    return len(tokenizer) == VOCAB_SIZE and tokenizer.get_vocab().keys() >= set(SPECIAL)
