"""From documents to token ids: `[<bos>] text <eos>`, as `tasks.prompting` writes bare text.

What looks like a special token inside of a text is text. Of a tokenizer whose tokens are bytes the ids are looked up
in a table, at memory speed; those of a byte-level BPE piece by piece in a table of what the `tokenizers` library said
before (`pieces.py`). All others go through the library, several documents at a time over its threads.
"""

from __future__ import annotations

import hashlib
import json
from itertools import chain
from typing import Any

import numpy as np
from numba import njit
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from components.shared.runtime.errors import InputError
from components.shared.tasks.tokenizer import byte_characters

from .blocks import Block
from .pieces import PieceTable, falls_into_pieces


class DocumentEncoder:
    """Documents → token ids.

    :raises InputError: it has no <eos>, or is none of the `tokenizers` library.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None or tokenizer.eos_token_id is None:
            raise InputError(
                "the tokenizer cannot encode a corpus",
                where=type(tokenizer).__name__,
                why="it has no <eos>" if tokenizer.eos_token_id is None else "it is no fast tokenizer",
                fix="set tokenizer.eos_token"
                if tokenizer.eos_token_id is None
                else "save it as tokenizer.json",
            )
        text = backend.to_str()
        self.start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        self.end = [int(tokenizer.eos_token_id)]
        self.dtype = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
        self.digest = hashlib.sha256(repr((text, self.start, self.end)).encode()).hexdigest()
        """Of the tokenizer: another one makes another corpus."""
        backend = json.loads(text)
        self._table = _bytes_table(backend, self.dtype)
        self._backend = Tokenizer.from_str(text)  # of our own: what is set here, others do not want
        self._backend.no_padding()
        self._backend.no_truncation()
        self._backend.encode_special_tokens = True
        self._pieces = PieceTable(self._bare) if falls_into_pieces(backend) else None

    def encode(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """The ids of documents.

        :returns: (tokens,) of `dtype`, document after document, and (documents,) int64, how many each has.
        """
        if self._table is not None:
            bodies, lengths = self._table[block.text], np.diff(block.starts)
        elif self._pieces is not None:
            bodies, lengths = self._pieces.encode(block)
        else:
            bodies, lengths = self._bare([str(document, "utf-8") for document in block.split()])
        start, end = (np.array(ids, dtype=self.dtype) for ids in (self.start, self.end))
        ids = np.empty(len(bodies) + len(lengths) * (len(start) + len(end)), dtype=self.dtype)
        _framed(bodies, lengths, start, end, ids)
        return ids, lengths + len(start) + len(end)

    def _bare(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """What the library says of texts: (tokens,) uint32, and (texts,) int64, how many each has."""
        encoded = [each.ids for each in self._backend.encode_batch_fast(texts, add_special_tokens=False)]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return np.fromiter(chain.from_iterable(encoded), np.uint32, lengths.sum()), lengths


@njit(cache=True, nogil=True)
def _framed(bodies, lengths, start, end, ids):  # type: ignore[no-untyped-def]
    at = out = 0
    for document in range(len(lengths)):
        for each in start:
            ids[out] = each
            out += 1
        for body in range(at, at + lengths[document]):
            ids[out] = bodies[body]
            out += 1
        at += lengths[document]
        for each in end:
            ids[out] = each
            out += 1


def _bytes_table(backend: dict[str, Any], dtype: np.dtype) -> np.ndarray | None:
    """The id of each byte, where every token of a text is one."""
    model, splits = backend["model"], backend["pre_tokenizer"] or {}
    plain = model["type"] == "BPE" and not model["merges"] and backend["normalizer"] is None
    whole = splits.get("type") == "ByteLevel" and not splits["add_prefix_space"] and not splits["use_regex"]
    characters = byte_characters()
    if not plain or not whole or any(character not in model["vocab"] for character in characters):
        return None
    return np.array([model["vocab"][character] for character in characters], dtype=dtype)
