"""The modelling code that travels inside an artifact: those files of remote_code/ that its model needs, and no more."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import ArtifactError
from components.shared.runtime.wording import did_you_mean

from .remote_code import decoder_table
from .remote_code.decoders import decoder

TABLE = "decoder_table"


def decoder_files(spec: Mapping[str, Any]) -> set[str]:
    """What the travelling code must hold to read a code, by its entry in `config.storage`: modules, and marks of lines."""
    spec = decoder_table.current_spec(spec)
    transform = {"transform", f"transform_{spec['transform']}"} if "transform" in spec else set()
    return {f"decode_{spec['codec']}"} | transform | ({"slabs"} if "slabs" in spec else set())


def require_known_codes(storage: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Refuse a model of which a code cannot be read here.

    :param storage: `config.storage`: module path → how its weight is stored.
    :raises ArtifactError: a codec or a transform is unknown; it says which, and of which module.
    """
    for path, spec in storage.items():
        try:
            decoder(spec)
        except ValueError as error:
            known = sorted({*decoder_table.DECODERS, *decoder_table.TRANSFORMS})
            raise ArtifactError(
                f"the weight of {path} is a code that cannot be read here",
                where=str(folder),
                why=str(error),
                fix=f"{did_you_mean(str(spec['codec']), known)}; or load it with the code inside it, in plain transformers",
            ) from error


def travelling_code(entry: str, needs: set[str]) -> dict[str, str]:
    """The files that `entry` imports, transitively: module name → source.

    A line that ends in `# if NAME` is left out unless NAME is in `needs`: `# if project` never travels. The table of
    decoders lists those that are named there, by their modules: decode_NAME, transform_NAME.
    """
    sources: dict[str, str] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in sources:
            continue
        lines = _source(name).splitlines(keepends=True)
        travelling = [
            line for line in lines if not (mark := re.search(r"# if (\w+)$", line)) or mark[1] in needs
        ]
        sources[name] = _table(needs) if name == TABLE else "".join(travelling)
        waiting += re.findall(r"^\s*from \.(\w+) import", sources[name], flags=re.MULTILINE)
    return sources


def _source(module: str) -> str:
    """The text of a file of remote_code/, or of a folder that was added to it."""
    files = (Path(folder, f"{module}.py") for folder in decoder_table.FOLDERS)
    return next(file for file in files if file.is_file()).read_text()


def _table(needs: set[str]) -> str:
    """The text of decoder_table.py in an artifact: transformers follows imports that it can read in the text."""
    text = '"""The decoders that the weights of this model need."""\n\n'
    tables = ""
    for prefix, name in (("decode_", "DECODERS"), ("transform_", "TRANSFORMS")):
        modules = sorted(module for module in needs if module.startswith(prefix))
        if not modules:
            continue
        text += "".join(f"from .{module} import decode as {module}\n" for module in modules)
        entries = ", ".join(f'"{module.removeprefix(prefix)}": {module}' for module in modules)
        tables += f"{name} = {{{entries}}}\n"
    return f"{text}\n{tables}"
