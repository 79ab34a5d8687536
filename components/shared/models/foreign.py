"""What the folder of a model asks for, checked before transformers acts on it.

A folder comes from anywhere. Nothing in it may name code to run, and what its config.json describes may not be more
than its weights hold: a number there becomes memory and time before the first weight is read. So sizes are compared
with the headers of the weights, and the network is first built on the meta device, where it costs nothing.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from components.shared.runtime.artifact.weights import headers, json_object, require_file
from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.wording import did_you_mean

from .trusted_code import needs_code, require_trust

SMALL = 1 << 24
"""A number up to this is one that any config may hold: no memory worth the name comes of it."""
MODULES = 4096
"""As many layers, or experts in a layer, any model may have, however few tensors hold them."""
COUNTS = re.compile(r"(num|n)_.*(layers?|blocks?|experts?)|n_layers?|n_blocks?|layers")
SIZES = re.compile(r"size|dim|heads|length|positions?$|experts|groups|rank")
PER_BYTE = 1024
"""Weights that a byte of code stands for at most: a tensor of zeros has more, but no model lives of them."""
KERNELS = re.compile(r"attn_implementation|experts_implementation|use_kernels|kernel_config")
BUILT_IN = ("eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm")
"""Ways to compute that lie in torch and transformers; all others may be fetched from a hub."""
QUANTISED = ("bitnet",)
"""Of transformers' own formats those that need nothing but transformers: what `forge bitnet export` writes."""
STORED = {"codec": str, "shape": list, "bytes": int}


def checked_config(folder: Path, own: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of the model in `folder`.

    :param own: the model types whose code is here, although transformers does not know them.
    :raises ArtifactError: it names code or kernels, a quantisation, or a size that its weights do not have; or it is
        none that transformers can read.
    """
    for path in folder.iterdir():  # transformers looks for a dozen names among them
        if not path.is_dir():
            require_file(path)
    config = json_object(folder / "config.json")
    refuse_code(config, folder, own)
    json_object(folder / "generation_config.json", needed=False)
    if (folder / "adapter_config.json").exists():
        raise ArtifactError(
            "the model is an adapter beside its base",
            where=str(folder),
            fix="merge it into the base (peft: merge_and_unload)",
        )
    weights = headers(folder)
    stored = stored_bytes(config, folder)
    elements = sum(math.prod(entry["shape"]) for entry in weights.values()) + sum(stored.values())
    refuse_sizes(config, folder, elements, len(weights))
    try:
        typed: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=_runs_code(config, own)
        )
        described = elements_of(typed, code=_runs_code(config, own))
    except Exception as error:  # whatever a foreign config makes transformers raise is a fault of that config
        raise unreadable("config.json describes no model", folder / "config.json", error) from error
    packed = 4 if getattr(typed, "quantization_config", None) else 1
    if described > packed * elements + SMALL:
        raise ArtifactError(
            "config.json describes a larger model than its weights are",
            where=str(folder / "config.json"),
            why=f"{described:,} parameters, and the files hold {elements:,}",
            fix="fetch the model again",
        )
    return typed


def unreadable(
    what: str,
    path: Path,
    error: BaseException,
    fix: str = "fetch the model again, or save it with transformers 5",
) -> ArtifactError:
    """What transformers or a parser said of a file, in one line."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return ArtifactError(
        what,
        where=str(path),
        why=f"{type(error).__name__}: {said[:300]}",
        fix=fix,
    )


def entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def refuse_code(config: Mapping[str, Any], folder: Path, own: Mapping[str, Any]) -> None:
    """Refuse a config that leads to code which is not here.

    :raises ArtifactError: a model type that is unknown here, kernels from elsewhere, or a quantisation.
    """
    where, inner = str(folder / "config.json"), config.get("inner")
    for model in (config, *([inner] if isinstance(inner, dict) else [])):
        kind = model.get("model_type")
        if isinstance(kind, str) and (kind in own or kind in CONFIG_MAPPING):
            continue
        if needs_code(model) and model is config:
            require_trust(config, folder)
            continue
        raise ArtifactError(
            "config.json names no model type" if kind is None else f"the model type {kind!r} is unknown",
            where=where,
            fix=did_you_mean(kind, sorted(CONFIG_MAPPING))
            if isinstance(kind, str)
            else "save the model with save_pretrained of transformers 5",
        )
    for name, value in entries(config):
        if KERNELS.search(name) and not (value is None or value is False or value in BUILT_IN):
            raise ArtifactError(
                f"{name} names code from elsewhere, which is not run", where=where, why=repr(value), fix=f"remove {name}"
            )  # fmt: skip
        if name == "quantization_config" and value is not None:
            kind = value.get("quant_method") if isinstance(value, dict) else value
            if kind not in QUANTISED:
                raise ArtifactError(
                    f"the weights are quantised ({kind})",
                    where=where,
                    why=f"of quantised models only {', '.join(QUANTISED)} can be read here",
                    fix="give the model as it was before, or what model.dequantize() of transformers makes of it",
                )


def stored_bytes(config: Mapping[str, Any], folder: Path) -> dict[str, int]:
    """Module path → weights of each coded layer, by `storage` in config.json.

    :raises ArtifactError: an entry says not how it is stored, or stands for more weights than its bytes can.
    """
    where, storage = str(folder / "config.json"), config.get("storage") or {}
    if not isinstance(storage, dict):
        raise ArtifactError(
            "`storage` is not a map from module to codec", where=where, fix="fetch the model again"
        )
    weights: dict[str, int] = {}
    for path, spec in storage.items():
        good = isinstance(spec, dict) and all(isinstance(spec.get(key), kind) for key, kind in STORED.items())
        if (
            not good
            or len(spec["shape"]) != 2
            or not all(type(size) is int and size > 0 for size in spec["shape"])
        ):
            raise ArtifactError(
                f"`storage` does not say how {path} is stored", where=where, why=str(spec)[:200],
                fix="an entry has a codec, a shape (out, in), and bytes",
            )  # fmt: skip
        weights[path] = math.prod(spec["shape"])
    size = sum(spec["bytes"] for spec in storage.values())
    if sum(weights.values()) > max(4 * SMALL, PER_BYTE * size):
        raise ArtifactError(
            "`storage` stands for more weights than its codes can hold", where=where,
            why=f"{sum(weights.values()):,} weights in {size:,} bytes", fix="fetch the model again",
        )  # fmt: skip
    return weights


def refuse_sizes(config: Mapping[str, Any], folder: Path, elements: int, tensors: int) -> None:
    """Refuse a number that its weights cannot bear out, before it becomes memory or time.

    :raises ArtifactError: more layers than tensors, or a size beyond all that the files hold.
    """
    for name, value in entries(config):
        if type(value) not in (int, float):
            continue
        count = COUNTS.fullmatch(name)
        if (count or SIZES.search(name)) and value > max(
            *((tensors, MODULES) if count else (elements, SMALL))
        ):
            raise ArtifactError(
                f"{name} is {value:,} in a model of {elements:,} weights in {tensors:,} tensors",
                where=str(folder / "config.json"),
                fix="fetch the model again",
            )


def _runs_code(config: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether the model's own code is run: it needs it, and `refuse_code` has found it trusted."""
    return config.get("model_type") not in own and needs_code(config)


def elements_of(config: PreTrainedConfig, *, code: bool = False) -> int:
    """Numbers that a model of this config holds in memory, buffers included.

    :param code: the model's own is run: it is trusted.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(copy.deepcopy(config), trust_remote_code=code)
    return sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
