"""Phase bitnet as a program for which no model is too small to have its teacher in a file.

python -m tests.contract.phases.paged_bitnet …
"""

import contextlib
import sys
from pathlib import Path

from components.bitnet import phase
from components.shared.runtime.executor import main
from components.shared.training import paged


@contextlib.contextmanager
def always(model, folder):
    """As `paged`, of all weights; it fails where none of them is in the file."""
    with paged.paged(model, folder, least=0):
        maps = Path("/proc/self/maps").read_text().splitlines()
        assert any(str(folder.resolve()) in line and line.endswith("(deleted)") for line in maps)
        yield


if __name__ == "__main__":
    paged.SMALL = 0
    phase.paged = always
    sys.exit(main(phase.BitNet))
