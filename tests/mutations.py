"""How things are damaged: bytes, JSON and files, by a random number generator that the attempt's seed decides."""

from __future__ import annotations

import copy
import functools
import json
import os
import random
import shutil
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.shared.runtime.store.folder import FolderStore
from components.shared.runtime.store.interface import walk

VICIOUS: tuple[Any, ...] = (
    None, True, "", "\0", "..", "../../x", "/etc/passwd/x", "/proc/x", "\ud800", "a" * 300, "{{$}}", "${oc.env:HOME}",
    "s3://", "minio://", "://", "/", "NaN", "\n", "%s%n", -1, 0, 10**9, 10**18, 10**400, -(2**63), 0.1, 1e308, [], {},
    [[]], [None], {"": {}}, {"artifacts": None}, float("nan"), float("inf"),
)  # fmt: skip
"""Values that have broken programs."""


def value(rng: random.Random) -> Any:
    """Something that nobody expects where it comes."""
    return copy.deepcopy(rng.choice(VICIOUS)) if rng.random() < 0.8 else json_value(rng)


def json_value(rng: random.Random, depth: int = 3) -> Any:
    """Any JSON, not very deep."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: rng.choice((None, True, False)),
        lambda: rng.choice((1, -1)) * rng.getrandbits(rng.choice((3, 31, 70))),
        lambda: rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300),
        lambda: "".join(chr(rng.randrange(0x20, 0x3000)) for _ in range(rng.randrange(20))),
        lambda: [json_value(rng, depth - 1) for _ in range(rng.randrange(5))],
        lambda: {str(json_value(rng, 0)): json_value(rng, depth - 1) for _ in range(rng.randrange(5))},
    )
    return rng.choice(kinds if depth else kinds[:4])()


def texts(document: Any, seed: int, count: int) -> Iterator[str]:
    """So many JSON texts of mutated documents, the same ones for a seed; in some a few characters are changed, too."""
    rng = random.Random(seed)
    for _ in range(count):
        written = json.dumps(tree(document, rng))
        yield text(written, rng) if rng.random() < 0.2 else written


def nested(depth: int, inner: Any = None) -> Any:
    """Lists in lists, so deep."""
    return functools.reduce(lambda content, _: [content], range(depth), inner)


def tree(content: Any, rng: random.Random, times: int = 0) -> Any:
    """A copy of a JSON value with a few of its elements changed, removed, moved or doubled."""
    content = copy.deepcopy(content)
    for _ in range(times or rng.choice((1, 1, 1, 2, 4))):
        places = list(_places(content))
        if not places:
            return value(rng)
        parent, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del parent[key]
        elif kind == 1:
            other_parent, other_key = rng.choice(places)
            parent[key] = copy.deepcopy(other_parent[other_key])
        elif kind == 2 and isinstance(parent, dict):
            parent[str(value(rng))] = parent.pop(key)
        elif kind == 3 and isinstance(parent[key], str):
            parent[key] = text(parent[key], rng)
        elif kind == 4:
            parent[key] = nested(rng.choice((3, 200)), parent[key])
        else:
            parent[key] = value(rng)
    return content


def _places(content: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every element at any depth."""
    found, waiting = [], [content]
    while waiting:
        parent = waiting.pop()
        keys: Any = (
            parent if isinstance(parent, dict) else range(len(parent)) if isinstance(parent, list) else ()
        )
        for key in keys:
            found.append((parent, key))
            waiting.append(parent[key])
    return found


def text(content: str, rng: random.Random) -> str:
    """A text with characters changed, inserted, removed or doubled."""
    characters = list(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(characters) + 1)
        kind = rng.randrange(5)
        if kind == 0:
            del characters[at : at + rng.randint(1, 8)]
        elif kind == 1:
            characters[at:at] = rng.choice(
                ("{", "}", "[", "'", '"', "=", "~", "${", "..", "\0", "\n", "é", "\u2028")
            )
        elif kind == 2:
            characters[at:at] = characters[at : at + rng.randint(1, 40)]
        elif kind == 3:
            characters[at:at] = rng.choices(string.printable, k=rng.randint(1, 6))
        else:
            characters[at : at + 1] = [chr(rng.randrange(0x20, 0x3000))]
    return "".join(characters)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Other bytes than those given."""
    kinds: tuple[Callable[[bytes, random.Random], bytes], ...] = (
        _flip,
        _flip,
        _cut,
        _overwrite,
        _zero,
        _insert,
    )
    changed = data
    while changed == data:
        changed = rng.choice(kinds)(data, rng)
    return changed


def _flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.choice((0, rng.randrange(len(data) + 1), max(len(data) - 1, 0)))]


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at, length = rng.randrange(len(data) + 1), rng.randint(1, 64)
    return data[:at] + rng.randbytes(min(length, len(data) - at)) + data[at + length :]


def _zero(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + bytes(len(data) - at)


def _insert(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return (
        data[:at]
        + rng.choice((b"\0", b"\xff" * 16, b"[" * 100_000, b"9" * 5000, rng.randbytes(8)))
        + data[at:]
    )


def folder(path: Path, rng: random.Random) -> str:
    """Damage one thing in a folder; what was done."""
    names = sorted(name for name in walk(path) if not (path / name).is_symlink() and (path / name).is_file())
    name = rng.choice(names)
    file = path / name
    kind = rng.choice(
        ("bytes",) * 5 + ("json", "swap", "gone", "extra", "directory", "link", "loop", "fifo", "empty")
    )
    if kind == "bytes":
        replace(file, damaged(file.read_bytes(), rng))
    elif kind == "json":
        replace(
            file, rng.choice((b"[" * 100_000, b"null", b"[]", b"1", b'{"a":' * 5000, b"NaN", b'"\\ud800"'))
        )
    elif kind == "swap":
        other = path / rng.choice(names)
        one, two = file.read_bytes(), other.read_bytes()
        replace(file, two)
        replace(other, one)
        name += f" and {other.relative_to(path)}"
    elif kind == "extra":
        name = rng.choice(
            ("extra.txt", "model.bin", ".hidden", ".forge-partial-0", "forge.lock", "sub/file", "a\nb")
        )
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text("{}")
    elif kind == "empty":
        replace(file, b"")
    else:
        file.unlink()
        if kind == "directory":
            file.mkdir()
        elif kind == "link":
            file.symlink_to(rng.choice(("/nowhere", "/etc/passwd", "..", "/proc/self/mem")))
        elif kind == "loop":
            file.symlink_to(file.name)
        elif kind == "fifo":
            os.mkfifo(file)
    return f"{kind} of {name}"


def replace(path: Path, data: bytes) -> None:
    """Other content under the same name. A file of its own: what is linked to it elsewhere stays."""
    FolderStore(path.parent).put(path.name, data)


def unlinked(source: Path, target: Path) -> Path:
    """A copy of a folder with files of its own."""
    shutil.copytree(source, target, symlinks=True)
    return target
