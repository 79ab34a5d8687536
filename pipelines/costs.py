"""What a run takes, phase by phase, before anything of it runs: for the doctor, for plans, and for what refuses them."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.base_models.address import address
from components.shared.preflight.estimate import PhaseCost, estimate, refuse_what_cannot_fit
from components.shared.preflight.gguf_head import read_gguf
from components.shared.preflight.shape import ModelShape, of_cognate, of_config, read
from components.shared.preflight.throughput import Machine, here
from components.shared.runtime.errors import InputError, StoreError
from components.shared.runtime.store.uri import open_store

from .cluster import Cluster
from .phases import SPECS

VARIANTS = ("standard", "memory", "reasoning")
"""Base models that are trained from nothing."""


@functools.cache
def this_machine(folder: str = ".") -> Machine:
    """The machine, measured once in a process."""
    return here(str(existing(folder)))


def existing(folder: str) -> Path:
    """The folder, or what there is above it."""
    path = Path(folder).resolve()
    while not path.exists():
        path = path.parent
    return path


def shape_of(models: Sequence[str], configs: Mapping[str, Any]) -> ModelShape | None:
    """The shape of the largest of the models that a run starts from.

    :param models: as --base-model and --artifact name them; none: cognates.
    :returns: None where it is not known before it is fetched or made: no config.json, or a store that is not reached from
        here, as pods' own may not be.
    :raises InputError: a config that cannot be read, or no such model.
    """
    shapes: list[ModelShape | None] = []
    for model in models or VARIANTS:
        if model not in VARIANTS:
            shapes.append(_given(model))
        elif "cognate" in configs:
            shapes.append(of_cognate(configs["cognate"].settings.model))
    known = [shape for shape in shapes if shape is not None]
    return max(known, key=lambda shape: shape.parameters, default=None)


def _given(model: str) -> ModelShape | None:
    """The shape of a given model: of what is not on this machine its config.json is fetched and nothing else."""
    named = address(model)
    if named.kind == "gguf":
        return read_gguf(Path(named.place))
    if named.kind == "store":
        try:
            config = json.loads(open_store(named.place).get("config.json"))
        except StoreError:  # which is said where the costs are: they are not known
            return None
        except ValueError as error:
            raise InputError(
                "the model's config.json cannot be read",
                where=named.place,
                why=str(error),
                fix="give the address of a Hugging Face folder",
            ) from error
        return of_config(config, where=named.place)
    if named.kind == "hub":
        from components.shared.base_models.hub import config_folder

        return read(config_folder(named))
    folder = Path(named.place).expanduser()
    return read(folder) if (folder / "config.json").is_file() else None


def costs_of(models: Sequence[str], configs: Mapping[str, Any], machine: Machine) -> list[PhaseCost]:
    """What the phases of these settings take; nothing where the model's shape is not known yet.

    :param models: see `shape_of`.
    :raises InputError: see `shape_of`.
    """
    return _costs(shape_of(models, configs), models, configs, machine)


def _costs(
    shape: ModelShape | None, models: Sequence[str], configs: Mapping[str, Any], machine: Machine
) -> list[PhaseCost]:
    if shape is None:
        return []
    fresh = not models or any(model in VARIANTS for model in models)
    parents = (
        len(models) if len(models) > 1 else len(VARIANTS)
    )  # all variants stand on one model that is given
    return estimate(shape, configs, machine, parents=parents, fresh=fresh, varied=len(models) == 1)


UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
UNBOUND = 1 << 62
"""Bytes of what is not limited, or not known from here."""


def bytes_of(quantity: str | None) -> int:
    """An amount of memory or disk in Kubernetes' notation; None is no limit."""
    if quantity is None:
        return UNBOUND
    unit = quantity.lstrip("0123456789.")
    return int(float(quantity.removesuffix(unit)) * UNITS.get(unit, 1))


def fitting_pods(models: Sequence[str], configs: Mapping[str, Any], cluster: Cluster) -> list[PhaseCost]:
    """What the phases take in the pods of a cluster.

    A GPU's memory is not known from here: it is said, and refused by nobody.

    :param models: see `shape_of`.
    :raises ConfigError: a phase outgrows the memory or the scratch space of its pod.
    """
    taken, shape = [], shape_of(models, configs)
    for phase in configs:
        gpu = cluster.wants_gpu(SPECS[phase]) and cluster.parameters.accelerator_limit != "0"
        pod = cluster.pods["gpu" if gpu else "cpu"]
        machine = Machine(
            f"a pod of the cluster (pods.{'gpu' if gpu else 'cpu'} in configs/cluster)",
            1e14 if gpu else 1e11,
            bytes_of(pod.limits.memory),
            UNBOUND if gpu else 0,
            int(cluster.parameters.accelerator_limit) if gpu else 0,
            bytes_of(pod.scratch),
        )
        costs = [cost for cost in _costs(shape, models, configs, machine) if cost.phase == phase]
        refuse_what_cannot_fit(costs, machine)
        taken += costs
    return taken
