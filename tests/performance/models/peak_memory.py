"""How much memory each phase takes at its heaviest, beside what the preflight says it will.

    python -m tests.performance.models.peak_memory --sizes 25M 135M 350M --tokenizer FOLDER [--phases bitnet training …]

Each phase runs in a process of its own on a Llama-shaped model of random weights with the tokenizer of FOLDER, at the
settings of a profile cut down to a step or two: the largest batch, the most rows and the longest items stay. The peak is
what the kernel counted for the process (getrusage, ru_maxrss). What a phase is given is made by the phase cognate or is
the model itself, so that one phase that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from components.shared.preflight.phases import ENCODERS
from components.shared.preflight.throughput import Machine

SHAPES: dict[str, dict[str, int]] = {
    "3M": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4},
    "25M": {"hidden_size": 320, "intermediate_size": 864, "num_hidden_layers": 8, "num_attention_heads": 5},
    "135M": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
    },
    "350M": {
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
    },
}
"""Llama-shaped, tied embeddings of 49,152 rows: with SmolLM2's tokenizer they have about so many parameters."""

CUT = [
    "evaluation.items=4",
    *("quietstar.steps=2", "quietstar.items=9", "bitnet.steps=2", "adas.svf.steps=1", "adas.svf.low=0"),
    *("training.held_out=16", "training.probe_items=32", "compression.target_size_mb=4000"),
    *("evomerge.generations=1", "evomerge.rounds=1", "evomerge.islands=1", "adas.search.generations=1"),
    *(f"{phase}.gates=[]" for phase in ("quietstar", "bitnet", "training", "baking", "adas", "compression")),
]
"""Gates compare with what the input's manifest says, and a model that no phase has made has none. A family that no model of
random weights can do is learnt all the same."""
PHASES = ("cognate", "evomerge", "quietstar", "bitnet", "training", "baking", "adas", "compression")
PARENTS = 3


def main() -> None:
    """Measure, compare, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=["25M"], choices=SHAPES)
    parser.add_argument("--phases", nargs="+", default=PHASES, choices=PHASES)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of a Hugging Face tokenizer")
    parser.add_argument("--profile", default="hf-small")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds of one phase")
    parser.add_argument("--keep", type=Path, help="folder for models, outputs and logs")
    parser.add_argument("override", nargs="*", help="settings on top, phase.key=value")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = asked.keep or Path(folder)
        print(
            f"{'size':<6}{'phase':<13}{'seconds':>8}{'measured GiB':>14}{'predicted':>11}{'off by':>8}",
            flush=True,
        )
        for size in asked.sizes:
            models = [
                _model(place / f"{size}-{seed}", size, asked.tokenizer, seed) for seed in range(PARENTS)
            ]
            for phase in asked.phases:
                _measure(size, phase, models, place, asked)


def _model(folder: Path, size: str, tokenizer: Path, seed: int) -> Path:
    """A model of that size, made in a process that ends."""
    if not (folder / "config.json").exists():
        code = (
            "import sys, json, torch\n"
            "from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM\n"
            "shape, source, target, seed = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])\n"
            "tokenizer = AutoTokenizer.from_pretrained(source)\n"
            "torch.manual_seed(seed)\n"
            "ids = {n: getattr(tokenizer, n) for n in ('pad_token_id', 'bos_token_id', 'eos_token_id')}\n"
            "config = LlamaConfig(**shape, **ids, vocab_size=len(tokenizer), max_position_embeddings=8192,\n"
            "    tie_word_embeddings=True)\n"
            "LlamaForCausalLM(config).save_pretrained(target); tokenizer.save_pretrained(target)\n"
        )
        shape = {**SHAPES[size], "num_key_value_heads": max(1, SHAPES[size]["num_attention_heads"] // 3)}
        if size == "3M":
            shape["num_key_value_heads"] = 2
        if size == "25M":
            shape["num_key_value_heads"] = 5
        command = [sys.executable, "-c", code, json.dumps(shape), str(tokenizer), str(folder), str(seed)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return folder


def _measure(size: str, phase: str, models: list[Path], place: Path, asked: Any) -> None:
    """One phase on one size, as a line of the table."""
    output = place / f"{size}-{phase}-{int(time.time())}"
    inputs = [word for model in models for word in ("--input", str(model))] if phase == "evomerge" else []
    if phase == "cognate":
        inputs = ["--set", f"variant={models[0]}"]
    inputs = inputs or ["--input", str(models[0])]
    command = [
        *(
            sys.executable,
            "-m",
            f"components.{phase}",
            "--output",
            str(output),
            *inputs,
            "--profile",
            asked.profile,
        ),
        *CUT,
        *asked.override,
    ]
    environment = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}"}
    log = output.with_suffix(".log")
    began = time.monotonic()
    with log.open("w") as text:
        process = subprocess.Popen(command, stdout=text, stderr=text, env=environment)
        code, peak = _ended(process, began + asked.timeout)
    seconds = time.monotonic() - began
    if code != 0:
        said = log.read_text().strip().splitlines()[-1:]
        print(
            f"{size:<6}{phase:<13}{seconds:>8.0f}{peak / 2**30:>14.2f}  until it failed: {said}", flush=True
        )
        return
    host = predicted(asked.profile, [*CUT, *asked.override], models[0], phase)
    print(
        f"{size:<6}{phase:<13}{seconds:>8.0f}{peak / 2**30:>14.2f}{host / 2**30:>11.2f}{host / peak - 1:>+8.0%}",
        flush=True,
    )


def _ended(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, int]:
    """The exit code of a process that is killed at the deadline, and its peak in bytes."""
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), used.ru_maxrss * 1024
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.1)


def predicted(profile: str, overrides: list[str], model: Path, phase: str) -> int:
    """Bytes that the preflight says of the process itself: those that encode are counted apart."""
    from pipelines.costs import costs_of
    from pipelines.settings import composed

    machine = Machine("a CPU", 1e11, 1 << 62, 0, 0, 1 << 62)
    configs = composed([phase], profile=profile, overrides=overrides)
    [cost] = costs_of([str(model)] * PARENTS, configs, machine)
    return cost.host - cost.terms.get(f"{ENCODERS} (host)", 0)


if __name__ == "__main__":
    main()
