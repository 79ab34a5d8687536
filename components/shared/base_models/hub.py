"""Models of a Hugging Face hub, or of a mirror that speaks as it does (HF_ENDPOINT), fetched into the hub's cache.

What is fetched is what a model is made of, by name: safetensors, config, tokenizer, licence and card. Pickles are never
asked for, and code only where it is trusted. A revision is resolved to its commit first, and every file is taken from that
commit. Large files go on where a killed download stopped (partial.py). Without a network the cache is enough:
HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.shared.runtime.artifact.base_models import licence_of_card
from components.shared.runtime.artifact.weights import INDEX, SINGLE, json_object
from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.runtime.tracking.progress import Progress

from .address import Address
from .hub_errors import hub_errors
from .hub_place import endpoint, offline, repository, snapshot, token
from .partial import LARGE, fetch_large

TEXTS = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model",
    "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json", "adapter_config.json", "tokenizer_config.jinja",
    "README.md", "LICENSE*", "LICENCE*", "license*", "NOTICE*", "USE_POLICY*", "Notice*", "*icense.txt",
)  # fmt: skip
"""Files beside the weights, by name; all of them in the model's own folder and none below it."""

OURS = ("cognate", "forge_wrapped")
"""Model types whose code is here, whatever lies beside a model of them."""

ADAPTER = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")


@dataclass(frozen=True)
class HubModel:
    """A model of the hub on this machine.

    :param folder: its snapshot in the hub's cache.
    :param commit: that its files are of.
    :param licence: as its card says; "" where it says nothing.
    """

    folder: Path
    name: str
    commit: str
    licence: str = ""


@dataclass(frozen=True)
class _Listing:
    """What the hub says of a model at one commit: the size of each file, and its SHA-256 where it is a large one."""

    commit: str
    licence: str
    sizes: Mapping[str, int]
    hashes: Mapping[str, str] = field(default_factory=dict)


def resolved(wanted: Address) -> Address:
    """The name at the commit that its revision means now; a commit means itself, and nobody is asked.

    :raises ForgeError: there is no such model or revision, it is closed to us, or the hub does not answer.
    """
    if wanted.pinned:
        return wanted
    if offline():
        return wanted.at(_cached_commit(wanted))
    return wanted.at(_listing(wanted).commit)


def fetch(wanted: Address, *, code: bool = False, progress: Progress | None = None) -> HubModel:
    """A model of the hub, complete, in the hub's cache.

    :param code: fetch modelling code too: only for who trusts it.
    :param progress: told how many megabytes are there.
    :raises ForgeError: as for `resolved`; or it has no safetensors, or a file does not arrive or is not what the hub said.
    """
    if offline():
        commit = wanted.revision if wanted.pinned else _cached_commit(wanted)
        return _checked(wanted.at(commit), "")
    if wanted.pinned and (there := _complete(wanted, code=code)):
        return there
    listing = _listing(wanted)
    pinned = wanted.at(listing.commit)
    code = code or _own_code(pinned, listing)
    names = [*_texts(listing.sizes, code=code)]
    own = progress or Progress("download")
    index = json.loads(_file(pinned, INDEX).read_bytes()) if INDEX in listing.sizes else None
    names += [*([INDEX] if index else []), *_weights(wanted, listing.sizes, index)]
    total = sum(listing.sizes[name] for name in names)
    own.start(f"fetch {wanted.place}", max(1, total >> 20))
    try:
        for name in sorted(names, key=lambda name: listing.sizes[name]):
            with hub_errors(pinned):
                if listing.sizes[name] >= LARGE:
                    fetch_large(pinned, name, listing.hashes.get(name, ""), own)
                _file(pinned, name)
    finally:
        own.done()
    _remember(wanted, listing.commit)
    return _checked(pinned, listing.licence)


def config_folder(wanted: Address) -> Path:
    """The folder of a model's config.json, which alone is fetched: enough to say what the model will take.

    :raises ForgeError: see `resolved`; or it has none.
    """
    return _file(resolved(wanted), "config.json").parent


def _listing(wanted: Address) -> _Listing:
    """What the hub says of the revision.

    :raises ForgeError: see `resolved`.
    """
    from huggingface_hub import HfApi

    with hub_errors(wanted):
        info = HfApi(endpoint=endpoint(), token=token()).model_info(
            wanted.place, revision=wanted.revision or None, files_metadata=True
        )
    files = info.siblings or []
    card: Any = info.card_data.to_dict() if info.card_data else {}
    licence = card.get("license_name") if card.get("license") == "other" else card.get("license")
    return _Listing(
        commit=str(info.sha),
        licence=licence if isinstance(licence, str) else "",
        sizes={file.rfilename: int(file.size or 0) for file in files},
        hashes={file.rfilename: file.lfs.sha256 for file in files if file.lfs},
    )


