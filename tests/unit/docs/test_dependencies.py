"""The rule of docs/ARCHITECTURE.md: pipelines → components.<phase> → components.shared, and kfp in one file."""

import ast
from pathlib import Path

from pipelines.phases import PHASES

ROOT = Path(__file__).resolve().parents[3]
INTERFACES = ("container.py",)


def imports(file):
    """What a file imports, in full: `components.shared.runtime.code.VERSION`."""
    package = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def found(folder, forbidden):
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(file)
        if forbidden(file, name.split("."))
    ]


def test_nothing_below_components_imports_the_pipelines():
    assert not found("components", lambda _, name: name[0] == "pipelines")


def test_no_phase_imports_another():
    for phase in PHASES:
        others = set(PHASES) - {phase}
        assert not found(
            f"components/{phase}", lambda _, name, o=others: name[0] == "components" and name[1] in o
        )


def test_what_is_shared_imports_no_phase():
    assert not found("components/shared", lambda _, name: name[0] == "components" and name[1] in PHASES)


def test_kfp_is_imported_below_components_where_interfaces_become_its_components_alone():
    assert not found("components", lambda file, name: name[0] == "kfp" and file.name not in INTERFACES)
