"""What does the angle between models' weights say of their initialisation?

    python tests/performance/merging/merge_basin.py A B …

Prints, for each two model folders, the median cosine of their common matrices: what `forge merge` warns by.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import components.shared.runtime  # noqa: F401
from components.shared.merging.checkpoint.mapped_model import MappedModel
from components.shared.merging.streaming.basin import cosines

if __name__ == "__main__":
    models = [MappedModel(folder) for folder in sys.argv[1:]]
    names = sorted(set.intersection(*(set(model.tensors) for model in models)))
    for (a, b), cosine in cosines(models, names).items():
        print(f"{models[a].folder}  {models[b].folder}  {cosine:.3f}")
