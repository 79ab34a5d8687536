"""Ids by pieces are those that the library gives for the whole text, whatever stands around a space."""

import copy
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from components.shared.data.blocks import Block
from components.shared.data.pieces import PieceTable, falls_into_pieces
from components.shared.data.tokens import DocumentEncoder
from tests.shapes import tokenizer as bpe_tokenizer

WHITE = " \t\n\r\x0b\x1c\x85\xa0\u1680\u2003\u2028\u3000\u180e\u200b"
TEXTS = st.text(alphabet=st.one_of(st.sampled_from(WHITE + " aB7'.s–é漢я"), st.characters(codec="utf-8")))


def whole(backend, texts):
    encoded = [each.ids for each in backend.encode_batch_fast(texts, add_special_tokens=False)]
    return np.array(list(itertools.chain(*encoded)), dtype=np.uint32), np.array([len(ids) for ids in encoded])


def backend_of(*before):
    backend = Tokenizer.from_str(bpe_tokenizer().backend_tokenizer.to_str())
    last = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, last]) if before else last
    backend.encode_special_tokens = True
    return backend


def pieces_of(table, texts):
    ids, lengths = table.encode(Block.of([text.encode() for text in texts]))
    return ids.tolist(), lengths.tolist()


@pytest.mark.parametrize("before", [(), (pre_tokenizers.Digits(True),), (pre_tokenizers.Digits(False),)])
def test_ids_by_pieces_are_those_of_the_whole_text(before):
    backend = backend_of(*before)
    tables = [
        PieceTable(lambda texts: whole(backend, texts), *size) for size in ((1 << 12, 1 << 12), (16, 64))
    ]

    @settings(max_examples=50, deadline=None, database=None)
    @given(st.lists(TEXTS, max_size=5))
    def same(texts):
        expected = [each.tolist() for each in whole(backend, texts)]
        for table in tables:
            assert list(pieces_of(table, texts)) == expected

    same()


def test_a_piece_is_encoded_once():
    backend, asked = backend_of(), []

    def library(texts):
        asked.extend(texts)
        return whole(backend, texts)

    table = PieceTable(library)
    pieces_of(table, ["the cat, the dog", "the cat"])
    assert asked == ["the", " cat,", " the", " dog", " cat"]
    pieces_of(table, ["the dog"])
    assert len(asked) == 5


def test_only_tokenizers_that_cut_so_are_taken_apart():
    cut = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    model = {"type": "BPE", "dropout": None}
    plain = {"normalizer": None, "model": model, "pre_tokenizer": cut, "added_tokens": []}
    assert falls_into_pieces(plain)
    for change in (
        {"normalizer": {"type": "NFC"}},
        {"model": model | {"type": "Unigram"}},
        {"model": model | {"dropout": 0.1}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": cut | {"use_regex": False}},
        {"pre_tokenizer": cut | {"add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, cut]}},
        {"added_tokens": [{"special": False}]},
    ):
        assert not falls_into_pieces(plain | change)


def test_a_tokenizer_of_another_kind_goes_through_the_library():
    tokenizer = copy.deepcopy(bpe_tokenizer())  # there is one for all tests
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ids, lengths = DocumentEncoder(tokenizer).encode(Block.of([b"one two", b"three"]))
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("one two", "three")]
    eos = tokenizer.eos_token_id
    assert ids.tolist() == [id_ for body in expected for id_ in (tokenizer.bos_token_id, *body, eos)]
    assert lengths.tolist() == [len(body) + 2 for body in expected]
