"""How fast is a static merge, and how much memory does it take, beside mergekit?

    python tests/performance/merging/merge_speed.py [--peer-python PATH] [--size 110m|1.5b|7b] [--work DIR] [--threads 1 2]

Generates two Llama-shaped bfloat16 checkpoints and their base, and merges them by each method: `forge merge`'s engine in
a process of its own (seconds of the merge and of the wait for the disk; seconds of the whole process with its imports),
and mergekit's in another, where --peer-python names a Python that has it. Inputs are read once before: both find them in
the page cache. CPU seconds are those of the merge and the disk; they do not depend on who else uses the machine. Memory is
read from /proc ten milliseconds apart: anonymous (what the process needs for itself) and resident (with the mapped files).
The last column is what reading the inputs and writing the output would take at the bandwidth of a plain copy of one input,
measured here, as a share of the merge's seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
SIZES = {  # hidden, intermediate, layers, heads, key-value heads, vocabulary
    "110m": (768, 2048, 12, 12, 12, 32000),
    "1.5b": (2048, 5632, 24, 16, 16, 32000),
    "7b": (4096, 11008, 32, 32, 32, 32000),
}
PARAMETERS = {
    "linear": "weight: 0.5",
    "slerp": "t: 0.5",
    "ties": "{weight: 0.5, density: 0.5}",
    "dare_ties": "{weight: 0.5, density: 0.5}",
}


def generate(folder: Path, size: str) -> list[Path]:
    """A base and two models near to it, written tensor by tensor."""
    import torch

    from components.shared.merging.checkpoint.writing import WeightsWriter

    hidden, inner, layers, heads, groups, vocabulary = SIZES[size]
    width = hidden // heads * groups
    shapes = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    shapes["lm_head.weight"] = (vocabulary, hidden)
    for layer in range(layers):
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (width, hidden),
            "self_attn.v_proj": (width, hidden), "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
            "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": groups, "vocab_size": vocabulary,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, "dtype": "bfloat16",
    }  # fmt: skip
    folders = [folder / name for name in ("base", "one", "two")]
    if all((folder / "done").exists() for folder in folders):
        return folders
    noise = torch.Generator().manual_seed(0)
    files = []
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
        files.append(WeightsWriter(folder, shapes, dict.fromkeys(shapes, torch.bfloat16)))
    for name, shape in shapes.items():
        count = math.prod(shape)
        for at in range(0, count, 1 << 22):
            base = torch.randn(min(1 << 22, count - at), generator=noise).mul_(0.02)
            for number, file in enumerate(files):
                moved = base if number == 0 else base + 0.002 * torch.randn(len(base), generator=noise)
                file.write(name, at, moved)
    for folder, file in zip(folders, files, strict=True):
        file.close(sync=True)
        (folder / "done").touch()
    return folders


def recipe(method: str, folders: list[Path]) -> str:
    """The mergekit YAML that both are given."""
    base, *models = folders
    needs = method not in ("linear", "slerp")
    own = PARAMETERS[method] if "weight" in PARAMETERS[method] else ""
    own = f"{{{own}}}" if own and not own.startswith("{") else own
    lines = [f"merge_method: {method}", "dtype: bfloat16", "models:"]
    for model in models:
        lines += [f"  - model: {model}", *([f"    parameters: {own}"] if own else [])]
    if needs or method == "slerp":
        lines.append(f"base_model: {base if needs else models[0]}")
    if method == "slerp":
        lines.append("parameters: {t: 0.5}")
    return "\n".join(lines) + "\n"


OURS = """
import sys, time
from pathlib import Path
from components.shared.merging.mergekit.configuration import parse
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.runtime.tracking.progress import Progress
job = StreamingMerge(parse(Path(sys.argv[1])), threads=int(sys.argv[3]))
job.recipe.merge_method.implementation  # what it imports counts for the whole process
spent = time.process_time()
done = job.write(Path(sys.argv[2]), progress=Progress("merge"))
print("RESULT", done.seconds, done.disk_seconds, time.process_time() - spent)
"""
PEER = """
import sys, time, yaml, torch
torch.set_num_threads(int(sys.argv[3]))
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from mergekit import __file__ as where
config = MergeConfiguration.model_validate(yaml.safe_load(open(sys.argv[1])))
options = MergeOptions(copy_tokenizer=False, write_model_card=False, num_threads=int(sys.argv[3]), quiet=True)
ready = time.perf_counter()
spent = time.process_time()
run_merge(config, sys.argv[2], options=options)
print("RESULT", time.perf_counter() - ready, 0.0, time.process_time() - spent)
"""


def memory(pid: int) -> tuple[int, int]:
    """(anonymous, resident) bytes of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {
        line.split(":")[0]: int(line.split()[1]) << 10
        for line in lines
        if line.startswith("Rss") or line.startswith("VmRSS")
    }
    return fields.get("RssAnon", 0), fields.get("VmRSS", 0)


