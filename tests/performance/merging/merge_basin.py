"""What does the angle between models' weights say of their initialisation?

    python tests/performance/merging/merge_basin.py A B …

Prints, for each two model folders, the median cosine of their common matrices: what `forge merge` warns by.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import components.shared.runtime  # noqa: F401
from components.shared.merging.streaming.basin import cosines
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.merging.streaming.recipe import Recipe, RecipeModel

if __name__ == "__main__":
    folders = [Path(folder) for folder in sys.argv[1:]]
    merge = StreamingMerge(Recipe("linear", tuple(RecipeModel(folder) for folder in folders)))
    for (a, b), cosine in cosines(merge.parents, merge.plan.targets).items():
        print(f"{folders[a]}  {folders[b]}  {cosine:.3f}")
