"""All merge methods there are: every file below `methods/` is read for functions under `@merge_method`.

The files are parsed, not run: a declaration's arguments are evaluated with the names of method.py, and the constants of the
file that are written with them. That takes some milliseconds and no torch. Further folders may be named in
FORGE_MERGE_METHODS, separated as in PATH.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from . import method as declaration
from .method import MergeMethod, Parameter

BUILT_IN = Path(__file__).with_name("methods")
FOLDERS = "FORGE_MERGE_METHODS"
DECORATOR = "merge_method"


def merge_methods() -> Mapping[str, MergeMethod]:
    """Every method by its name: ours by family and file, then those of further folders.

    :raises ConfigError: a folder that does not exist, a declaration that cannot be read, a name declared twice.
    """
    return _read_all((BUILT_IN, *map(Path, filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)))))


def merge_method(name: str) -> MergeMethod:
    """The method of this name.

    :raises ConfigError: there is none.
    """
    methods = merge_methods()
    if name not in methods:
        raise ConfigError(
            f"there is no merge method {name!r}", where="merge method", fix=did_you_mean(name, list(methods))
        )
    return methods[name]


def streamed_methods() -> dict[str, MergeMethod]:
    """Those that merge whole models from file to file."""
    return {name: method for name, method in merge_methods().items() if method.streamed}


def parameters_of(methods: Mapping[str, MergeMethod]) -> dict[str, tuple[Parameter, list[str]]]:
    """Every parameter of these methods, and the names of the methods that read it."""
    readers: dict[str, tuple[Parameter, list[str]]] = {}
    for name, method in methods.items():
        for parameter in method.parameters:
            readers.setdefault(parameter.name, (parameter, []))[1].append(name)
    return readers


def families(methods: Mapping[str, MergeMethod]) -> dict[str, list[MergeMethod]]:
    """Methods by the folder of their file; the key is what the folder's docstring says of them."""
    families: dict[str, list[MergeMethod]] = {}
    for method in methods.values():
        families.setdefault(_family(method.source.parent), []).append(method)
    return families


@lru_cache
def _family(folder: Path) -> str:
    package = folder / "__init__.py"
    if not package.is_file():
        return str(folder)
    return (ast.get_docstring(ast.parse(package.read_text(encoding="utf-8"))) or folder.name).partition("\n")[
        0
    ]


@lru_cache
def _read_all(folders: tuple[Path, ...]) -> Mapping[str, MergeMethod]:
    methods: dict[str, MergeMethod] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(
                "there is no such folder of merge methods",
                where=str(folder),
                fix=f"correct the variable {FOLDERS}",
            )
        for file in sorted(folder.rglob("*.py")):
            for method in _read(file):
                if method.name in methods:
                    raise ConfigError(
                        f"the merge method {method.name} is declared twice",
                        where=str(method.source),
                        why=f"{methods[method.name].source} declares it too",
                        fix="give one of them another name",
                    )
                methods[method.name] = method
    return MappingProxyType(methods)


def _read(file: Path) -> Iterator[MergeMethod]:
    """The declarations of a file, from above."""
    text = file.read_text(encoding="utf-8")
    if DECORATOR not in text:
        return
    try:
        tree = ast.parse(text, str(file))
    except SyntaxError as error:
        raise ConfigError(
            "a file of merge methods is no Python", where=str(file), why=str(error), fix="correct the file"
        ) from error
    calls = [
        (decorator, getattr(node, "name", ""))
        for node in tree.body
        for decorator in getattr(node, "decorator_list", ())
        if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == DECORATOR
    ]
    names = {node.id for call, _ in calls for node in ast.walk(call) if isinstance(node, ast.Name)}
    constants = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and names & {getattr(target, "id", "") for target in node.targets}
    ]
    for call, function in calls:
        yield _declared(call, constants, file, function)


def _declared(call: ast.Call, constants: list[ast.Assign], file: Path, function: str) -> MergeMethod:
    """What a decorator says, without its function. constants: the assignments of the file that it uses."""
    module = ""
    if file.is_relative_to(BUILT_IN):
        module = ".".join((f"{__package__}.methods", *file.relative_to(BUILT_IN).with_suffix("").parts))

    def declared(name: str, *, parameters: tuple[Parameter, ...] = (), **fields: Any) -> MergeMethod:
        return MergeMethod(
            name, parameters=tuple(parameters), source=file, function=function, module=module, **fields
        )

    keywords = [keyword for keyword in call.keywords if keyword.arg != "survey"]
    expression = ast.Call(ast.Name("declared", ast.Load()), call.args, keywords)
    statements: list[ast.stmt] = [*constants, ast.Assign([ast.Name("method", ast.Store())], expression)]
    names: dict[str, Any] = {**vars(declaration), "declared": declared}
    try:
        exec(compile(ast.fix_missing_locations(ast.Module(statements, [])), str(file), "exec"), names)
    except Exception as error:
        raise ConfigError(
            "the declaration of a merge method cannot be read",
            where=f"{file}:{call.lineno}",
            why=str(error),
            fix=f"write it with literals and the names of {declaration.__name__}",
        ) from error
    method: MergeMethod = names["method"]
    return method