def timed(command: list[str], threads: int) -> dict[str, float]:
    """Runs it, and watches its memory."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        anonymous = resident = 0
        while process.poll() is None:
            a, r = memory(process.pid)
            anonymous, resident = max(a, anonymous), max(r, resident)
            time.sleep(0.01)
        out.seek(0)
        output = out.read()
    whole = time.perf_counter() - began
    lines = [line for line in output.splitlines() if line.startswith("RESULT")]
    if process.returncode or not lines:
        raise SystemExit(f"{command[0]} failed:\n{output}")
    merge, disk, processor = map(float, lines[0].split()[1:])
    return {
        "merge": merge,
        "disk": disk,
        "cpu": processor,
        "whole": whole,
        "anonymous": anonymous,
        "resident": resident,
    }


def bandwidth(source: Path, work: Path) -> float:
    """Bytes a second of a plain copy, read and written both counted; the best of three."""
    target, best = work / "copy", math.inf
    for _ in range(3):
        target.unlink(missing_ok=True)
        began = time.perf_counter()
        with source.open("rb") as a, target.open("wb") as b:
            while data := a.read(1 << 20):
                b.write(data)
        best = min(best, time.perf_counter() - began)
    target.unlink()
    return 2 * source.stat().st_size / best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", default="", help="a Python with mergekit 0.1.5")
    parser.add_argument("--size", choices=SIZES, default="110m")
    parser.add_argument(
        "--work", type=Path, default=None, help="where the checkpoints are kept (default: a temporary folder)"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--methods", nargs="+", default=list(PARAMETERS), choices=list(PARAMETERS))
    parser.add_argument("--repeats", type=int, default=3, help="the fastest of so many is shown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        folders = generate(work / options.size, options.size)
        files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
        for file in files:
            with file.open("rb") as opened:
                while opened.read(1 << 24):
                    pass
        speed = bandwidth(files[0], work)
        size = sum(file.stat().st_size for file in files) // 3
        print(
            f"{options.size}: {size / 2e6:,.0f} M parameters, {size >> 20} MiB a model; copying {speed / 1e9:.1f} GB/s"
        )
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        if not options.peer_python:
            print("mergekit: not measured (--peer-python)")
        print(
            "| method | threads | who | merge s | + disk s | CPU s | process s "
            "| anonymous MiB | resident MiB | of bandwidth |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for method in options.methods:
            (work / "recipe.yml").write_text(recipe(method, folders))
            moved = (3 if method in ("linear", "slerp") else 4) * size
            for threads in options.threads:
                for who, python, code in (
                    ("ours", sys.executable, OURS),
                    ("mergekit", options.peer_python, PEER),
                ):
                    if not python:
                        continue
                    runs = []
                    for _ in range(options.repeats):
                        shutil.rmtree(work / "out", ignore_errors=True)
                        runs.append(
                            timed(
                                [
                                    python,
                                    "-c",
                                    code,
                                    str(work / "recipe.yml"),
                                    str(work / "out"),
                                    str(threads),
                                ],
                                threads,
                            )
                        )
                    shutil.rmtree(work / "out", ignore_errors=True)
                    best = min(runs, key=lambda run: run["merge"])
                    share = moved / speed / best["merge"]
                    peak = {
                        name: max(run[name] for run in runs) / 2**20 for name in ("anonymous", "resident")
                    }
                    print(
                        f"| {method} | {threads} | {who} | {best['merge']:.2f} | {best['disk']:.2f} "
                        f"| {min(run['cpu'] for run in runs):.2f} "
                        f"| {best['whole']:.1f} | {peak['anonymous']:.0f} | {peak['resident']:.0f} | {share:.0%} |",
                        flush=True,
                    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    import components.shared.runtime  # noqa: F401

    main()
