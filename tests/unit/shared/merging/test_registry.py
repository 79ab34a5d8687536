"""The registry: a method in a folder of its own is searched, streamed and in the help; what is wrong with one is said."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from components.evomerge.evaluation.genome_merger import GenomeMerger, ParentTensors
from components.evomerge.search.generation_zero import generation_zero
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.evomerge.settings import Settings
from components.shared.merging.mergekit.configuration import parse
from components.shared.merging.registry import FOLDERS, families, merge_method, merge_methods
from components.shared.runtime.config.compose import compose
from components.shared.runtime.errors import ConfigError
from pipelines.cli import app
from tests.unit.shared.merging.mergekit_cases import write_models

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "add-a-merge-method.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of methods with the file of docs/add-a-merge-method.md."""
    example = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    methods = tmp_path / "methods"
    methods.mkdir()
    (methods / "consensus.py").write_text(example[1], encoding="utf-8")
    monkeypatch.setenv(FOLDERS, str(methods))
    return methods


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_models(tmp_path / "models", half=False)
    return tmp_path / "models"


def test_a_method_in_a_folder_is_in_the_search(folder: Path, models: Path) -> None:
    overrides = ["evomerge.methods=[linear,consensus]"]
    settings = compose("evomerge", Settings, profile="tiny", overrides=overrides).settings
    assert "consensus" in Settings.model_fields["methods"].get_default(call_default_factory=True)
    space = SearchSpace(parents=3, groups=2, methods=settings.methods)
    genomes = dict(generation_zero(space))
    assert genomes["static consensus"].method == "consensus"
    states = {path.name: load_file(path / "model.safetensors") for path in models.iterdir()}
    base = states.pop("base")
    merger = GenomeMerger(ParentTensors(list(states.values()), base), space, layer_groups=1, seed=0)
    genome = Genome("consensus", ((1, 1, 1), (1, 2, 1)), scales=(30, 30))
    assert space.canonical(genome) == genome
    merged = dict(merger.merged(genome))
    for name in ("model.layers.1.mlp.down_proj.weight", "model.layers.0.input_layernorm.weight"):
        mean = torch.stack([state[name] - base[name] for state in states.values()]).mean(0)
        torch.testing.assert_close(merged[name], base[name] + 1.5 * mean)  # of three, two always agree


def test_a_method_in_a_folder_is_streamed_and_read_from_a_mergekit_configuration(
    folder: Path, models: Path, tmp_path: Path
) -> None:
    arguments = [
        "merge",
        "--method",
        "consensus",
        "--base",
        str(models / "base"),
        "-o",
        str(tmp_path / "out"),
    ]
    for name in ("one", "two", "three"):
        arguments += ["-m", str(models / name)]
    result = CliRunner().invoke(app, [*arguments, "--agreement", "1", "--lambda", "1"])
    assert result.exit_code == 0, result.output
    merged = load_file(tmp_path / "out" / "model.safetensors")
    states = {path.name: load_file(path / "model.safetensors") for path in models.iterdir()}
    base = states.pop("base")
    for name, tensor in merged.items():
        tasks = torch.stack([state[name] - base[name] for state in states.values()])
        expected = base[name] + tasks.mean(0) * (tasks.sign().sum(0).abs() == 3)
        torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
    (models / "recipe.yml").write_text(
        "merge_method: consensus\nbase_model: base\nparameters: {agreement: 0.75, weight: 1}\n"
        "models: [{model: one}, {model: two}]\n"
    )
    recipe = parse(models / "recipe.yml")
    assert recipe.parameters["agreement"] == 0.75
    result = CliRunner().invoke(app, [*arguments, "--agreement", "0.3"])
    assert result.exit_code == 6 and "agreement is 0.3" in result.output
    result = CliRunner().invoke(
        app, [*arguments, "--agreement", "0.7", "--agreement", "0.8", "--agreement", "0.9"]
    )
    assert result.exit_code == 6 and "one number for all models" in result.output


def test_a_method_in_a_folder_is_in_the_help(folder: Path) -> None:
    text = CliRunner().invoke(app, ["merge", "--help"]).output
    assert re.search(r"consensus +what most models change in the same direction", text)
    assert re.search(r"--agreement NUMBER +The share of models that must agree \(consensus\)\.", text)
    listed = CliRunner().invoke(app, ["merge", "methods", "consensus"]).output
    assert "at least 0.5 and at most 1, default 0.6" in listed and str(folder / "consensus.py") in listed


def test_every_method_is_listed_and_so_are_its_parameters() -> None:
    text = CliRunner().invoke(app, ["merge", "methods"]).output
    assert all(f"{name}: {method.pretty_name}" in text for name, method in merge_methods().items())
    refusal = CliRunner().invoke(app, ["merge", "methods", "tise"])
    assert refusal.exit_code == 2 and "did you mean ties" in refusal.output


def test_an_unknown_name_is_refused_with_those_that_look_like_it() -> None:
    with pytest.raises(ConfigError, match="did you mean ties"):
        merge_method("tise")
    with pytest.raises(ConfigError, match="did you mean della"):
        compose("evomerge", Settings, profile="tiny", overrides=["evomerge.methods=[dela]"])


def test_a_name_that_is_declared_twice_is_refused_with_both_files(folder: Path) -> None:
    (folder / "other.py").write_text(
        '@merge_method("ties", pretty_name="", paper="", summary="")\ndef merge(inputs, parameters): ...\n'
    )
    with pytest.raises(ConfigError, match=r"ties is declared twice.*other\.py.*task_vectors/ties\.py"):
        merge_methods()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('@merge_method("a", pretty_name="", paper="", summary=help_of("a"))', "help_of"),
        ('@merge_method("a", pretty_name="", paper="")', "summary"),
        ('@merge_method("a", pretty_name="", paper="", summary="", colour=1)', "colour"),
    ],
)
def test_a_declaration_that_cannot_be_read_is_refused(folder: Path, text: str, message: str) -> None:
    (folder / "other.py").write_text(f"{text}\ndef merge(inputs, parameters): ...\n")
    with pytest.raises(ConfigError, match=rf"cannot be read.*other\.py:1.*{message}"):
        merge_methods()


def test_a_folder_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDERS, "/nowhere")
    with pytest.raises(ConfigError, match="no such folder"):
        merge_methods()


def test_declarations_and_help_need_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli import app; "
        "assert 'ties' in CliRunner().invoke(app, ['merge', '--help']).output; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", merge_methods())
def test_a_declaration_is_what_the_file_says_when_it_runs(name: str) -> None:
    method = merge_methods()[name]
    implementation = method.implementation
    assert implementation.function.__name__ == method.function
    assert method.paper.startswith("https://") and method.pretty_name and method.summary
    assert families({name: method})


def test_the_list_of_papers_leads_to_every_file() -> None:
    text = (ROOT / "docs" / "merge-methods.md").read_text(encoding="utf-8")
    for name, method in merge_methods().items():
        path = method.source.relative_to(ROOT)
        assert re.search(
            rf"^\| `{name}` \| .*{re.escape(method.paper)}.*\(\.\./{path}\)", text, re.MULTILINE
        ), name
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", text + PAGE):
        assert (ROOT / "docs" / link).exists(), link
