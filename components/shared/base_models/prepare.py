"""A base model made ready: fetched, checked, its tokenizer set up, in the number format that is asked for.

    facts = prepare(address("Qwen/Qwen2.5-0.5B"), output, work, progress=run.progress)

`output` is a Hugging Face folder then, and the facts say where it is from. Files are taken as they are, but for what would
lead a reader astray: an `auto_map` to code that is not there goes, and so do files that are none of the model's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from components.shared.models.foreign import checked_config
from components.shared.models.loading import AUTO_MAP, load_tokenizer, save_tokenizer
from components.shared.models.trusted_code import code_of, digest_of_code, needs_code
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.base_models import KEY, TEXTS, inherited, licence_of_card
from components.shared.runtime.artifact.manifest import MANIFEST
from components.shared.runtime.artifact.plain_model import adopt
from components.shared.runtime.artifact.weights import SINGLE, json_object
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.tracking.progress import Progress

from . import hub
from .address import Address
from .gguf_file import unpack_gguf
from .tokenizer_checks import checked_tokenizer

DTYPES = ("float32", "bfloat16", "float16")


def prepare(
    base: Address, output: Path, work: Path, *, dtype: str = "", progress: Progress
) -> dict[str, Any]:
    """Put the model at `base` into the folder `output`.

    :param output: of the artifact; empty or not there.
    :param work: scratch, for what has to be fetched or unpacked first.
    :param dtype: one of DTYPES, to which floating-point weights are converted; "" leaves them as they are.
    :returns: source, kind, revision, licence, digest, and `notes`: plain values for the manifest.
    :raises ForgeError: it is not to be had, is no model that can be read here, or its tokenizer is not its own.
    """
    if dtype and dtype not in DTYPES:
        raise ConfigError(
            f"there is no dtype {dtype!r} for weights", where="dtype", fix=f"one of {', '.join(DTYPES)}"
        )
    output.mkdir(parents=True, exist_ok=True)
    folder, facts = _fetched(base, work, dtype, progress)
    if (folder / MANIFEST).is_file():
        given = artifact.read(folder)
        names, earlier = sorted(given.manifest.files), inherited([given.manifest.extra])
    else:
        given = adopt(folder)
        code = _needs_code(json_object(folder / "config.json"))
        names = [name for name in given.manifest.files if _belongs(name) or (code and _is_code(name))]
        earlier = []
    facts["digest"] = given.digest
    facts["licence"] = (
        facts.get("licence") or licence_of_card(folder) or _only([b.get("licence") for b in earlier])
    )
    progress.start("take the files", len(names))
    for name in names:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        if dtype and name.endswith(".safetensors") and _is_weights(name):
            _convert(folder / name, output / name, getattr(torch, dtype))
        else:
            shutil.copyfile(folder / name, output / name)
        progress.step()
    progress.done()
    _settle_config(output, dtype)
    config = checked_config(output, AUTO_MAP)
    tokenizer = load_tokenizer(output)
    before = (tokenizer.eos_token, tokenizer.pad_token)
    facts["notes"] = checked_tokenizer(tokenizer, config, output)
    if (tokenizer.eos_token, tokenizer.pad_token) != before:
        save_tokenizer(tokenizer, output)
    for note in facts["notes"]:
        progress.note(note)
    if dtype:
        facts["dtype"] = dtype
    if _needs_code(json_object(output / "config.json")):
        facts["code"] = digest_of_code(code_of(output))
    return {key: value for key, value in facts.items() if value or key == "licence"}


def _fetched(base: Address, work: Path, dtype: str, progress: Progress) -> tuple[Path, dict[str, Any]]:
    """The folder that a base model lies in on this machine, and where it is from."""
    facts: dict[str, Any] = {"source": base.place, "kind": base.kind}
    if base.kind == "hub":
        model = hub.fetch(base, progress=progress)
        return model.folder, {**facts, "revision": model.commit, "licence": model.licence}
    if base.kind == "store":
        return download(base.place, work / "base_model"), facts
    path = Path(base.place)
    facts["source"] = path.resolve().name  # where it lies on this machine is no property of it
    if base.kind == "gguf":
        unpacked = work / "gguf"
        shutil.rmtree(unpacked, ignore_errors=True)
        said = unpack_gguf(path, unpacked, dtype=getattr(torch, dtype or "float32"))
        return unpacked, {**facts, "licence": said.pop("licence", ""), "gguf": said}
    return path, facts


def _belongs(name: str) -> bool:
    """Whether a file is the model's: what a hub's folder has for other programs is left behind."""
    import fnmatch

    if "/" in name:
        return False
    return (
        _is_weights(name)
        or TEXTS.fullmatch(name) is not None
        or any(fnmatch.fnmatchcase(name, pattern) for pattern in (*hub.TEXTS, "model.safetensors.index.json"))
    )


def _needs_code(config: Mapping[str, Any]) -> bool:
    return config.get("model_type") not in AUTO_MAP and needs_code(config)


def _is_code(name: str) -> bool:
    return "/" not in name and name.endswith(".py")


def _is_weights(name: str) -> bool:
    """`model.safetensors`, or a shard of it as transformers names them."""
    return name == SINGLE or (name.startswith("model-") and name.endswith(".safetensors"))


def _convert(source: Path, target: Path, dtype: torch.dtype) -> None:
    """One file of weights in another number format; whole numbers and codes stay as they are."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 # no mapping
    converted = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    save_file(converted, target, metadata={"format": "pt"})
    target.chmod(0o644)


def _settle_config(folder: Path, dtype: str) -> None:
    """config.json without a map to code, which is not here, and with the weights' number format."""
    path = folder / "config.json"
    config = json_object(path)
    astray: tuple[str, ...] = ("auto_map", "_name_or_path")
    if _needs_code(config):
        astray = ("_name_or_path",)  # its code lies beside it, and is trusted: see checked_config
    changed: Mapping[str, Any] = {name: value for name, value in config.items() if name not in astray}
    if config.get("model_type") in AUTO_MAP:
        changed = config
    if dtype:
        changed = {**{n: v for n, v in changed.items() if n != "torch_dtype"}, "dtype": dtype}
    if changed != config:
        path.write_text(json.dumps(changed, indent=1) + "\n", encoding="utf-8")


def _only(licences: list[Any]) -> str:
    """The one licence of all, or ""."""
    return str(licences[0] or "") if len(set(licences)) == 1 else ""


__all__ = ["DTYPES", "KEY", "prepare"]
