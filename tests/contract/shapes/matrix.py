"""All phases on a model of one family, one after the other, as the pipeline runs them.

`python -m tests.contract.shapes.matrix [FAMILY …] [--alone]` prints what each cell says, and how long it took. `--alone`
gives each phase the family's model itself, not what the phase before made of it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from components.shared.runtime.executor import main
from tests import shapes

PHASES = {
    "cognate": "Cognate",
    "evomerge": "EvoMerge",
    "quietstar": "QuietStar",
    "bitnet": "BitNet",
    "training": "Training",
    "baking": "Baking",
    "adas": "Adas",
    "compression": "Compression",
}
"""Folder of the phase → its class, in the pipeline's order."""
REFUSED: dict[tuple[str, str], str] = {}
"""(family, phase) → what the phase says, before any work, of why it does not take the family; docs/base-models-matrix.md
says the same."""
LESS = [
    *("evaluation.items=5", "cognate.gram_items=8", "evomerge.items=4", "evomerge.select_items=4"),
    *("evomerge.generations=1", "evomerge.finalists=1", "evomerge.islands=1", "quietstar.items=8"),
    *("quietstar.steps=2", "quietstar.warmup=1", "bitnet.steps=2", "bitnet.held_out_items=8"),
    *("training.held_out=16", "training.probe_items=32", "training.dreams=4", "training.batch=4"),
    *("baking.questions=8", "baking.held_out=8", "baking.answer_tokens=4", "baking.bakes=[{behaviour: tool, steps: 2}]"),
    *("adas.svf.gate_items=8", "adas.svf.low=0.0", "adas.svf.steps=1", "adas.search.items=4", "adas.answer_tokens=3"),
    *("adas.search.select_items=4", "adas.dispatch_items=16", "adas.search.children=1", "adas.cem.iterations=0"),
    *("adas.families=[{name: numbers, tasks: [chain], levels: [1]}]", "compression.search_items=4"),
    *("compression.select_items=4", "compression.smallest=256", "compression.candidates=[int8, uniform 1]"),
    *("compression.curve=2", "compression.controls=[]", "compression.recovery={steps: 1, items: 4}"),
]  # fmt: skip
"""Less still than profile micro: what is looked at is that the work is done, not what comes of it."""


def run(phase: str, output: Path, *arguments: str | Path) -> int:
    """The exit code of a phase, run here with profile micro and less."""
    kind = getattr(import_module(f"components.{phase}.phase"), PHASES[phase])
    words = [
        "--profile",
        "micro",
        "--output",
        output,
        *arguments,
        *(w for w in LESS if w.startswith((phase, "eval"))),
    ]
    return main(kind, [str(word) for word in words])


def cells(family: str, folder: Path, *, alone: bool = False) -> Iterator[tuple[str, int, float]]:
    """Run the phases on the family.

    :param folder: where everything goes; empty.
    :param alone: every phase takes the family's own model.
    :returns: phase, exit code, seconds of this process. A phase that fails passes its input on.
    """
    bases = [shapes.make(family, folder / f"base{seed}", seed) for seed in range(3)]
    model, merged = bases[0], [folder / f"cognate{seed}" for seed in range(3)]
    for phase in PHASES:
        started, output = time.process_time(), folder / phase
        if phase == "cognate":
            takes = [
                run(phase, to, "--set", f"variant={base}") for base, to in zip(bases, merged, strict=True)
            ]
            code = max(takes)
        elif phase == "evomerge":
            code = run(
                phase, output, *(word for each in merged for word in ("--input", f"input_model={each}"))
            )
        else:
            code = run(phase, output, "--input", model)
        if code == 0 and phase != "cognate" and not alone:
            model = output
        yield phase, code, time.process_time() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", nargs="*", default=shapes.FAMILIES)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    for one in options.families:
        with tempfile.TemporaryDirectory() as place:
            for name, exit_code, seconds in cells(one, Path(place), alone=options.alone):
                print(
                    f"CELL {one} {name} {'passes' if not exit_code else f'exit {exit_code}'} {seconds:.1f} s",
                    flush=True,
                )
