"""A short slice of the attack, a few attempts of each class: the whole is `make attack`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_few_attempts_of_every_class_are_survived():
    words = ["--seed", "1", "--attempts", "30", "--minutes", "1.5"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.attack", *words], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tried = {row[1]: int(row[2]) for row in re.finditer(r"^(\w+) +(\d+) +\d+ +0 +0 +0 ", done.stdout, re.M)}
    assert set(tried) == {"kill", "term", "disks", "network", "damage", "folders", "inputs", "all"}
    assert min(tried.values()) >= 1
