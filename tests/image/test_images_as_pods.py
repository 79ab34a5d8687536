"""The built images, run by podman as pods of a restricted namespace are run. `make images-test` asks for these tests."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from components.shared.image import image
from components.shared.runtime.code import VERSION, code_version
from pipelines.phases import COMPILED, PHASES
from pipelines.settings import as_parameters, composed
from tests import needs
from tests.image.run_pipeline_in_containers import LOCKED, Cluster
from tests.image.store_island import store_island

ROOT = Path(__file__).resolve().parents[2]
NAMES = (*PHASES, "forge")

if not os.environ.get("FORGE_TEST_IMAGES"):
    pytest.skip("minutes of containers: make images-test runs these", allow_module_level=True)
for needed in ("podman", "ip"):
    if not shutil.which(needed):
        needs.lacks(f"{needed} is not installed", module=True)
if os.geteuid():
    needs.lacks("network namespaces and the pods' files need root", module=True)


def there(address):
    """Whether this machine has an image."""
    return subprocess.run(["podman", "image", "exists", address]).returncode == 0


for name in NAMES:
    if not there(image(name)):
        needs.lacks(f"{image(name)} is not built: make images", module=True)


def inside(name, *arguments):
    """What a container of an image prints, locked as a pod and with no network at all."""
    command = ["podman", "run", *LOCKED, "--network=none", image(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def python(name, code, *arguments):
    return inside(name, "-c", textwrap.dedent(code), *arguments)


TOOLS = """
    import json, os, shutil, sys
    places = "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin"
    found = [tool for tool in sys.argv[1:] if shutil.which(tool, path=places)]
    for folder, folders, files in os.walk("/"):
        folders[:] = [one for one in folders if os.path.join(folder, one) not in ("/proc", "/sys")]
        for path in (os.path.join(folder, file) for file in files):
            if not os.path.islink(path) and os.stat(path).st_mode & 0o6000:
                found.append(path)
    try:
        import pip
        found.append("pip")
    except ImportError:
        pass
    print(json.dumps(found))
"""


@pytest.mark.parametrize("name", NAMES)
def test_no_shell_compiler_package_manager_or_set_uid_program_is_in_an_image(name):
    tools = [
        "sh",
        "bash",
        "dash",
        "busybox",
        "perl",
        "gcc",
        "cc",
        "ld",
        "pip",
        "uv",
        "apt-get",
        "dpkg",
        "curl",
        "tar",
        "su",
    ]
    assert json.loads(python(name, TOOLS, *tools)) == []


RIGHTS = """
    import getpass, os, pathlib
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert int(status["CapEff"], 16) == 0
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    for folder in ("/", "/app", "/opt/packages", "/var/tmp", "/etc", "/run"):
        try:
            pathlib.Path(folder, "x").write_text("")
        except OSError:
            continue
        raise SystemExit(folder + " can be written to")
    pathlib.Path(os.environ["HOME"], "x").write_text("")
    print(os.getuid(), getpass.getuser())
"""


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_named_user_without_privileges_and_writes_to_tmp_only(name):
    assert python(name, RIGHTS) == "65532 forge"


CARRIED = """
    import importlib.util, json, pathlib, sys
    from components.shared.runtime.code import code_version
    phases = sorted(path.parent.name for path in pathlib.Path("/app/components").glob("*/phase.py"))
    settings = sorted(path.stem for path in pathlib.Path("/app/configs/phase").iterdir())
    tools = [name for name in ("kfp", "kubernetes", "sqlalchemy", "pipelines") if importlib.util.find_spec(name)]
    print(json.dumps([phases, settings, tools, code_version(sys.argv[1])]))
"""


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_carries_its_own_code_and_settings_and_no_other_phases(phase):
    carried = json.loads(python(phase, CARRIED, phase))
    assert carried == [[phase], [phase], [], code_version(phase)], "make images"


COMPILE = """
    import importlib.util
    from pipelines.cli import app
    app(["compile", "-o", "/tmp/pipeline.yaml"], standalone_mode=False)
    print(importlib.util.find_spec("torch"), open("/tmp/pipeline.yaml").read())
