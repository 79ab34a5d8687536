"""MinHash finds what shares most of its 5-grams; of each cluster the first document stays."""

import random

import numpy as np
import pytest

from components.shared.data.blocks import Block
from components.shared.data.duplicates import Signatures
from components.shared.data.words import shingles, words_of


def found(folder, documents, threshold=0.8, blocks=1):
    signatures = Signatures(folder)
    for block in np.array_split(np.array(documents, dtype=object), blocks):
        signatures.add(words_of(Block.of([text.encode() for text in block])))
    return signatures.duplicates(threshold).tolist()


def text(seed, words=400):
    rng = random.Random(seed)
    return " ".join(f"w{rng.randrange(10**6)}" for _ in range(words))


def with_changes(document, changes, seed=0):
    """So many words replaced, each of which five 5-grams stand on."""
    words, rng = document.split(), random.Random(seed)
    for place in rng.sample(range(5, len(words) - 5, 10), changes):
        words[place] = f"other{place}"
    return " ".join(words)


def test_words_are_folded_and_parted_by_punctuation():
    one, other = (
        words_of(Block.of([each.encode()])).hashes.tolist()
        for each in ("It's HIGH noon -- é!", "it s\thigh\nNoon é")
    )
    assert one == other
    assert len(one) == 5


def test_shingles_are_runs_of_five_words_wherever_they_stand():
    grams, starts = shingles(words_of(Block.of([b"a b c d e f", b"x a b c d e", b"a b c", b"...", b""])), 5)
    each = np.split(grams, starts[1:-1].astype(int))
    assert [len(found) for found in each] == [2, 2, 1, 1, 1]
    assert each[0][0] == each[1][1]
    assert len(set(grams.tolist())) == 6


def test_copies_and_near_copies_of_an_earlier_document_are_duplicates(tmp_path):
    first, second = text(1), text(2)
    near, far = with_changes(first, 4), with_changes(first, 36)  # 0.90 and 0.38 of the 5-grams in common
    documents = [first, second, far, near, second.upper() + " !", text(3), first]
    assert found(tmp_path / "a", documents) == [False, False, False, True, True, False, True]
    assert found(tmp_path / "b", documents, blocks=3) == [False, False, False, True, True, False, True]


def test_the_threshold_is_a_share_of_common_shingles(tmp_path):
    first = text(1)
    documents = [first, with_changes(first, 10)]  # 0.78
    assert found(tmp_path / "a", documents, 0.6) == [False, True]
    assert found(tmp_path / "b", documents, 0.95) == [False, False]
    assert found(tmp_path / "c", [first, first], 1.1) == [False, False]


def test_a_chain_of_near_copies_is_one_cluster(tmp_path):
    documents = [text(1)]
    for number in range(6):
        documents.append(with_changes(documents[-1], 4, seed=number))
    assert found(tmp_path / "a", documents) == [False] + [True] * 6


@pytest.mark.parametrize("documents", [["one"], ["a", "b", "c d"], ["..."]])
def test_short_documents_are_compared_as_a_whole(tmp_path, documents):
    assert not any(found(tmp_path / "a", documents))
    assert found(tmp_path / "b", documents + documents) == [False] * len(documents) + [True] * len(documents)
