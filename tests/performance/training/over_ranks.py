"""Every training phase of a profile in one process and over ranks: are the artifacts the same, and how long does it take?

    python tests/performance/training/over_ranks.py FOLDER [--strategy ddp] [--ranks 2] [--profile micro] [--phases …]

FOLDER keeps the artifacts: what is there already is not made again. Quietstar and adas sample thoughts and answers rank by
rank, so that theirs differ by design.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from components.shared.models.loading import load

PHASES = ("cognate", "quietstar", "bitnet", "training", "baking", "adas")


def made(phase: str, output: Path, arguments: list[str]) -> float:
    """Run the phase; seconds, 0 where its artifact was there."""
    if (output / "forge.json").exists():
        return 0.0
    began = time.monotonic()
    command = [sys.executable, "-m", f"components.{phase}", "--output", str(output), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "MLFLOW_TRACKING_URI": ""}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    return time.monotonic() - began


def apart(one: Path, other: Path) -> float:
    """The largest difference of any weight."""
    weights = [load(folder)[0].state_dict() for folder in (one, other)]
    return max(
        float((weights[0][name].float() - tensor.float()).abs().max())
        for name, tensor in weights[1].items()
        if isinstance(tensor, torch.Tensor) and tensor.numel()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--strategy", default="ddp")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--profile", default="micro")
    parser.add_argument("--phases", nargs="*", default=PHASES)
    options = parser.parse_args()
    print(
        f"| phase | one process, s | {options.ranks} ranks, {options.strategy}, s | a weight apart | a score apart |"
    )
    print("|---|---|---|---|---|", flush=True)
    for phase in options.phases:
        where = (
            ["--set", "variant=standard"]
            if phase == "cognate"
            else ["--input", str(options.folder / "cognate-one")]
        )
        common = [*where, "--profile", options.profile, f"{phase}.threads=1"]
        engine = [f"{phase}.engine.strategy={options.strategy}", f"{phase}.engine.processes={options.ranks}"]
        if options.strategy.startswith("zero") and phase not in ("baking", "adas"):
            common.append(f"{phase}.optimizer=adamw")
        one, many = options.folder / f"{phase}-one", options.folder / f"{phase}-{options.strategy}"
        seconds = made(phase, one, common), made(phase, many, [*common, *engine])
        scores = [json.loads((folder / "forge.json").read_text())["scores"] for folder in (one, many)]
        score = max(abs(scores[0][suite]["score"] - scores[1][suite]["score"]) for suite in scores[0])
        print(
            f"| {phase} | {seconds[0]:.0f} | {seconds[1]:.0f} | {apart(one, many):.1e} | {score:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
