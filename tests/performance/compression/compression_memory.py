"""How much memory does phase compression take, and does it grow with the model? What do more processes save?

    python tests/performance/compression/compression_memory.py \
        [--work DIR] [--recipe fixed|best] [--layers 2 8 24] [--workers 2]

Writes Llama-shaped models of one width and growing depth (random weights, layer by layer, a shard each; kept in DIR) and
runs `python -m components.compression` on each: with one code for all tensors, or with `best` on three candidates, which
measures every tensor's sensitivity. Few items and none of the comparisons: what is looked at is the machinery.

Memory is anonymous memory, read from /proc ten milliseconds apart: of the phase's process, and of the largest of the
processes that encode. Files that are mapped are not in it: the system takes their memory back when it needs it. CPU
seconds are those of all processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]
FEW = [
    *("evaluation.items=2", "evaluation.batch=8", "compression.gates=[]", "compression.controls=[]"),
    *("compression.calibration_items=4", "compression.search_items=2", "compression.select_items=2"),
    *("compression.curve=0", "compression.recovery={steps: 0}"),
]
RECIPES = {
    "fixed": ["compression.recipe=fixed:int4"],
    "best": [
        *("compression.candidates=[int8, int4, vptq 1.5]", "compression.sample=65536"),
        "compression.bytes={bytes}",
    ],
}


def generate(folder: Path, hidden: int, inner: int, layers: int) -> Path:
    """A model in as many shards as layers and one for the embedding, the head and the last norm."""
    import torch
    from safetensors.torch import save_file

    from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

    place = folder / f"{hidden}x{layers}"
    if (place / "done").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": hidden // 64, "num_key_value_heads": hidden // 64,
        "vocab_size": VOCAB_SIZE, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "dtype": "float32",
    }  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))
    byte_tokenizer().save_pretrained(place)
    noise, index, total = torch.Generator().manual_seed(0), {}, 0
    attention = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    mlp = {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
    norms = {"input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    shards: list[dict[str, tuple[int, ...]]] = [
        {f"model.layers.{layer}.{name}.weight": shape for name, shape in (attention | mlp | norms).items()}
        for layer in range(layers)
    ]
    ends = {"model.embed_tokens.weight": (VOCAB_SIZE, hidden), "lm_head.weight": (VOCAB_SIZE, hidden)}
    shards.append({**ends, "model.norm.weight": (hidden,)})
    for number, shapes in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {
            name: torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=noise).mul_(0.02)
            for name, shape in shapes.items()
        }
        save_file(tensors, place / file, metadata={"format": "pt"})
        index |= dict.fromkeys(tensors, file)
        total += sum(4 * tensor.numel() for tensor in tensors.values())
    weights = {"metadata": {"total_size": total}, "weight_map": index}
    (place / "model.safetensors.index.json").write_text(json.dumps(weights))
    (place / "done").touch()
    return place


def anonymous(pid: int) -> int:
    """Bytes of anonymous memory of a process; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon")), 0)


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def watched(command: list[str], place: Path, log: Path) -> dict[str, float]:
    """Runs it: seconds, CPU seconds of it and its children, the most anonymous bytes of it and of a child."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("FORGE_")},
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
    }
    began, own, of_child = time.monotonic(), 0, 0
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            own = max(own, anonymous(process.pid))
            of_child = max([of_child, *map(anonymous, children(process.pid))])
            time.sleep(0.01)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{log.read_text()}")
    seconds = time.monotonic() - began
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "own": own, "child": of_child}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--work", type=Path, default=None, help="where models are kept (default: a temporary folder)"
    )
    parser.add_argument("--recipe", choices=RECIPES, default="fixed")
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 8, 24])
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--hidden", type=int, default=1536)
    parser.add_argument("--inner", type=int, default=2048)
    given = parser.parse_args()
    print("| recipe | layers | weights, MiB | workers | s | CPU s | phase, MiB | largest worker, MiB |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        for layers in given.layers:
            source = generate(work, given.hidden, given.inner, layers)
            size = sum(file.stat().st_size for file in source.glob("*.safetensors"))
            for workers in given.workers:
                output = work / "out"
                for left in (output, work / "out.checkpoints"):
                    shutil.rmtree(left, ignore_errors=True)
                settings = [*FEW, *RECIPES[given.recipe], f"compression.threads={workers}"]
                command = [sys.executable, "-m", "components.compression", "--input", str(source), "--output"]
                command += [
                    str(output),
                    *(setting.replace("{bytes}", str(size // 12)) for setting in settings),
                ]
                found = watched(command, work, work / "log.txt")
                print(
                    f"| {given.recipe} | {layers} | {size / 2**20:,.0f} | {workers} | {found['seconds']:.0f} "
                    f"| {found['cpu']:.0f} | {found['own'] / 2**20:.0f} | {found['child'] / 2**20:.0f} |",
                    flush=True,
                )
                shutil.rmtree(output)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
