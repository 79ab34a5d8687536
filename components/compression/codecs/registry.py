"""Every codec, preset and transform by name: those that the modules of this folder list as CODECS and TRANSFORMS."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.shared.models.remote_code import decoder_table
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from .codec import Codec, CodecPreset, Transform

FOLDERS: list[str] = sys.modules[__package__].__path__  # type: ignore[assignment]
Named = TypeVar("Named", Codec, CodecPreset, Transform)


@dataclass(frozen=True)
class Catalogue:
    """All there is, by name. presets: those that may be asked for; lossless: those that are offered where they fit."""

    codecs: Mapping[str, Codec]
    transforms: Mapping[str, Transform]
    presets: Mapping[str, CodecPreset]
    lossless: Mapping[str, CodecPreset]


@functools.cache
def catalogue() -> Catalogue:
    """What the modules of all folders list.

    :raises ConfigError: two things of one kind have one name, a codec has no decoder, or a preset names another codec or a
        transform that is not there.
    """
    codecs: dict[str, Codec] = {}
    transforms: dict[str, Transform] = {}
    presets: dict[str, CodecPreset] = {}
    lossless: dict[str, CodecPreset] = {}
    homes: dict[tuple[type, str], str] = {}

    def enter(entry: Codec | Transform | CodecPreset, file: str) -> None:
        key = (type(entry), entry.name)
        if key in homes:
            kind = {Codec: "codecs", Transform: "transforms", CodecPreset: "presets"}[type(entry)]
            raise ConfigError(
                f"two {kind} are called {entry.name!r}", where=f"{homes[key]} and {file}", fix="rename one"
            )
        homes[key] = file

    for name, file in _modules():
        module = importlib.import_module(f"{__package__}.{name}")
        for transform in getattr(module, "TRANSFORMS", ()):
            enter(transform, file)
            transforms[transform.name] = transform
        for codec in getattr(module, "CODECS", ()):
            enter(codec, file)
            codecs[codec.name] = codec
            for preset in codec.presets:
                enter(preset, file)
                (lossless if codec.lossless else presets)[preset.name] = preset
    for codec in codecs.values():
        _require_whole(codec, transforms, homes[Codec, codec.name])
    return Catalogue(codecs, transforms, presets, lossless)


def preset(name: str) -> CodecPreset:
    """The preset of this name, among those that may be asked for and those that are offered where they fit.

    :raises ConfigError: there is none; it says which names are like it.
    """
    known = catalogue()
    return known.lossless[name] if name in known.lossless else _look_up(name, known.presets, "preset")


def codec(name: str) -> Codec:
    """The codec of this name.

    :raises ConfigError: there is none; it says which names are like it.
    """
    return _look_up(name, catalogue().codecs, "codec")


def transform(name: str) -> Transform:
    """The transform of this name.

    :raises ConfigError: there is none; it says which names are like it.
    """
    return _look_up(name, catalogue().transforms, "transform")


def presets() -> Mapping[str, CodecPreset]:
    """The presets that may be asked for, by name."""
    return catalogue().presets


def families() -> dict[str, list[CodecPreset]]:
    """The presets of each family (CodecPreset.family), by rising bits."""
    grouped: dict[str, list[CodecPreset]] = {}
    for each in presets().values():
        grouped.setdefault(each.family, []).append(each)
    return {family: sorted(members, key=lambda member: member.bits) for family, members in grouped.items()}


def extra_folders() -> Sequence[str]:
    """The folders that were added to this one."""
    return FOLDERS[1:]


@contextlib.contextmanager
def extra_folder(folder: Path | str) -> Iterator[None]:
    """Inside the block, codecs and their decoders (decode_NAME.py, transform_NAME.py) are looked for in this folder too.

    :raises ConfigError: as `catalogue` does.
    :raises ValueError: two decoders have one name or one number.
    """
    with decoder_table.extra_folder(folder):
        FOLDERS.append(str(folder))
        catalogue.cache_clear()
        importlib.invalidate_caches()
        try:
            catalogue()
            yield
        finally:
            FOLDERS.remove(str(folder))
            for module in pkgutil.iter_modules([str(folder)]):
                sys.modules.pop(f"{__package__}.{module.name}", None)
            catalogue.cache_clear()


def _modules() -> Iterator[tuple[str, str]]:
    """The modules of all folders: name and file. Decoders are not among them.

    :raises ConfigError: two files have one name.
    """
    files: dict[str, str] = {}
    for folder in FOLDERS:
        for module in pkgutil.iter_modules([folder]):
            if module.name.startswith(tuple(decoder_table.TABLES)):
                continue
            file = str(Path(folder, f"{module.name}.py"))
            if module.name in files:
                where = f"{files[module.name]} and {file}"
                raise ConfigError("two files of codecs have one name", where=where, fix="rename one")
            files[module.name] = file
            yield module.name, file


def _look_up(name: str, known: Mapping[str, Named], kind: str) -> Named:
    if name not in known:
        raise ConfigError(
            f"there is no {kind} {name!r}", where="compression", fix=did_you_mean(name, list(known))
        )
    return known[name]


def _require_whole(codec: Codec, transforms: Mapping[str, Transform], file: str) -> None:
    """Refuse a codec whose codes nobody could read, and presets that are not its own."""
    decoder = codec.decoder or codec.name
    if decoder not in decoder_table.DECODERS:
        fix = (
            f"write decode_{decoder}.py, or name another decoder: {', '.join(sorted(decoder_table.DECODERS))}"
        )
        raise ConfigError(f"the codec {codec.name!r} has no decoder", where=file, fix=fix)
    for each in codec.presets:
        if each.codec != codec.name:
            raise ConfigError(
                f"the preset {each.name!r} of codec {codec.name!r} names {each.codec!r}", where=file
            )
        if each.transform is not None and not (
            each.transform in transforms and each.transform in decoder_table.TRANSFORMS
        ):
            known = did_you_mean(each.transform, sorted(transforms))
            raise ConfigError(
                f"the preset {each.name!r} names a transform that is not there", where=file, fix=known
            )
