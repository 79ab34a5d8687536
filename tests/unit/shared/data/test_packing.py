"""Rows cover the corpus exactly, say where documents are, and come once in every pass."""

import numpy as np
import pytest
import torch

from components.shared.data import shards as shards_module
from components.shared.data.packing import PackedRows
from components.shared.data.shards import Shards, ShardWriter
from components.shared.tasks.batches import IGNORED

LENGTHS = (3, 1, 17, 8, 2, 30)
DOCUMENTS = [np.arange(100 * n, 100 * n + length).astype("<u2") for n, length in enumerate(LENGTHS, 1)]


@pytest.fixture
def shards(tmp_path):
    writer = ShardWriter(tmp_path, shard=16)
    for part, lengths in ((DOCUMENTS[:2], LENGTHS[:2]), (DOCUMENTS[2:], LENGTHS[2:])):
        writer.add(np.concatenate(part), np.array(lengths))
    writer.close()
    assert sorted(writer.files) == sorted(path.name for path in tmp_path.iterdir())
    return Shards(tmp_path, "<u2", writer.tokens, 16)


def test_shards_give_back_what_was_written(shards, monkeypatch):
    whole = np.concatenate(DOCUMENTS)
    monkeypatch.setattr(shards_module, "RESIDENT", 1)  # pages are given back after every read
    for start, stop in ((0, 61), (15, 17), (16, 32), (60, 61), (30, 30)):
        np.testing.assert_array_equal(shards.read(start, stop), whole[start:stop])
    assert shards.documents(3, 21).tolist() == [4]  # not those that begin at an end
    assert shards.documents(0, 61).tolist() == [3, 4, 21, 29, 31]


@pytest.mark.parametrize("length", [1, 7, 8, 61, 100])
def test_rows_hold_every_token_once_with_its_document(shards, length):
    rows = PackedRows(shards, length, padding=9, seed=0)
    batch = rows.packed(range(rows.rows))
    real = batch.attention_mask > 0
    assert batch.input_ids[real].tolist() == np.concatenate(DOCUMENTS).tolist()
    assert (batch.input_ids[~real] == 9).all()
    for ids, labels, documents in zip(*batch, strict=True):
        hundreds = (ids // 100)[documents > 0].tolist()
        assert documents[documents > 0].tolist() == [
            hundreds.index(h) * 0 + sorted(set(hundreds)).index(h) + 1 for h in hundreds
        ]
        begins = torch.diff(documents, prepend=torch.tensor([0])) != 0
        assert torch.equal(labels, torch.where(begins | (documents == 0), IGNORED, ids))


def test_every_row_comes_once_in_a_pass_and_passes_differ(shards):
    rows = PackedRows(shards, 4, padding=9, seed=5)
    passes = [[rows.row_at(epoch * rows.rows + place) for place in range(rows.rows)] for epoch in range(3)]
    assert all(sorted(each) == list(range(rows.rows)) for each in passes)
    assert passes[0] != passes[1] != passes[2]
    assert passes[0] != [PackedRows(shards, 4, padding=9, seed=6).row_at(place) for place in range(rows.rows)]
    batch = rows.batch(rows.rows - 1, 3)  # over the end of a pass
    assert torch.equal(batch.input_ids, rows.packed([passes[0][-1], *passes[1][:2]]).input_ids)
