"""The files that images are made by: linted, in step with the components, and fetching nothing without a hash."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from components.shared.image import image
from components.shared.runtime.code import VERSION
from pipelines.phases import PHASES
from tests import needs

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "images"
LOCKS = IMAGES / "locks"
DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile"))
PACKAGE = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)


def program(name):
    """A program beside this Python, or on the path; the test ends where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    return found or needs.lacks(f"{name} is not installed")


def done(*command):
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name):
    return {
        normal(package): version for package, version in PACKAGE.findall((LOCKS / f"{name}.txt").read_text())
    }


def required(requirements):
    return {normal(re.split(r"[\[>=<~! ]", text)[0]) for text in requirements}


def test_hadolint_has_nothing_to_say_about_a_dockerfile():
    done(program("hadolint"), *map(str, DOCKERFILES))


def test_shellcheck_has_nothing_to_say_about_the_scripts():
    done(program("shellcheck"), "--external-sources", *map(str, sorted(IMAGES.glob("*.sh"))))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_a_dockerfile_keeps_to_what_buildah_and_buildkit_both_read(path):
    text = path.read_text()
    assert not re.search(r"<<-?['\"]?[A-Z]|--link|^# *syntax=", text, re.MULTILINE)


@pytest.mark.parametrize("name", ["base", "runtime", "phase", "forge", "control"])
def test_every_package_is_installed_by_hash_but_the_cpu_build_of_torch(name):
    text = re.sub(r"\\\n", " ", (IMAGES / name / "Dockerfile").read_text())
    for install in re.findall(r"pip install[^&;]*", text):
        assert "--require-hashes" in install or "--no-deps --default-index" in install


@pytest.mark.parametrize("name", ["phase", "torch-cuda", "forge", "control", "build"])
def test_every_entry_of_a_lock_has_hashes_and_the_version_of_the_environment(name):
    entries = re.split(r"\n(?=[a-z])", (LOCKS / f"{name}.txt").read_text())[1:]
    assert entries and all("--hash=sha256:" in entry for entry in entries)
    environment = {
        normal(package): version
        for package, version in PACKAGE.findall((ROOT / "requirements.lock").read_text())
    }
    differing = {
        package for package, version in locked(name).items() if environment.get(package, version) != version
    }
    assert not differing, "run: make lock"


@pytest.mark.parametrize("names", [("phase", "torch-cuda"), ("forge",), ("control",)], ids="+".join)
def test_what_a_package_requires_on_linux_is_in_the_lock_too(names):
    there = {package for name in names for package in locked(name)}
    missing = set()
    for package in there & {normal(one.metadata["Name"]) for one in metadata.distributions()}:
        for requirement in map(Requirement, metadata.requires(package) or []):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if needed and normal(requirement.name) not in there:
                missing.add(f"{package} needs {requirement.name}")
    assert not missing


