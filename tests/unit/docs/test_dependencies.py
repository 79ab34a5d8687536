"""The direction of imports, as pyproject's contracts state it: arrows downwards, no circle, no phase that knows another."""

from __future__ import annotations

import graphlib
from pathlib import Path

import grimp
import pytest
from importlinter.application.use_cases import create_report, read_user_options
from importlinter.cli import lint_imports

from pipelines.phases import PHASES

ROOT = Path(__file__).resolve().parents[3]
CONFIG = str(ROOT / "pyproject.toml")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("components", "pipelines", cache_dir=None, exclude_type_checking_imports=True)


def test_every_contract_on_imports_is_kept(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(CONFIG, no_cache=True, no_logo=True) == 0, capsys.readouterr().out


def test_no_module_imports_itself_by_way_of_others(graph):
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    list(graphlib.TopologicalSorter(imports).static_order())  # CycleError names the circle


def test_every_folder_with_python_files_is_a_package():
    """A folder without __init__.py is in no graph, and in no wheel."""
    folders = {file.parent for room in ("components", "pipelines") for file in (ROOT / room).rglob("*.py")}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()]


def test_the_components_are_the_phases_and_what_they_share(graph):
    """The contract between phases holds for all children of `components`: nothing else may live there."""
    assert graph.find_children("components") == {f"components.{name}" for name in (*PHASES, "shared")}


@pytest.mark.parametrize(
    "contract, importer, imported",
    [
        ("phases", "components.adas.svf", "components.baking.bake"),
        ("phases", "components.shared.tasks.item", "components.adas.svf"),
        ("below", "components.shared.image", "pipelines.phases"),
        ("kfp", "components.training.stage", "kfp"),
        ("light", "components.shared.container", "torch"),
        ("layers", "pipelines.phases", "pipelines.ir.spec"),
        ("layers", "pipelines.ir.spec", "pipelines.local.task"),
        ("circles", "components.shared.tasks.item", "components.shared.evaluation.suites"),
    ],
)
def test_an_import_that_breaks_a_contract_is_seen(contract, importer, imported, monkeypatch):
    monkeypatch.chdir(ROOT)
    real = grimp.build_graph

    def with_one_more(*arguments, **options):
        graph = real(*arguments, **options)
        graph.add_import(importer=importer, imported=imported, line_number=1, line_contents="")
        return graph

    monkeypatch.setattr(grimp, "build_graph", with_one_more)
    report = create_report(read_user_options(CONFIG), limit_to_contracts=(contract,), cache_dir=None)
    assert report.contains_failures
