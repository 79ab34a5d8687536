"""Bakes in sequence with and without the anchor: what the behaviours reach, and what is lost elsewhere.

    python tests/performance/baking_anchor.py MODEL [--short]

MODEL is an artifact that follows the instructions, such as the output of phase training. Gates are opened wide in both
arms, so that nothing that works at all is rolled back and the bakes add up. Profile tiny, 60 steps a bake; figures are of
the report split.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHORT, WHOLE = ("tool", "persona"), ("tool", "memory", "retrieval", "persona")
OPEN = ["baking.forgetting=1", "baking.false_trigger_rate=1"]


def baked(model: str, folder: Path, overrides: list[str]) -> dict[str, Any]:
    """The manifest of the bakes under these overrides."""
    command = [sys.executable, "-m", "components.baking", "--input", model, "--output", str(folder)]
    subprocess.run([*command, *OPEN, *overrides], check=True, capture_output=True)
    manifest: dict[str, Any] = json.loads((folder / "forge.json").read_text())
    return manifest


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--short", action="store_true", help="two bakes instead of four")
    given = parser.parse_args()
    names = SHORT if given.short else WHOLE
    bakes = ", ".join(f"{{behaviour: {name}, steps: 60, least: 0.01}}" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        for arm, overrides in (("anchored", []), ("not anchored", ["baking.anchor=0"])):
            manifest = baked(
                given.model, Path(folder) / arm.replace(" ", "-"), [f"baking.bakes=[{bakes}]", *overrides]
            )
            print(arm)
            for row in manifest["extra"]["behaviours"]:
                print(
                    f"  {row['behaviour']:10s} {row['before']:.2f} → {row['after']:.2f} ({row['prompted']:.2f} prompted)"
                    f", shown where not called for {row['false_trigger_rate']:.2f}"
                )
            kept = manifest["extra"]["controls"][-1]
            print(
                f"  unrelated tasks {kept['control_value']:.3f} → {kept['value']:.3f} "
                f"[{kept['difference_low']:+.3f}, {kept['difference_high']:+.3f}]",
                flush=True,
            )


if __name__ == "__main__":
    main()
