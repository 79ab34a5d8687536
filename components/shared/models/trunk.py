"""The trunk that a variant was trained from, as it travels beside it: the base of its task vector (arXiv 2212.04089).

`trunk.safetensors` holds the trunk's tensors; those that the variant still has as they were (a base that was frozen while
modules or adapters were trained) are left out, and are read from the variant itself. A digest in the header says whether
two variants come from one trunk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE = "trunk.safetensors"
INNER = "inner."


def write_trunk(
    trunk: Mapping[str, Tensor], variant: Mapping[str, Tensor], folder: Path, digest: str
) -> None:
    """Write what a variant does not have itself of its trunk.

    :param trunk: its tensors.
    :param variant: the variant's, by the same names or those of a wrapped model.
    :param digest: of the trunk.
    """
    moved = {name: own.contiguous() for name, own in sorted(trunk.items()) if not _kept(name, own, variant)}
    save_file(moved, folder / FILE, metadata={"trunk": digest})
    (folder / FILE).chmod(0o644)


def trunk_of(folder: Path, sha256: str | None) -> str | None:
    """The digest of the trunk that a model carries; None where it carries none.

    :param sha256: of the file, which is the digest of a trunk that was written whole; None where there is no file.
    """
    if sha256 is None:
        return None
    with safe_open(folder / FILE, "pt") as file:
        return (file.metadata() or {}).get("trunk") or sha256


def read_trunk(folder: Path, variant: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's tensors, mapped, by their own names.

    :param variant: the tensors of the model beside it, where the file leaves some out.
    """
    with safe_open(folder / FILE, "pt") as file:
        digest = (file.metadata() or {}).get("trunk")
        trunk = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if not digest:
        return trunk
    for name, tensor in variant.items():
        own = name.removeprefix(INNER)
        if not own.startswith(("memory.", "refinement.")) or name.startswith(INNER):
            trunk.setdefault(own, tensor)
    return trunk


def _kept(name: str, own: Tensor, variant: Mapping[str, Tensor]) -> bool:
    same = variant.get(name, variant.get(INNER + name))
    return same is not None and same.shape == own.shape and torch.equal(same, own.to(same.device, same.dtype))
