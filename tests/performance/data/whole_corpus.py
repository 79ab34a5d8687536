"""Many GB of text through the data path: time, CPU, memory of the process tree, and what was found of what was planted.

    export OMP_NUM_THREADS=1 RAYON_NUM_THREADS=1
    python tests/performance/data/whole_corpus.py --text wikitext-2/*.gz --gigabytes 10 --scratch FOLDER --kill-at 2
    python tests/performance/data/whole_corpus.py --text wikitext-2/*.gz --gigabytes 1 --scratch FOLDER --tokenizer FOLDER

Documents are lines of a text put together by chance, with seven words in each that never came before; a quarter are
copies of an earlier document, one in three of these with other last words, and one in five hundred holds an evaluation
item. A line of nearly a whole document makes those that draw it duplicates too. They are written as parquet (zstd) into
the scratch folder, of which nothing is left. The preparation is a process of its own; `--kill-at 2` ends it by SIGKILL
when it has written so many GB, and starts it again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from components.shared.data.contamination import Contamination
from components.shared.data.corpus import open_corpus
from components.shared.data.evaluation_items import evaluation_items
from components.shared.data.prepare import Seconds
from components.shared.data.tokens import DocumentEncoder
from components.shared.runtime.config.settings import EvaluationSettings
from components.shared.tasks.corpora import corpus_address
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer

DOCUMENT = 2000  # bytes of lines, at least
FRESH = 7  # new words of a document: every fiftieth or so
COPIES, CHANGED, ITEMS = 4, 3, 500  # one document in so many; of copies, one in so many
SHARD = 250_000_000  # bytes of text of a file
EARLIER = 2000  # documents that a copy may be of
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "ar", "en", "ol")]


class Planted(NamedTuple):
    """What a corpus holds."""

    bytes: int
    documents: int
    copies: int
    contaminated: int


def items() -> list[Item]:
    """The evaluation items that a corpus is cleaned of."""
    return evaluation_items(EvaluationSettings(items=200, batch=8), 1, [])


def documents(lines: list[str], questions: list[str]) -> Iterator[tuple[str, bool, bool]]:
    """Documents without end, whether each is a copy, and whether it holds an item."""
    rng, number, earlier = np.random.default_rng(0), 0, list[list[str]]()
    needed = DOCUMENT // min(map(len, lines)) + 2  # draws of a document
    while True:
        drawn = rng.integers(0, len(lines), 100_000).tolist()
        words = rng.integers(0, len(SYLLABLES), (100_000, 4)).tolist()
        while len(drawn) > needed and len(words) >= FRESH:
            fresh = " ".join("".join([SYLLABLES[each] for each in words.pop()]) for _ in range(FRESH))
            number += 1
            if number % COPIES == 0:
                copy = earlier[drawn.pop() % len(earlier)]
                changed = [*copy[:-1], fresh] if number // COPIES % CHANGED == 0 else copy
                yield "\n".join(changed), True, False
                continue
            document, size = list[str](), 0
            while size < DOCUMENT:
                document.append(lines[drawn.pop()])
                size += len(document[-1])
            planted = number % ITEMS == 1
            if planted:
                document.append(questions[number % len(questions)])
            document.append(fresh)
            earlier.append(document)
            if len(earlier) > EARLIER:
                earlier[drawn.pop() % EARLIER] = earlier.pop()
            yield "\n".join(document), False, planted


def write_corpus(folder: Path, texts: list[Path], gigabytes: float) -> Planted:
    """Write a corpus of so much text."""
    lines = list[str]()
    for path in texts:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
            lines += [line.strip() for line in file if len(line) > 200]
    questions = sorted({item.prompt for item in items() if len(item.prompt.split()) > 20})
    size = count = copies = contaminated = number = 0
    shard, held = list[bytes](), 0
    source = documents(lines, questions)
    while size < gigabytes * 1e9:
        text, copy, planted = next(source)
        document = text.encode()
        shard.append(document)
        held, size, count = held + len(document), size + len(document), count + 1
        copies, contaminated = copies + copy, contaminated + planted
        if held >= SHARD or size >= gigabytes * 1e9:
            table = pa.table({"text": pa.array(shard, pa.binary()).cast(pa.string())})
            pq.write_table(
                table, folder / f"{number:05}.parquet", compression="zstd", row_group_size=20_000,
                use_dictionary=False, write_statistics=False,
            )  # fmt: skip
            shard, held, number = [], 0, number + 1
    return Planted(size, count, copies, contaminated)


def prepare_here(folder: Path, tokenizer: Path | None) -> None:
    """In the child: prepare the corpus, and print what it took."""
    encoder = DocumentEncoder(AutoTokenizer.from_pretrained(tokenizer) if tokenizer else byte_tokenizer())
    seconds, contamination = Seconds(), Contamination(items())
    corpus = open_corpus(corpus_address(f"corpus:{folder}"), encoder, contamination, seconds=seconds)
    print(json.dumps({"seconds": seconds, "facts": corpus.facts._asdict()}))


def resident(root: int) -> int:
    """Bytes that a process and all below it have resident."""
    parents, pages = dict[int, int](), dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        parents[int(stat.parent.name)], pages[int(stat.parent.name)] = int(fields[1]), int(fields[21])

    def below(pid: int) -> bool:
        while pid and pid != root:
            pid = parents.get(pid, 0)
        return pid == root

    return sum(count for pid, count in pages.items() if below(pid)) * os.sysconf("SC_PAGESIZE")


def on_disk(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may go away meanwhile."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return size


def run(command: list[str], scratch: Path, kill_at: float | None) -> dict[str, Any]:
    """Run a preparation and look at it five times a second; kill it when it has written so many bytes."""
    began, peak, disk = time.monotonic(), 0, 0
    environment = os.environ | {"FORGE_CORPORA": str(scratch / "prepared")}
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(command, stdout=output, env=environment) as child,
    ):
        killed = False
        while child.poll() is None:
            time.sleep(0.2)
            peak, written = max(peak, resident(child.pid)), on_disk(scratch / "prepared")
            disk = max(disk, written)
            if kill_at is not None and written >= kill_at and not killed:
                child.send_signal(signal.SIGKILL)
                killed = True
        if child.returncode and not killed:
            raise SystemExit(child.returncode)
        output.seek(0)
        said = {} if killed else json.loads(output.read().splitlines()[-1])
    return {"wall": time.monotonic() - began, "peak": peak, "disk": disk, **said}


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", type=Path, nargs="+", help="text or .txt.gz whose lines are used")
    parser.add_argument("--gigabytes", type=float, help="of text")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for corpus and shards")
    parser.add_argument("--tokenizer", type=Path, help="folder of a Hugging Face tokenizer; left out: bytes")
    parser.add_argument("--kill-at", type=float, help="GB on disk at which the preparation is killed, once")
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    corpus = options.scratch / "corpus"
    if options.prepare:
        prepare_here(corpus, options.tokenizer)
        return
    corpus.mkdir(parents=True)
    (options.scratch / "prepared").mkdir()
    try:
        planted = write_corpus(corpus, options.text, options.gigabytes)
        print(f"{planted}, {on_disk(corpus) / 1e9:.2f} GB of parquet", flush=True)
        command = [sys.executable, __file__, "--scratch", str(options.scratch), "--prepare"]
        command += ["--tokenizer", str(options.tokenizer)] if options.tokenizer else []
        if options.kill_at is not None:
            killed = run(command, options.scratch, options.kill_at * 1e9)
            print(f"killed after {killed['wall']:.0f} s, {killed['peak'] / 2**20:,.0f} MiB", flush=True)
        done = run(command, options.scratch, None)
        report(planted, done)
    finally:
        shutil.rmtree(corpus)
        shutil.rmtree(options.scratch / "prepared")


def report(planted: Planted, done: dict[str, Any]) -> None:
    """Print a row of the table, and what was found."""
    facts, seconds = done["facts"], done["seconds"]
    stages = ("read", "fingerprint", "spool", "tokenise", "write")
    total = sum(seconds.values())
    print(
        "| GB | read | fingerprint | spool | tokenise | write | CPU s | MB/s a core | wall s | peak MiB | disk GB |"
    )
    print("|" + "---|" * 11)
    print(
        f"| {facts['bytes'] / 1e9:.2f} | "
        + "".join(f"{seconds[stage]:.1f} | " for stage in stages)
        + f"{total:.0f} | {facts['bytes'] / total / 1e6:.1f} | {done['wall']:.0f} | {done['peak'] / 2**20:,.0f} | "
        f"{done['disk'] / 1e9:.1f} |"
    )
    print(
        f"copies: {facts['duplicates']:,} found of {planted.copies:,}; with items: {facts['contaminated']:,} of "
        f"{planted.contaminated:,}; {facts['tokens']:,} tokens, digest {facts['digest'][:16]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
