"""The presets by name, read from the codecs' files without running them: settings are composed where numpy is not.

`registry` imports the codecs and has the same presets, with all that encoding needs (a test holds both together).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from components.shared.runtime.errors import ConfigError

from . import __path__ as FOLDERS
from .codec import Codec, CodecPreset


def presets() -> Mapping[str, CodecPreset]:
    """The presets that may be asked for, by name, without their settings.

    :raises ConfigError: a preset whose name, codec, bits or transform is no literal.
    """
    return _read(tuple(FOLDERS))


def families() -> dict[str, list[CodecPreset]]:
    """The presets of each family (CodecPreset.family), by rising bits."""
    grouped: dict[str, list[CodecPreset]] = {}
    for preset in presets().values():
        grouped.setdefault(preset.family, []).append(preset)
    return {family: sorted(members, key=lambda member: member.bits) for family, members in grouped.items()}


@lru_cache(maxsize=8)
def _read(folders: tuple[str, ...]) -> Mapping[str, CodecPreset]:
    declared: list[CodecPreset] = []
    lossless: set[str] = set()
    for file in (file for folder in folders for file in sorted(Path(folder).glob("*.py"))):
        for call in _calls_of_constants(file):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name == CodecPreset.__name__:
                declared.append(_preset(call, file))
            elif name == Codec.__name__ and any(word.arg == "lossless" for word in call.keywords):
                lossless.add(ast.literal_eval(call.args[0]))
    return {preset.name: preset for preset in declared if preset.codec not in lossless}


def _calls_of_constants(file: Path) -> Iterator[ast.Call]:
    """The calls in the values of a module's constants."""
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            yield from (node for node in ast.walk(statement) if isinstance(node, ast.Call))


def _preset(call: ast.Call, file: Path) -> CodecPreset:
    words = {word.arg: word.value for word in call.keywords}
    try:
        name, codec, bits = (ast.literal_eval(value) for value in call.args[:3])
        transform = ast.literal_eval(words["transform"]) if "transform" in words else None
    except ValueError as error:
        raise ConfigError(
            "a preset cannot be read without running its file",
            where=f"{file}:{call.lineno}",
            why=str(error),
            fix='write name, codec and bits as literals, in this order: CodecPreset("vptq 2", "vptq", 2.0, {…})',
        ) from error
    return CodecPreset(name, codec, bits, transform=transform)
