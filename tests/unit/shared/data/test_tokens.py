"""Ids are those of the tokenizer itself; what looks like a special token is text."""

import numpy as np
import pytest

from components.shared.data.blocks import Block
from components.shared.data.tokens import DocumentEncoder
from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.shapes import tokenizer as bpe_tokenizer

TEXTS = ["Hello, World!\n", "é – 漢字", "x", " two  spaces "]


def encoded(encoder, texts):
    ids, lengths = encoder.encode(Block.of([text.encode() for text in texts]))
    return np.split(ids, np.cumsum(lengths)[:-1])


@pytest.mark.parametrize("make", [byte_tokenizer, bpe_tokenizer])
def test_ids_are_the_tokenizers_own_behind_bos_and_before_eos(make):
    tokenizer = make()
    for text, ids in zip(TEXTS, encoded(DocumentEncoder(tokenizer), TEXTS), strict=True):
        own = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ids.tolist() == [tokenizer.bos_token_id, *own, tokenizer.eos_token_id]


@pytest.mark.parametrize("make", [byte_tokenizer, bpe_tokenizer])
def test_a_special_token_in_a_document_is_text(make):
    tokenizer = make()
    [ids] = encoded(DocumentEncoder(tokenizer), [f"a {tokenizer.eos_token} b"])
    assert (ids == tokenizer.eos_token_id).sum() == 1
    assert (
        len(tokenizer(tokenizer.eos_token, add_special_tokens=False)["input_ids"]) == 1
    )  # and it stays one elsewhere


def test_tokenizers_are_told_apart_and_one_without_an_end_is_refused():
    tokenizer = byte_tokenizer()
    assert DocumentEncoder(tokenizer).digest == DocumentEncoder(byte_tokenizer()).digest
    assert DocumentEncoder(tokenizer).digest != DocumentEncoder(bpe_tokenizer()).digest
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no <eos>"):
        DocumentEncoder(tokenizer)
