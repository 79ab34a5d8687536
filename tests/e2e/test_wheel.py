"""A wheel away from the checkout has all that a run needs: configuration, report, compiled pipeline, remote code."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("components", "pipelines", "configs", "images", "tests")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone. It borrows the packages of this one by a path file: a folder that is named
    in one has its own path files unread, so the editable checkout of this environment is not seen.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    base = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", base))
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    packages.joinpath("borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv"


def run(venv_folder: Path, *command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A program of the environment, with nothing in its surroundings that leads to the checkout."""
    program, *arguments = map(str, command)
    surroundings = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
    }
    return subprocess.run(
        [str(venv_folder / "bin" / program), *arguments],
        cwd=cwd,
        env=surroundings | {"OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=580,
    )


def test_the_wheel_is_what_is_imported_and_the_checkout_is_not_seen(installed, tmp_path):
    script = (
        "import json, sys, importlib.util as u\n"
        f"print(json.dumps({{n: s and s.origin for n in {PROJECT} for s in [u.find_spec(n)]}}), *sys.path, sep='\\n')"
    )
    ended = run(installed, "python", "-c", script, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    origins, *path = ended.stdout.splitlines()
    origins = json.loads(origins)
    assert all(origins[name].startswith(str(installed)) for name in ("components", "pipelines"))
    assert origins["configs"] is None and origins["images"] is None
    assert str(ROOT) not in path


def test_the_wheel_says_that_it_is_typed(installed):
    packages = next(installed.glob("lib/python*/site-packages"))
    assert all((packages / name / "py.typed").exists() for name in ("components", "pipelines"))


@pytest.mark.end_to_end
def test_the_wheel_runs_the_whole_pipeline_away_from_the_checkout(installed, tmp_path):
    ended = run(installed, "forge", "run-pipeline", "--profile", "micro", "--name", "wheel", cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    folder = tmp_path / "runs/wheel"
    assert "<html" in (folder / "report.html").read_text().lower()
    states = [json.loads(path.read_text())["status"] for path in (folder / "tasks").rglob("status.json")]
    assert states and set(states) == {"succeeded"}
    assert str(ROOT) not in "".join(path.read_text() for path in (folder / "tasks").rglob("log.txt"))