"""


def test_the_forge_image_compiles_the_pipeline_without_torch():
    printed = python("forge", COMPILE)
    assert "None #" in printed and "name: agent-forge" in printed


@pytest.mark.parametrize(
    "arguments",
    [("submit", "--help"), ("clean", "--help"), ("doctor", "--help"), ("validate",)],
    ids=" ".join,
)
def test_the_forge_image_has_the_command_for_jobs_in_a_cluster(arguments):
    command = ["podman", "run", *LOCKED, "--network=none", "--entrypoint=forge", image("forge"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_forge_image_has_all_that_the_report_task_imports():
    assert "--executor-input" in inside("forge", "-m", "pipelines.report", "--help")


BYTECODE = """
    import importlib, pathlib, sys
    importlib.import_module(f"components.{sys.argv[1]}.phase")
    stale = []
    for name, module in list(sys.modules.items()):
        cached = getattr(getattr(module, "__spec__", None), "cached", None)
        if cached and (not pathlib.Path(cached).exists() or pathlib.Path(cached).read_bytes()[4:8] != bytes((1, 0, 0, 0))):
            stale.append(name)
    print(stale)
"""


@pytest.mark.parametrize("phase", PHASES)
def test_a_module_is_loaded_from_bytecode_that_no_source_is_compared_with(phase):
    assert python(phase, BYTECODE, phase) == "[]"


def test_a_phase_built_again_from_files_with_other_times_has_the_same_digest(tmp_path):
    for part in ("components", "configs", "images"):
        shutil.copytree(ROOT / part, tmp_path / part)
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    runtimes = [f"localhost/agent-forge/runtime-{variant}:{VERSION}" for variant in ("cuda", "cpu")]
    runtime = next(one for one in runtimes if there(one))
    names = [f"localhost/agent-forge-again/{number}:{VERSION}" for number in (1, 2)]
    for number, name in enumerate(names):
        for path in tmp_path.rglob("*"):
            os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
        command = ["podman", "build", "--quiet", "--layers", "--no-cache", "--pull=never", "--timestamp=0"]
        command += ["--build-arg=PHASE=bitnet", f"--build-arg=VERSION={VERSION}", f"--tag={name}"]
        command += [f"--build-context=runtime=container-image://{runtime}"]
        done = subprocess.run(
            [*command, "--file=images/phase/Dockerfile", "."], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    digest = ["podman", "image", "inspect", "--format={{.Digest}}", *names]
    first, second = subprocess.run(digest, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["podman", "rmi", *names], check=True, capture_output=True)
    assert first == second


def test_sigterm_stops_a_phase_with_a_checkpoint_that_it_goes_on_from(tmp_path):
    os.chown(tmp_path, 65532, 65532)
    arguments = [
        "-m", "components.cognate", "--step", "trunk", "--output", "/minio/trunk", "--profile", "micro",
        "--progress", "/minio/progress.jsonl", "cognate.trunk.steps=2000", "cognate.checkpoint_seconds=0",
    ]  # fmt: skip
    command = [
        "podman",
        "run",
        *LOCKED,
        "--name=forge-sigterm",
        "--network=none",
        f"--volume={tmp_path}:/minio",
    ]
    container = subprocess.Popen(
        [*command, image("cognate"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not list(tmp_path.glob("trunk.checkpoints/**/*")):
        assert container.poll() is None, container.stdout.read()
        time.sleep(0.2)
    subprocess.run(["podman", "kill", "--signal=TERM", "forge-sigterm"], check=True, capture_output=True)
    assert container.wait() == 75, container.stdout.read()


@pytest.mark.timeout(3600)
def test_the_whole_pipeline_in_containers_ends_with_the_digests_of_a_run_on_this_machine(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "run-pipeline", "--profile", "micro", "--name", "local"]
    local = subprocess.run(
        [*command, "--runs", str(tmp_path / "runs")], cwd=ROOT, capture_output=True, text=True
    )
    assert local.returncode == 0, local.stdout + local.stderr
    artifacts = tmp_path / "runs" / "local" / "artifacts"
    wanted = {
        path.parent.relative_to(artifacts).as_posix(): json.loads(path.read_text())["digest"]
        for path in artifacts.rglob("forge.json")
    }
    (tmp_path / "store").mkdir()
    found = {}
    with store_island() as island:
        for ended in Cluster(tmp_path / "store", island).pipeline(
            COMPILED.read_text(), as_parameters(composed(profile="micro"))
        ):
            print(f"{ended.task:24} {ended.seconds:6.1f} s  {ended.digests}")
            found |= {f"{ended.task}/{output}": digest for output, digest in ended.digests.items()}
    assert found == wanted
