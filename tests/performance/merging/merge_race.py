"""What does the race save: candidates that are surely worse see a quarter or half of the items, and what does it cost?

    python tests/performance/merging/merge_race.py --input A --input B --input C --seeds 3

The models are artifacts of phase cognate. For each seed the tiny profile's search runs with the race and without, on the
same items; the champions are then asked `--items` questions of each suite from the select split.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from merge_fitness import evaluator_of, search

from components.evomerge.settings import Settings
from components.shared.runtime.artifact import artifact
from components.shared.runtime.config.compose import compose


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", action="append", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--items", type=int, default=96)
    parser.add_argument("overrides", nargs="*", help="such as evomerge.items=64")
    options = parser.parse_args()
    torch.set_num_threads(1)
    parents = [artifact.read(folder) for folder in options.input]
    settings = compose("evomerge", Settings, overrides=options.overrides).settings
    print("| seed | race | genomes | share of items seen | CPU-seconds | fitness, search | select |")
    print("|---|---|---|---|---|---|---|")
    for seed in range(1, options.seeds + 1):
        for race in (True, False):
            evaluator = evaluator_of(parents, settings, seed)
            began = time.process_time()
            records = search(evaluator, settings, seed, race=race)
            seconds = time.process_time() - began
            seen = sum(record.measurement.seen for record in records) / len(records)
            select = evaluator.measure(records[0].genome, evaluator.scorer("select", options.items)).fitness
            shown = f"{seen:.2f} | {seconds:.1f} | {records[0].fitness:.4f} | {select:.4f}"
            print(f"| {seed} | {'yes' if race else 'no'} | {len(records)} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
