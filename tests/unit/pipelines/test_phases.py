"""The chain of the phases: found below components/, ordered by what each declares, and refused where it is no chain."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import components
from components.shared.phase_spec import Interface, PhaseSpec, Step
from components.shared.runtime.errors import ConfigError
from pipelines.phases import PHASES, SPECS, discovered, in_order

ROOT = Path(__file__).resolve().parents[3]


def spec(name, after=""):
    return PhaseSpec(name, "A phase.", after)


def test_the_order_follows_from_what_comes_after_what():
    assert list(in_order([spec("c", "b"), spec("a"), spec("b", "a")])) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("specs", "words"),
    [
        ([spec("a"), spec("a")], "two phases 'a'"),
        ([spec("a"), spec("b", "aa")], "comes after 'aa', which there is not.*did you mean a?"),
        ([spec("a"), spec("b", "a"), spec("c", "a")], 'phases b and c both come after a.*after="b"'),
        ([spec("a"), spec("b")], "phases a and b both come first"),
        ([spec("a"), spec("b", "c"), spec("c", "b")], "b, c come after one another in a circle"),
        ([spec("a", "a")], "in a circle"),
    ],
)
def test_what_is_no_chain_is_refused_by_name(specs, words):
    with pytest.raises(ConfigError, match=words):
        in_order(specs)


def test_every_folder_with_a_component_is_a_phase_and_there_are_no_others():
    assert {path.parent.name for path in ROOT.glob("components/*/component.py")} == set(PHASES)
    assert PHASES[0] == "cognate" and PHASES[-1] == "compression" and len(PHASES) == 8


def test_a_component_that_declares_nothing_is_refused(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").touch()
    (tmp_path / "empty" / "component.py").touch()
    monkeypatch.setattr(components, "__path__", [*components.__path__, str(tmp_path)])
    with pytest.raises(ConfigError, match=r'declares no PHASE.*PhaseSpec\(name="empty"'):
        discovered()
    for name in ("components.empty", "components.empty.component"):
        sys.modules.pop(name, None)


def test_the_chain_is_known_without_kfp_torch_and_hydra():
    code = "import sys, pipelines.phases, json; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert not {"kfp", "torch", "transformers", "numpy", "hydra", "pydantic"} & set(json.loads(loaded.stdout))


def test_a_phase_has_the_steps_that_its_containers_name():
    from components.cognate import component as cognate
    from components.evomerge import component as evomerge

    made = [
        cognate.trunk(2),
        cognate.VARIANT,
        evomerge.worker(2),
        evomerge.select(2, 2),
        evomerge.merge(2, 2),
    ]
    assert all(isinstance(one, Interface) and one.phase.step(one.step) for one in made)
    assert evomerge.PHASE.step("select") == Step("select", light=True)
    assert not evomerge.PHASE.step("worker").light


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("images/docker-bake.hcl", r'variable "PHASES" \{\s*default = \[(.*?)\]'),
        ("charts/agent-forge/templates/upload.yaml", r'range list "forge" (.*?) \}\}'),
        ("charts/agent-forge/values.schema.json", r'((?:"[a-z]+": \{"\$ref": "#/\$defs/digest"\},?\s*)+)'),
    ],
)
def test_what_cannot_look_names_the_phases_that_there_are(file, pattern):
    found = re.search(pattern, (ROOT / file).read_text(), re.DOTALL)
    assert found is not None
    assert set(re.findall(r'"([a-z_]+)"', found[1])) - {"forge", "control", "serve"} == set(PHASES)


def test_every_phase_has_its_defaults_and_no_other_file_is_there():
    assert {path.stem for path in (ROOT / "configs" / "phase").glob("*.yaml")} == set(SPECS)
