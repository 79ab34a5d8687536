"""A short slice of `make attack`: a few attempts of each class but workers, whose attempts take half a minute."""

import re
import subprocess
import sys
from pathlib import Path

CLASSES = "kill", "term", "disks", "network", "damage", "folders", "inputs"
ROOT = Path(__file__).parents[2]


def test_a_few_attempts_of_every_class_are_survived():
    words = ["--seed", "1", "--attempts", "14", "--minutes", "1", "--classes", ",".join(CLASSES)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack", *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = {row[1]: int(row[2]) for row in re.finditer(r"^(\w+) +(\d+) +\d+ +0 +0 +0 ", done.stdout, re.M)}
    assert set(tried) == {*CLASSES, "all"}
    assert min(tried.values()) >= 1