def test_a_phase_carries_what_the_project_depends_on_and_no_pipeline_tools():
    wanted = required(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    assert wanted <= {*locked("phase"), *locked("torch-cuda")}, "run: make lock"
    assert not {"kfp", "mlflow", "pytest"} & set(locked("phase"))
    assert "kubernetes" in locked("phase")  # a phase's pod makes the job that carries its ranks over pods


def test_the_forge_image_carries_dependencies_of_the_project_and_no_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = required(project["dependencies"] + project["optional-dependencies"]["pipelines"])
    wanted = required(
        line for line in (LOCKS / "forge.in").read_text().splitlines() if not line.startswith("#")
    )
    assert wanted <= known
    assert wanted <= set(locked("forge")), "run: make lock"
    assert "torch" not in locked("forge")


def test_the_image_of_the_control_plane_carries_what_it_depends_on_and_no_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = required(
        line for line in (LOCKS / "control.in").read_text().splitlines() if not line.startswith("#")
    )
    control = required(extras["control"]) - {"agent-forge"}
    assert control <= wanted <= required(project["dependencies"] + extras["pipelines"]) | control
    assert wanted <= set(locked("control")), "run: make lock"
    assert not {"torch", "transformers", "pytest"} & set(locked("control"))


def test_what_is_sent_to_the_builder_has_the_built_page_and_not_what_builds_it():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    page = "pipelines/control/dashboard"
    assert lines.index("!pipelines") < lines.index(f"{page}/*") < lines.index(f"!{page}/dist")


def test_torch_from_another_index_has_the_version_of_the_lock():
    [version] = re.findall(r"ARG TORCH_VERSION=(\S+)", (IMAGES / "runtime" / "Dockerfile").read_text())
    assert version == locked("torch-cuda")["torch"]


@pytest.fixture(scope="module")
def baked():
    """What BuildKit would build, by its own reading of the bake file: (release or not) → targets by name."""
    if shutil.which("buildx"):
        command = ["buildx"]
    elif (
        shutil.which("docker")
        and subprocess.run(["docker", "buildx", "version"], capture_output=True).returncode == 0
    ):
        command = ["docker", "buildx"]
    else:
        needs.lacks("neither buildx nor docker with buildx is installed")

    def read(target="", **settings):
        environment = [f"{name}={value}" for name, value in settings.items()]
        targets = [target or ("all" if "RELEASE" in settings else "default")]
        bake = [*command, "bake", "--file", "images/docker-bake.hcl", "--print", *targets]
        return json.loads(done("env", *environment, *bake))["target"]

    return read


def test_the_bake_file_builds_the_image_of_every_component_under_the_name_that_components_have(baked):
    targets = baked()
    folders = {path.parent.name for path in (ROOT / "components").glob("*/component.py")}
    assert folders == set(PHASES)
    assert set(targets) == {"base", "runtime-cuda", "forge", *(f"{phase}-cuda" for phase in PHASES)}
    for name in (*PHASES, "forge"):
        target = targets[name if name == "forge" else f"{name}-cuda"]
        assert f"localhost/agent-forge/{name}:{VERSION}" in target["tags"]
        assert target["args"]["VERSION"] == VERSION and (ROOT / target["dockerfile"]).is_file()
    assert image("bitnet").split(":")[0].rsplit("/", 1)[1] == "bitnet"


def test_the_control_plane_is_one_recipe_on_two_images(baked):
    targets = baked(target="control")
    assert {"control", "controller-cuda"} <= set(targets)
    for name, base in (("control", "base"), ("controller-cuda", "runtime-cuda")):
        assert targets[name]["dockerfile"] == "images/control/Dockerfile"
        assert targets[name]["contexts"] == {"base": f"target:{base}"}
        assert f"localhost/agent-forge/{name.removesuffix('-cuda')}:{VERSION}" in targets[name]["tags"]


def test_each_phase_stands_on_the_runtime_of_its_variant(baked):
    targets = baked(RELEASE="true")
    for phase in PHASES:
        for variant in ("cuda", "cpu"):
            target = targets[f"{phase}-{variant}"]
            assert target["args"]["PHASE"] == phase
            assert target["contexts"] == {"runtime": f"target:runtime-{variant}"}
            assert targets[f"runtime-{variant}"]["args"]["VARIANT"] == variant


def test_the_cpu_variant_can_carry_the_plain_tag_here_but_not_in_a_release(baked):
    plain = f"localhost/agent-forge/adas:{VERSION}"
    assert plain in baked(VARIANT="cpu")["adas-cpu"]["tags"]
    released = baked(VARIANT="cpu", RELEASE="true")
    assert plain in released["adas-cuda"]["tags"] and plain not in released["adas-cpu"]["tags"]


def test_a_release_is_for_two_architectures_with_provenance_and_sbom(baked):
    for name, target in baked(RELEASE="true").items():
        assert target["platforms"] == ["linux/amd64", "linux/arm64"], name
        assert {one["type"] for one in target["attest"]} == {"provenance", "sbom"}, name


WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def test_actionlint_has_nothing_to_say_about_the_release_workflow():
    done(program("actionlint"), str(WORKFLOW))


def test_the_release_workflow_is_one_by_githubs_schema():
    done(program("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(WORKFLOW))


def test_every_action_of_the_release_is_pinned_by_commit():
    uses = re.findall(r"uses: (\S+)", WORKFLOW.read_text())
    assert uses and all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one) for one in uses)


def test_nothing_is_released_before_the_tests_have_passed():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    needed = {name: job.get("needs", []) for name, job in jobs.items()}
    needed = {name: {one} if isinstance(one, str) else {*one} for name, one in needed.items()}
    tests = {name for name, job in jobs.items() if "make test" in [step.get("run") for step in job["steps"]]}
    assert tests == {"tests"} and not needed["tests"]

    def waits(name):
        return bool(needed[name] & tests) or any(waits(other) for other in needed[name])

    assert [name for name in jobs if name != "tests" and not waits(name)] == []
    for name, job in jobs.items():
        assert not job.get("continue-on-error") and "if" not in job, name
