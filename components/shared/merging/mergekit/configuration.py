"""A mergekit configuration read as a recipe. What has no counterpart here is refused by name.

The format is mergekit 0.1.5's: merge_method, models or slices, base_model, parameters (numbers, rows of numbers along
the layers, or lists of {filter, value}), dtype, out_dtype, tokenizer or tokenizer_source, chat_template. The numbers
mean the same; densities are of each tensor. What differs: sums are float32 whatever the dtype, an election that ends in
a tie elects nobody, and DARE and DELLA rescale by the keep probability, as in their papers, not by the L1 norm that was
lost. Where DELLA's density leaves no room for its epsilon, that gives way. A file of several documents is a chain of
merges: those with a name are made first, and later ones call them by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from ..method import MergeMethod
from ..registry import merge_methods, streamed_methods
from ..streaming.recipe import Recipe
from .model_names import ModelNames
from .reader import Reader, with_defaults
from .sources import Sources
from .vocabularies import tokenizer_of

TOP = (
    "merge_method", "models", "slices", "modules", "base_model", "parameters", "dtype", "out_dtype", "tokenizer",
    "tokenizer_source", "chat_template", "name",
)  # fmt: skip


@dataclass(frozen=True)
class Document:
    """One merge of a file. name: by which later documents call what it makes; "" for the last of them."""

    reader: Reader
    content: dict[str, Any]

    @property
    def name(self) -> str:
        """By which later documents call what it makes; "" where it has none."""
        return str(self.content.get("name") or "")

    def recipe(self, made: Mapping[str, Path], *, seed: int = 0) -> Recipe:
        """Read it.

        :param made: the folders of earlier documents, by their names.
        :param seed: of random masks.
        :raises ConfigError: a key is unknown, missing or not supported.
        """
        return _recipe(self.reader, self.content, made, seed)


def documents(path: Path) -> list[Document]:
    """The merges of a file, in the order in which they are to be made; the last one is what the file is for.

    :raises ConfigError: the file cannot be read, a name is there twice, or more than one document has none.
    """
    try:
        contents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            "the configuration cannot be read",
            where=str(path),
            why=str(error),
            fix="give a YAML file of mergekit's",
        ) from error
    reader = Reader(path)
    found = [
        Document(Reader(path), reader.mapping(content, "the file"))
        for content in contents
        if content is not None
    ]
    if not found:
        raise reader.refuse("the configuration is empty")
    names = [document.name for document in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise reader.refuse(f"two documents have the name {twice}")
    if names.count("") > 1:
        raise reader.refuse(
            "more than one document has no name",
            "give all but the last one a name: it is what others call it by",
        )
    return _ordered(reader, found)


def parse(path: Path, *, seed: int = 0) -> Recipe:
    """The recipe of a file of one document. Models are folders, or names of the hub.

    :param path: of a YAML file.
    :param seed: of random masks.
    :raises ConfigError: naming the key that is unknown, missing or not supported.
    """
    found = documents(path)
    if len(found) > 1:
        raise found[0].reader.refuse(
            f"the file has {len(found)} documents", "forge merge --config makes one after the other"
        )
    return found[0].recipe({}, seed=seed)


def _ordered(reader: Reader, found: list[Document]) -> list[Document]:
    """Every document after those that it needs; the one without a name, or that none needs, at the end."""
    names = {document.name for document in found if document.name}
    needs = {id(document): names & _words(document.content) - {document.name} for document in found}
    ordered: list[Document] = []
    waiting = sorted(found, key=lambda document: not document.name)
    while waiting:
        done = {document.name for document in ordered}
        ready = next((document for document in waiting if needs[id(document)] <= done), None)
        if ready is None:
            raise reader.refuse(
                "the documents need each other", why=", ".join(d.name or "the last" for d in waiting)
            )
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def _words(value: Any) -> set[str]:
    """Everything that may be a model's name."""
    if isinstance(value, dict):
        return set().union(*(_words(entry) for entry in value.values()))
    if isinstance(value, list):
        return set().union(*(_words(entry) for entry in value))
    return {value.split("+")[0].split("@")[0]} if isinstance(value, str) else set()


def _recipe(reader: Reader, content: dict[str, Any], made: Mapping[str, Path], seed: int) -> Recipe:
    for key in content:
        if key not in TOP:
            raise reader.refuse(f"the key {key} is not supported", f"supported are {', '.join(TOP)}")
    method = _method(reader, content.get("merge_method"))
    content = _single_module(reader, content)
    if ("models" in content) == ("slices" in content):
        raise reader.refuse("there must be either models or slices")
    names = ModelNames(reader, made)
    base = None if content.get("base_model") is None else names.model(content["base_model"])
    if base is not None and base.lora is not None:
        raise reader.refuse(
            "a base_model with a LoRA is not supported", "merge it into its model in a document of its own"
        )
    shared = reader.parameters(content.get("parameters"), method)
    sources = Sources(reader, names, method, base)
    models, blocks, parameters = sources.read(content, shared)
    return Recipe(
        method.name, models, None if base is None or method.base == "unused" else base.folder,
        with_defaults(parameters, method), blocks, dtype=_dtype(content), seed=seed, trim="tensor",
        tokenizer=tokenizer_of(reader, names, content, base), notes=tuple(reader.notes),
    )  # fmt: skip


def _single_module(reader: Reader, content: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose `modules` are one, which is the whole model."""
    modules = reader.mapping(content.get("modules"), "modules")
    if not modules:
        return content
    if len(modules) > 1 or "models" in content or "slices" in content:
        raise reader.refuse(
            "models of several modules are not supported",
            "merge models that are one text model",
            ", ".join(modules),
        )
    module = reader.mapping(next(iter(modules.values())), "a module", ("models", "slices", "parameters"))
    both = {
        **reader.mapping(content.get("parameters"), "parameters"),
        **reader.mapping(module.get("parameters"), "parameters"),
    }
    return {**content, **module, "parameters": both}


def _method(reader: Reader, name: Any) -> MergeMethod:
    """The method of a configuration, where it means here what it means to mergekit.

    :raises ConfigError: there is no such method, or it differs from mergekit's.
    """
    method = merge_methods().get(str(name))
    if method is not None and method.mergekit_differs:
        raise reader.refuse(
            f"mergekit's {name} is not supported", f"forge merge --method {name}", method.mergekit_differs
        )
    readable = [known for known, other in streamed_methods().items() if not other.mergekit_differs]
    if method is None or method.name not in readable:
        raise reader.refuse(f"the method {name} is not supported", did_you_mean(str(name), readable))
    return method


def _dtype(content: dict[str, Any]) -> str:
    """Of the merged file, "" where nothing is said."""
    return str(content.get("out_dtype") or content.get("dtype") or "").removeprefix("torch.")
