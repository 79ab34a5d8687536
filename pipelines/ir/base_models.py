"""Base models that are given: which variants stand on which of them, and what a moving name means when a run is planned."""

from __future__ import annotations

from collections.abc import Sequence

from components.cognate.settings import VARIANTS
from components.shared.base_models.address import Address, address
from components.shared.runtime.errors import InputError

from ..phases import PARENTS


def standing(base_models: Sequence[str], *, merged: bool) -> tuple[int, ...]:
    """For each variant the number of the base model that it stands on, 0 for the trunk that is trained here.

    One model that is given, and a phase that merges: all variants stand on it. Several: each goes on as it is.

    :param base_models: names of variants, and models that are given; none for all variants.
    :param merged: whether a phase follows that makes one model of several.
    """
    if not base_models:
        return (0,) * PARENTS
    if merged and len(base_models) == 1 and base_models[0] not in VARIANTS:
        return (1,) * len(VARIANTS)
    return tuple(0 if name in VARIANTS else number for number, name in enumerate(base_models, 1))


def planned(base_models: Sequence[str], *, pods: bool = False) -> list[str]:
    """The same base models, names of the hub at the commit that they mean now.

    So one run has one model, however long it lasts, and a run that is planned later takes from the cache what is the same.

    :param pods: whether they are read in pods, which see nothing of this machine.
    :raises ForgeError: there is none at an address, or the hub does not tell.
    """
    return [name if name in VARIANTS else str(_resolved(address(name), pods)) for name in base_models]


def _resolved(base: Address, pods: bool) -> Address:
    if base.kind == "hub":
        from components.shared.base_models.hub import (
            resolved,  # the hub's client, which takes a while to load
        )

        return resolved(base)
    if pods and base.kind in ("folder", "gguf"):
        raise InputError(
            "a pod cannot read a folder of this machine",
            where=f"--base-model {base.place}",
            fix="put it into the cluster's object store, and give its s3:// address; or give a name of the hub",
        )
    return base
