"""A corpus is prepared once, always the same, checked when opened, and goes on after a kill with the very next batch."""

import hashlib
import itertools
import signal
import subprocess
import sys

import pytest

from components.shared.data.contamination import Contamination
from components.shared.data.corpus import open_corpus
from components.shared.data.prepare import Seconds
from components.shared.data.texts import Texts
from components.shared.data.tokens import DocumentEncoder
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.tasks.corpora import corpus_address
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.unit.shared.data.conftest import sentences

WEIGHTS = {"chain": 3.0}


def opened(folder, *items, seconds=None):
    contamination = Contamination([Item("task", 1, "report", item, "x") for item in items])
    return open_corpus(
        corpus_address(f"corpus:{folder}"), DocumentEncoder(byte_tokenizer()), contamination, seconds=seconds
    )


def texts_of(corpus):
    whole = corpus.shards.read(0, corpus.facts.tokens).tolist()
    starts = [0, *corpus.shards.ends.tolist()]
    return [bytes(whole[a + 1 : b - 1]).decode() for a, b in itertools.pairwise(starts)]


def test_what_is_left_are_the_documents_without_duplicates_and_items(write):
    documents = sentences(6)
    folder = write([*documents, documents[2], "", documents[4].upper()])
    corpus = opened(folder, f"Say: {documents[3][:110]}")
    assert texts_of(corpus) == [*documents[:3], *documents[4:]]
    facts = corpus.facts
    assert (facts.read, facts.duplicates, facts.contaminated, facts.documents) == (8, 2, 1, 5)
    lineage = corpus.lineage()
    assert lineage["source"] == "corpus"
    assert lineage["digest"] == facts.digest
    assert "files" not in lineage


def test_it_is_prepared_once_and_again_when_anything_else_is_asked_for(write):
    folder, first = write(sentences(4)), Seconds()
    corpus = opened(folder, seconds=first)
    assert set(first) == {"read", "fingerprint", "spool", "tokenise", "write"}
    again = Seconds()
    assert opened(folder, seconds=again).folder == corpus.folder
    assert not again
    assert opened(folder, "a b c d e f g h i").folder != corpus.folder
    write(sentences(5))
    assert opened(folder).facts.documents == 5


def test_a_damaged_copy_is_made_again_and_a_changed_description_refused(write):
    folder = write(sentences(4))
    corpus = opened(folder)
    tokens = corpus.folder / "tokens-00000.bin"
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-1] + b"\0")
    assert opened(folder).facts == corpus.facts
    assert tokens.read_bytes() == whole
    about = corpus.folder / "corpus.json"
    about.write_text(about.read_text().replace('"documents": 4', '"documents": 3'))
    with pytest.raises(ArtifactError, match="damaged"):
        opened(folder)


def test_a_bucket_keeps_prepared_corpora_for_other_machines(write, monkeypatch, s3_uri, tmp_path):
    folder = write(sentences(4))
    monkeypatch.setenv("FORGE_CORPORA", f"{s3_uri}/corpora")
    corpora = []
    for machine in ("one", "two"):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / machine))
        (tmp_path / machine).mkdir()
        seconds = Seconds()
        corpora.append(opened(folder, seconds=seconds))
        assert bool(seconds) == (machine == "one")
    assert corpora[0].folder != corpora[1].folder
    assert corpora[0].facts == corpora[1].facts


def test_nothing_left_is_refused(write):
    with pytest.raises(InputError, match="nothing is left"):
        opened(write([sentences(1)[0]]), sentences(1)[0])


def test_each_corpus_gets_its_share_of_the_rows_and_every_row_in_turn(write):
    corpus = opened(write(sentences(50)))
    texts = Texts({"corpus:a": corpus, "corpus:b": corpus}, length=64, padding=0, size=10, seed=1)
    weights = {"chain": 0.6, "corpus:a": 0.25, "corpus:b": 0.15}
    counts = [texts.count(weights, step) for step in range(20)]
    assert sum(counts) == 50 + 30
    assert all(
        sum(len(batch.input_ids) for batch in texts.batches(weights, step)) == counts[step]
        for step in range(20)
    )
    texts.at_a_time = 1
    alone = {"chain": 1.0, "corpus:a": 1.0}
    seen = [batch.input_ids[0].tolist() for step in range(40) for batch in texts.batches(alone, step)]
    rows = texts.rows["corpus:a"].rows
    assert len(set(map(tuple, seen[:rows]))) == rows


CHILD = """
import hashlib, os, signal, sys
from components.shared.data import shards
from components.shared.data.contamination import Contamination
from components.shared.data.corpus import open_corpus
from components.shared.data.texts import Texts
from components.shared.data.tokens import DocumentEncoder
from components.shared.tasks.corpora import corpus_address
from components.shared.tasks.tokenizer import byte_tokenizer

folder, die_in = sys.argv[1:]
weights = {"chain": 1.0, f"corpus:{folder}": 1.0}

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if die_in == "preparation":
    shards.ShardWriter.close = die  # tokens are written, and not yet whole
corpus = open_corpus(corpus_address(f"corpus:{folder}"), DocumentEncoder(byte_tokenizer()), Contamination([]))
texts = Texts({f"corpus:{folder}": corpus}, length=32, padding=0, size=6, seed=3)
for step in range(100):
    if step == 5:
        texts.rows[f"corpus:{folder}"].shards.read = die  # while a batch is drawn
    for batch in texts.batches(weights, step):
        print(step, hashlib.sha256(batch.input_ids.numpy().tobytes()).hexdigest(), flush=True)
"""


def test_after_a_kill_anywhere_the_next_batch_is_the_one_that_would_have_come(write, monkeypatch, tmp_path):
    folder = write(sentences(40))
    weights = {"chain": 1.0, f"corpus:{folder}": 1.0}

    def batches(step):
        corpus = opened(folder)
        texts = Texts({f"corpus:{folder}": corpus}, length=32, padding=0, size=6, seed=3)
        return [
            f"{step} {hashlib.sha256(batch.input_ids.numpy().tobytes()).hexdigest()}"
            for batch in texts.batches(weights, step)
        ]

    expected = [line for step in range(8) for line in batches(step)]
    monkeypatch.setenv("FORGE_CORPORA", str(tmp_path / "killed"))
    said = []
    for die_in in ("preparation", "a batch"):
        child = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), die_in], capture_output=True, text=True
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        said.append(child.stdout.splitlines())
    assert said[0] == []
    assert not any(path.name.endswith(".draft") for path in (tmp_path / "killed").iterdir())
    assert said[1] == [line for line in expected if int(line.split()[0]) < 5]
    assert said[1] + [line for step in range(5, 8) for line in batches(step)] == expected
