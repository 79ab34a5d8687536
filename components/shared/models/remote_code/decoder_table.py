"""The decoders that lie beside this file: decode_NAME.py reads the codes of a codec, transform_NAME.py undoes a transform.

In an artifact another file stands in the place of this one: a plain list of those that the artifact needs
(components/shared/models/travelling_code.py).
"""

import contextlib
import importlib
import pkgutil
import sys
from pathlib import Path

from . import slabs

DECODERS: dict = {}
TRANSFORMS: dict = {}
TABLES = {"decode_": DECODERS, "transform_": TRANSFORMS}
FOLDERS = sys.modules[__package__].__path__


def discover():
    """Fill the tables anew from all folders.

    :raises ValueError: two files have one name, or the codes of two decoders have one number.
    """
    files: dict[str, Path] = {}
    numbers: dict[int | str, Path] = {slabs.CODEC: Path(slabs.__file__)}
    for table in TABLES.values():
        table.clear()
    for folder in FOLDERS:
        for module in pkgutil.iter_modules([folder]):
            prefix = next((prefix for prefix in TABLES if module.name.startswith(prefix)), None)
            if prefix is None:
                continue
            file = Path(folder, f"{module.name}.py")
            if files.setdefault(module.name, file) != file:
                raise ValueError(f"two decoders have one name: {files[module.name]} and {file}")
            decoder = importlib.import_module(f".{module.name}", __package__)
            number = getattr(decoder, "CODEC", module.name)
            if numbers.setdefault(number, file) != file:
                raise ValueError(
                    f"the codes of two decoders have the number {number}: {numbers[number]} and {file}"
                )
            TABLES[prefix][module.name.removeprefix(prefix)] = decoder.decode


def current_spec(spec):
    """An entry of `config.storage` as it is written today.

    Older artifacts say all of it in one word: "slabs+hadamard+ectcq".

    :raises ValueError: it names a transform that is not known.
    """
    *frames, codec = spec["codec"].split("+")
    transform = spec.get("transform") or next((frame for frame in frames if frame != "slabs"), None)
    if transform is not None and transform not in TRANSFORMS:
        raise ValueError(f"unknown transform {transform!r}; known here: {', '.join(TRANSFORMS)}")
    slabs = {"slabs": True} if spec.get("slabs") or "slabs" in frames else {}
    return {**spec, "codec": codec, **({"transform": transform} if transform else {}), **slabs}


@contextlib.contextmanager
def extra_folder(folder):
    """Inside the block, decoders are looked for in this folder too."""
    FOLDERS.append(str(folder))
    try:
        discover()
        yield
    finally:
        FOLDERS.remove(str(folder))
        for module in pkgutil.iter_modules([str(folder)]):
            sys.modules.pop(f"{__package__}.{module.name}", None)
        discover()


discover()
