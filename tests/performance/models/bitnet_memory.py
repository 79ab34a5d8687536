"""Phase bitnet's peak memory in bytes a parameter: whole phase, in a fresh process.

    python tests/performance/models/bitnet_memory.py PATH [--steps 3 --batch 16 --rows 4 --precision bfloat16] [--plain]
    python tests/performance/models/bitnet_memory.py --made 25 [350]      # Llamas of that many million parameters

`peak` is the highest resident memory of the process that runs the phase (getrusage), everything counted: teacher, student,
gradients, optimiser, activations, scoring, writing and loading what was written, and Python with its libraries, whose share
is measured apart, in a process that imports them and ends. `--plain` leaves activations in memory
(engine.gradient_checkpointing=false).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open

SHAPES = {25: (512, 1408, 6, 8), 350: (1024, 2816, 24, 16)}
"""Million parameters: hidden and intermediate size, layers, heads; at the vocabulary of the tokenizer."""


def made(million: int, folder: Path) -> None:
    """A random Llama with the byte tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from components.shared.tasks.tokenizer import byte_tokenizer

    hidden, inner, layers, heads = SHAPES[million]
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads // 2,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def parameters(folder: Path) -> int:
    """Numbers in a folder's safetensors files."""
    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            total += sum(torch.Size(tensors.get_slice(name).get_shape()).numel() for name in tensors.keys())  # noqa: SIM118
    return total


def libraries() -> int:
    """Bytes of a process that has imported what the phase imports."""
    code = "import resource, components.bitnet.phase, components.shared.runtime.executor\n"
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    return 1024 * int(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    )


def run(folder: Path, chosen: argparse.Namespace) -> None:
    """Run the phase once, and print its peak."""
    overrides = [
        f"bitnet.steps={chosen.steps}",
        f"bitnet.batch={chosen.batch}",
        f"bitnet.rows={chosen.rows}",
        "bitnet.calibration_items=8",
        "bitnet.held_out_items=8",
        "evaluation.items=8",
        "evaluation.batch=4",
        f"bitnet.engine.precision={chosen.precision}",
        f"bitnet.engine.gradient_checkpointing={str(not chosen.plain).lower()}",
    ]
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable,
            "-m",
            "components.bitnet",
            "--input",
            str(folder),
            "--output",
            f"{output}/model",
        ]
        ended = subprocess.run([*command, *overrides], check=False, capture_output=True, text=True)
        if ended.returncode:
            sys.exit(ended.stderr[-3000:])
        metrics = json.loads((Path(output) / "model" / "forge.json").read_text())["metrics"]
    own = libraries()
    peak, count = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, parameters(folder)
    print(
        f"{count / 1e6:7.1f}M parameters, {'plain' if chosen.plain else 'checkpointed'}, {chosen.precision}: "
        f"peak {peak / 2**20:7.0f} MiB, {peak / count:5.1f} bytes a parameter, "
        f"{(peak - own) / count:5.1f} without the {own / 2**20:.0f} MiB of libraries; "
        f"loss {metrics['loss_before']:.3f} -> {metrics['loss_after']:.3f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--made", nargs="*", type=int, default=[])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--plain", action="store_true")
    chosen = parser.parse_args()
    if chosen.path:
        run(chosen.path, chosen)
    for million in chosen.made:
        with tempfile.TemporaryDirectory() as folder:
            made(million, Path(folder))
            run(Path(folder), chosen)


if __name__ == "__main__":
    main()
