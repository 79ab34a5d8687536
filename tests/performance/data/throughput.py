"""What the data path takes: CPU seconds for each part of it, MB of text a second and core, resident memory.

    export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
    python tests/performance/data/throughput.py --text wikitext-2/test.txt.gz --megabytes 100 1000
    python tests/performance/data/throughput.py --text wikitext-2/test.txt.gz --megabytes 20 --tokenizer FOLDER

The corpus is made of the words of a text in ever new orders, so that documents have nothing in common, and every tenth
document comes twice. CPU seconds of one process whose libraries have one thread each hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from components.shared.data.contamination import Contamination
from components.shared.data.evaluation_items import evaluation_items
from components.shared.data.packing import PackedRows
from components.shared.data.prepare import Seconds, prepare
from components.shared.data.shards import Shards
from components.shared.data.sources import open_source
from components.shared.data.tokens import DocumentEncoder
from components.shared.runtime.config.settings import EvaluationSettings
from components.shared.tasks.corpora import corpus_address
from components.shared.tasks.tokenizer import byte_tokenizer

WORDS = 350
"""Of a document: about two kilobytes."""


def write_corpus(path: Path, words: np.ndarray, megabytes: float) -> None:
    """Lines of JSON with so much text."""
    rng, size, number = np.random.default_rng(0), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            order = rng.permutation(len(words))
            for start in range(0, len(order) - WORDS, WORDS):
                text = " ".join(words[order[start : start + WORDS]])
                for _ in range(1 + (number % 10 == 0)):
                    file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
                    size += len(text.encode())
                number += 1


class Resident:
    """The largest resident set of this process while the block lasts, in MiB, looked at 20 times a second."""

    def __enter__(self) -> Resident:
        self.peak, self.ends = 0.0, threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.ends.wait(0.05):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.peak = max(self.peak, pages * resource.getpagesize() / 2**20)

    def __exit__(self, *_: object) -> None:
        self.ends.set()
        self.thread.join()


def measure(corpus: Path, encoder: DocumentEncoder, contamination: Contamination, work: Path) -> str:
    """One row of the table."""
    seconds, out = Seconds(), work / "out"
    out.mkdir()
    with Resident() as resident:
        facts = prepare(
            open_source(corpus_address(f"corpus:{corpus}")), encoder, contamination, out, seconds=seconds
        )
    megabytes = facts.bytes / 1e6
    rows = PackedRows(Shards(out, facts.dtype, facts.tokens, facts.shard), 1024, 0, seed=0)
    began = time.process_time()
    count = min(rows.rows, 4000)
    with Resident() as reading:
        for at in range(0, count, 8):
            rows.batch(at, 8)
    drawn = time.process_time() - began
    shutil.rmtree(out)
    total = sum(seconds.values())
    kept = megabytes * facts.documents / facts.read
    others = total - seconds["tokenise"]
    parts = " | ".join(
        f"{seconds[part]:.1f}" for part in ("read", "fingerprint", "spool", "tokenise", "write")
    )
    return (
        f"| {megabytes:,.0f} | {facts.read:,} | {facts.duplicates:,} | {parts} | {megabytes / total:.1f} | "
        f"{megabytes / others:.1f} | {kept / seconds['tokenise']:.1f} | {resident.peak:,.0f} | {reading.peak:,.0f} | "
        f"{count * 1024 / drawn / 1e6:.1f} |"
    )


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="text or .txt.gz whose words are used")
    parser.add_argument("--megabytes", type=float, nargs="+", required=True, help="of text, a corpus each")
    parser.add_argument("--tokenizer", type=Path, help="folder of a Hugging Face tokenizer; left out: bytes")
    parser.add_argument("--work", type=Path, help="folder for corpora and shards")
    options = parser.parse_args()
    opened = gzip.open if options.text.suffix == ".gz" else open
    with opened(options.text, "rt", encoding="utf-8") as file:
        words = np.array(file.read().split(), dtype=object)
    tokenizer = AutoTokenizer.from_pretrained(options.tokenizer) if options.tokenizer else byte_tokenizer()
    encoder = DocumentEncoder(tokenizer)
    contamination = Contamination(evaluation_items(EvaluationSettings(items=200, batch=8), 1, []))
    print(
        "| MB | documents | duplicates | read s | fingerprint s | spool s | tokenise s | write s | MB/s |"
        " MB/s without tokenizer | MB/s of the tokenizer | peak MiB | MiB reading rows | M tokens/s of rows |\n|"
        + "---|"
        * 14,
        flush=True,
    )
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        work = Path(folder)
        (work / "warm").mkdir()
        write_corpus(work / "warm/a.jsonl", words, 1)
        measure(work / "warm", encoder, contamination, work)  # compiles
        for megabytes in options.megabytes:
            (work / "corpus").mkdir()
            write_corpus(work / "corpus/a.jsonl", words, megabytes)
            print(measure(work / "corpus", encoder, contamination, work), flush=True)
            shutil.rmtree(work / "corpus")


if __name__ == "__main__":
    main()
