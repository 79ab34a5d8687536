"""Memory of an evolutionary search, and the seconds of a merge, on random Llamas made for it.

    python tests/performance/merging/merge_memory.py --hidden 1024 --layers 24        (0.35 billion weights)

Three parents and a base in bfloat16, merged in place by one genome of each method. Mapped pages of files are counted apart:
the system takes them back when it needs room. What has to fit is the private memory (Pss_Anon of /proc/self/smaps_rollup),
here without what Python and the libraries take before anything is loaded. `--arithmetic` prints the sums for 7B alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.evomerge.evaluation.genome_merger import GenomeMerger
from components.evomerge.evaluation.merged_model import MergedModel
from components.evomerge.evaluation.parents import load_parents
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.shared.models.gram_file import gram_bytes
from components.shared.models.loading import save_tokenizer
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.tasks.tokenizer import byte_tokenizer

METHODS = ("linear", "slerp", "task_arithmetic", "ties", "dare_linear")
SEVEN = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
GIB = 2**30


def private() -> int:
    """Bytes of this process's memory that are no file's."""
    found = re.search(r"Pss_Anon:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())
    assert found is not None
    return 1024 * int(found[1])


class Peak:
    """The most private memory while a block lasts, looked at every 20 ms."""

    def __enter__(self) -> Peak:
        """Begin to look."""
        self.most, self.over = private(), threading.Event()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, private())

    def __exit__(self, *_: object) -> None:
        """Look for the last time."""
        self.over.set()
        self.thread.join()
        self.most = max(self.most, private())


def make(folder: Path, seed: int, hidden: int, inner: int, layers: int, vocabulary: int) -> Path:
    """A random Llama in bfloat16."""
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, dtype="bfloat16",
    )  # fmt: skip
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        LlamaForCausalLM(config).save_pretrained(folder)
    finally:
        torch.set_default_dtype(before)
    save_tokenizer(byte_tokenizer(), folder)
    return folder


def measure(root: Path, hidden: int, inner: int, layers: int, vocabulary: int) -> None:
    """Print the table."""
    # Made in another process: what making them leaves in this one would hide in the memory before.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        folders = [
            apart.submit(make, root / str(seed), seed, hidden, inner, layers, vocabulary).result()
            for seed in range(4)
        ]
    size = sum(file.stat().st_size for file in folders[0].glob("*.safetensors"))
    before = private()
    with Peak() as peak:
        parents = load_parents(
            [adopt(folder) for folder in folders[:3]], base=folders[3], device="cpu", work=root / "work"
        )
    space = SearchSpace(parents=3, groups=5, methods=METHODS, layers=layers, deepest=layers)
    merged = MergedModel(parents.template, GenomeMerger(parents.tensors, space, layer_groups=4, seed=0), list)
    print(
        f"a model: {size / GIB:.2f} GiB of bfloat16; {size / 2 / 1e9:.2f} billion weights; libraries {before / GIB:.2f} GiB"
    )
    print("| | private memory, GiB, at most | of one model | seconds |\n|---|---|---|---|")
    print(
        f"| three parents and the base loaded | {(peak.most - before) / GIB:.2f} | {(peak.most - before) / size:.2f} | |"
    )
    for method in METHODS:
        genome = Genome(method, ((1, 2, 1),) * 5, (8,) * 5, density=9)
        started = time.perf_counter()
        with Peak() as peak:
            merged.load(genome)
        took = time.perf_counter() - started
        print(
            f"| {method} | {(peak.most - before) / GIB:.2f} | {(peak.most - before) / size:.2f} | {took:.1f} |",
            flush=True,
        )
    with torch.no_grad(), Peak() as peak:
        merged.template(input_ids=torch.zeros(8, 64, dtype=torch.long), use_cache=False)
    print(
        f"| a forward of 8 × 64 tokens | {(peak.most - before) / GIB:.2f} | {(peak.most - before) / size:.2f} | |"
    )


def arithmetic() -> None:
    """Print what three parents of 7B need, from their shapes."""
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, **SEVEN))
    weights = sum(parameter.numel() for parameter in model.parameters())
    h, f, layers = SEVEN["hidden_size"], SEVEN["intermediate_size"], SEVEN["num_hidden_layers"]
    distinct = 4 * (layers * (3 * h * h + f * f) + h * h)
    piece = 4 * (1 << 22)
    regmean = 8 * (f * f + h * f + 2 * 1024 * f) + 5 * 4 * h * f  # parents, base and their mean in float32
    print(
        f"weights {weights / 1e9:.2f} billion, a model in bfloat16 {2 * weights / GIB:.2f} GiB (resident: one)"
    )
    print(f"a piece of float32: {piece / 2**20:.0f} MiB a model, eight of them {8 * piece / GIB:.2f} GiB")
    print(
        f"RegMean's widest layer: {regmean / GIB:.2f} GiB → {(2 * weights + regmean) / GIB:.2f} GiB with the model"
    )
    print(f"Gram matrices on disk: {distinct / GIB:.1f} GiB of float32 a parent")
    print(f"the same if no two layers shared one: {gram_bytes(model) / GIB:.1f} GiB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--inner", type=int, default=0, help="default: 2.6875 × hidden, as Llama 2 has it")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--arithmetic", action="store_true")
    options = parser.parse_args()
    if options.arithmetic:
        arithmetic()
        return
    root = Path(tempfile.mkdtemp(prefix="merge-memory-"))
    try:
        measure(
            root,
            options.hidden,
            options.inner or options.hidden * 43 // 16,
            options.layers,
            options.vocabulary,
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
