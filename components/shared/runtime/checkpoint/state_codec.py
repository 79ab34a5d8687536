"""Nested states as JSON and tensors, and back bit for bit, without pickle: what a checkpoint is made of."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch


def pack(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Write a nested state as JSON, its tensors and arrays moved into `tensors` under names that begin with `name`.

    JSON has no tensors, tuples or integer keys: they become {"$": "tensor" | "array" | "tuple" | "dict", …}.

    :raises TypeError: `value` holds something that is none of these, no number, text or list.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"$": "tensor", "name": name}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(value.copy())
        return {"$": "array", "name": name}
    if isinstance(value, np.generic):
        return pack(value.item(), name, tensors)
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and "$" not in value:
            return {key: pack(item, f"{name}/{key}", tensors) for key, item in value.items()}
        pairs = [
            [pack(key, f"{name}/", tensors), pack(item, f"{name}/{key}", tensors)]
            for key, item in value.items()
        ]
        return {"$": "dict", "items": pairs}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"$": "tuple", "items": items}
    raise TypeError(f"{name} is a {type(value).__name__}, which a checkpoint cannot hold without pickle")


def unpack(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The inverse of `pack`."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value.get("$")
    if kind == "tensor":
        return tensors[value["name"]]
    if kind == "array":
        return tensors[value["name"]].numpy()
    if kind == "tuple":
        return tuple(unpack(item, tensors) for item in value["items"])
    if kind == "dict":
        return {unpack(key, tensors): unpack(item, tensors) for key, item in value["items"]}
    return {key: unpack(item, tensors) for key, item in value.items()}


def generator_state(generator: Any) -> Any:
    """The state of a generator of torch, numpy or Python, for `pack`.

    :raises TypeError: it is none of these.
    """
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, random.Random):
        return generator.getstate()
    raise TypeError(f"a {type(generator).__name__} is no generator of torch, numpy or Python")


def set_generator(generator: Any, state: Any) -> None:
    """Put a generator back into a state that `generator_state` gave."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.setstate(state)


def global_random() -> dict[str, Any]:
    """The states of the global generators of torch (every device in use), numpy and Python, for `pack`."""
    devices = torch.cuda.device_count() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    return {
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device) for device in range(devices)],
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def set_global_random(state: dict[str, Any]) -> None:
    """Put the global generators back into the states that `global_random` gave."""
    torch.set_rng_state(state["torch"])
    for device, device_state in enumerate(state["cuda"]):
        torch.cuda.set_rng_state(device_state, device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


def unshared(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Each tensor once, on the CPU, for safetensors refuses shared memory.

    :returns: the tensors to store by name, and name → the name under which the same tensor is stored.
    """
    stored: dict[str, torch.Tensor] = {}
    same: dict[str, str] = {}
    names: dict[tuple[Any, ...], str] = {}
    storages: set[tuple[str, int]] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        view = (str(tensor.device), tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and view in names:
            same[name] = names[view]
            continue
        names[view] = name
        storage = (str(tensor.device), tensor.untyped_storage().data_ptr())
        on_cpu = tensor.cpu().contiguous()
        stored[name] = on_cpu.clone() if storage in storages and tensor.device.type == "cpu" else on_cpu
        storages.add(storage)
    return stored, same


def require_plain(value: object, where: str) -> None:
    """Refuse what JSON would change or cannot hold: other keys than strings, arrays, objects.

    :param where: the name of the value in the error.
    :raises TypeError: naming the item.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}: JSON would turn it into a string; use strings")
            require_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            require_plain(item, f"{where}[{index}]")
    else:
        raise TypeError(
            f"{where} is a {type(value).__name__}: the state is plain JSON; tensors go to `tensors`"
        )


def sha256(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