def _own_code(pinned: Address, listing: _Listing) -> bool:
    """Whether the model is none that transformers knows, and its code is trusted; the code is fetched, to be read.

    :raises ArtifactError: it is not.
    """
    if "config.json" not in listing.sizes:
        return False
    config = json_object(_file(pinned, "config.json"))
    if not config.get("auto_map"):
        return False
    from components.shared.models.trusted_code import (  # with transformers, which takes seconds
        needs_code,
        require_trust,
    )

    if not needs_code(config) or config.get("model_type") in OURS:
        return False
    for name in _texts(listing.sizes, code=True):
        if name.endswith(".py"):
            _file(pinned, name)
    require_trust(config, snapshot(pinned))
    return True


def _texts(names: Mapping[str, int], *, code: bool) -> list[str]:
    patterns = (*TEXTS, *(("*.py",) if code else ()))
    return [
        name
        for name in names
        if "/" not in name and any(fnmatch.fnmatchcase(name, each) for each in patterns)
    ]


def _weights(wanted: Address, names: Mapping[str, int], index: Any) -> list[str]:
    """The files of weights: one, or the shards that the index names, or those of an adapter.

    :raises ArtifactError: there are none that can be read without unpickling.
    """
    if index is not None:
        shards = set(index.get("weight_map", {}).values()) if isinstance(index, dict) else set()
        if shards and all(isinstance(shard, str) and shard in names for shard in shards):
            return sorted(shards)
        raise ArtifactError(
            "the model's index names weights that the hub has not got",
            where=str(wanted),
            why=", ".join(sorted(str(shard) for shard in shards if shard not in names)[:3])
            or "it names none",
            fix="tell the model's author, or give another revision: owner/name@revision",
        )
    for single in (SINGLE, ADAPTER):
        if single in names:
            return [single]
    pickles = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in PICKLES)]
    files = [name for name in names if name.lower().endswith(".gguf")]
    raise ArtifactError(
        "the model has no safetensors weights",
        where=str(wanted),
        why=f"only {', '.join((pickles or files)[:3])}" if pickles or files else "no weights at all",
        fix="download the .gguf file (hf download) and give its path" if files and not pickles
        else "give a revision with safetensors (many models have one as refs/pr/N), or convert it elsewhere and give the"
        " folder: what would have to be unpickled is not fetched",
    )  # fmt: skip


def _file(pinned: Address, name: str) -> Path:
    """A file of the commit in the hub's cache, fetched where it is not there yet."""
    from huggingface_hub import hf_hub_download

    with hub_errors(pinned), _quiet():
        return Path(
            hf_hub_download(
                pinned.place, name, revision=pinned.revision, endpoint=endpoint(), token=token() or False,
                local_files_only=offline(),
            )
        )  # fmt: skip


def _checked(pinned: Address, licence: str) -> HubModel:
    """The snapshot, which has all that a model needs.

    :raises InputError: it is not in the cache, or only in part.
    """
    folder = snapshot(pinned)
    missing = missing_files(folder)
    if missing:
        raise InputError(
            f"{pinned.place} is not in the hub's cache",
            where=str(folder),
            why=f"there is no {missing[0]}",
            fix="unset HF_HUB_OFFLINE and fetch it once, or set HF_HOME to the cache that has it",
        )
    return HubModel(folder, pinned.place, pinned.revision, licence or licence_of_card(folder))


def _complete(pinned: Address, *, code: bool) -> HubModel | None:
    """The snapshot where it is there whole, without a question to the hub: a commit does not change.

    Code is asked for by its list, which the hub has.
    """
    folder = snapshot(pinned)
    return None if code or missing_files(folder) else _checked(pinned, "")


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be a model: its config, its weights. An adapter needs both of its own.

    :raises ArtifactError: the index of its shards is none.
    """
    if (folder / "adapter_config.json").is_file():
        return [name for name in (ADAPTER,) if not (folder / name).is_file()]
    names = ["config.json"]
    if (folder / INDEX).is_file():
        try:
            names += sorted(set(json.loads((folder / INDEX).read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(
                "the index of the weights is damaged", where=str(folder / INDEX), why=str(error),
                fix="remove it, and fetch the model again",
            ) from error  # fmt: skip
    else:
        names.append(SINGLE)
    return [name for name in names if not (folder / name).is_file()]


def _cached_commit(wanted: Address) -> str:
    """The commit that a branch or tag meant when it was fetched last.

    :raises InputError: it never was.
    """
    reference = repository(wanted.place) / "refs" / (wanted.revision or "main")
    try:
        return reference.read_text().strip()
    except OSError as error:
        raise InputError(
            f"{wanted} is not in the hub's cache",
            where=str(reference.parent.parent),
            why="and HF_HUB_OFFLINE is set: the hub is not asked",
            fix="unset HF_HUB_OFFLINE and fetch it once, or set HF_HOME to the cache that has it",
        ) from error


def _remember(wanted: Address, commit: str) -> None:
    """What the branch or tag means, for the time without a network."""
    if wanted.pinned:
        return
    reference = repository(wanted.place) / "refs" / (wanted.revision or "main")
    reference.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(reference, commit)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars of the hub's own: the progress is ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


__all__: Sequence[str] = ("HubModel", "fetch", "resolved")
