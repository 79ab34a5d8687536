"""What a configuration calls a model: a folder, a name of the hub, one of them with a LoRA (`model+lora`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.base_models.address import HUB_NAME
from components.shared.runtime.errors import ForgeError

from .reader import Reader


@dataclass(frozen=True)
class NamedModel:
    """A model of a configuration: its folder, and that of the LoRA that is added to it."""

    folder: Path
    lora: Path | None = None


class ModelNames:
    """Finds the folders of the names in one file.

    :param reader: of the file.
    :param made: the folders of what earlier documents of the file made, by their names.
    """

    def __init__(self, reader: Reader, made: Mapping[str, Path]) -> None:
        self.reader, self.made = reader, made

    def model(self, value: Any) -> NamedModel:
        """A model, in short (`folder`, `owner/name@revision`, `model+lora`) or at length.

        :raises ConfigError: it is none, or is not to be had.
        """
        if isinstance(value, dict):
            content = self.reader.mapping(value, "model", ("model", "lora", "path", "revision"))
            if "path" in content:
                return NamedModel(self.folder(self._spelled(content)))
            lora = content.get("lora")
            return NamedModel(
                self.folder(self._spelled(content.get("model"))),
                None if lora is None else self.folder(self._spelled(lora)),
            )
        if not isinstance(value, str) or not value or value.count("+") > 1:
            raise self.reader.refuse(
                "a model must be a folder, a name of the hub, or one of them + a LoRA", why=f"it is {value!r}"
            )
        model, _, adapter = value.partition("+")
        return NamedModel(self.folder(model), self.folder(adapter) if adapter else None)

    def _spelled(self, value: Any) -> str:
        content = (
            self.reader.mapping(value, "model", ("path", "revision"))
            if isinstance(value, dict)
            else {"path": value}
        )
        name, revision = content.get("path"), content.get("revision")
        if not isinstance(name, str):
            raise self.reader.refuse("a model must have a path", why=f"it is {value!r}")
        return f"{name}@{revision}" if revision else name

    def folder(self, text: str) -> Path:
        """The folder of a name: made before, beside the file, under the current folder, or a model of the hub.

        :raises ConfigError: it is nowhere.
        """
        name, _, revision = text.strip().partition("@")
        if name in self.made:
            return self.made[name]
        for parent in (self.reader.path.parent, Path.cwd()):
            if (parent / name).is_dir():
                return parent / name
        if revision or HUB_NAME.fullmatch(name):
            return self._from_hub(name, revision or None)
        raise self.reader.refuse(
            f"there is no folder {name}",
            fix="correct the path, or download the model first: hf download NAME --local-dir FOLDER",
        )

    def _from_hub(self, name: str, revision: str | None) -> Path:
        """The model's folder in the hub's cache, fetched where it is not there.

        :raises ConfigError: it is not to be had.
        """
        from components.shared.base_models import hub
        from components.shared.base_models.address import Address

        try:
            return hub.fetch(Address("hub", name, revision or "")).folder
        except ForgeError as error:
            raise self.reader.refuse(
                f"there is no folder {name}, and the hub does not give it",
                why=f"{error.what}: {error.why}",
                fix=error.fix,
            ) from error
