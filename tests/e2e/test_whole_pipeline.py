"""The whole pipeline, every phase at work, through an S3 server; then what a person does with the result.

It runs from a wheel, away from the checkout: a wheel has all that a run needs, with the configuration, the report, the
compiled pipeline and the models' own code.
"""

import json
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from components.shared.runtime.artifact import artifact
from pipelines.phases import PHASES

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("components", "pipelines", "configs", "images", "tests")


def test_the_wheel_is_what_is_imported_and_the_checkout_is_not_seen(installed, tmp_path):
    script = (
        "import json, sys, importlib.util as u\n"
        f"print(json.dumps({{n: s and s.origin for n in {PROJECT} for s in [u.find_spec(n)]}}), *sys.path, sep='\\n')"
    )
    ended = installed.run("python", "-c", script, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    origins, *path = ended.stdout.splitlines()
    origins = json.loads(origins)
    assert all(origins[name].startswith(str(installed.folder)) for name in ("components", "pipelines"))
    assert origins["configs"] is None and origins["images"] is None
    assert str(ROOT) not in path


def test_the_wheel_says_that_it_is_typed(installed):
    packages = next(installed.folder.glob("lib/python*/site-packages"))
    assert all((packages / name / "py.typed").exists() for name in ("components", "pipelines"))


@pytest.mark.end_to_end
def test_eight_phases_of_a_wheel_forge_an_agent_through_an_s3_server(installed, tmp_path, s3_uri):
    run = installed.run(
        "forge", "run-pipeline", "--profile", "micro", "--runs", tmp_path, "--name", "whole", "--store", f"{s3_uri}/forge",
        cwd=tmp_path, MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path / 'mlflow.db'}",
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    folder = tmp_path / "whole"
    tasks = [json.loads(path.read_text()) for path in (folder / "tasks").rglob("status.json")]
    assert {task["phase"] for task in tasks} == {*PHASES, ""}  # the report has none
    assert all(task["status"] == "succeeded" for task in tasks)
    assert str(ROOT) not in "".join(path.read_text() for path in (folder / "tasks").rglob("log.txt"))

    models = {}
    for path in (folder / "artifacts").rglob("forge.json"):
        one = artifact.read(path.parent)  # every byte of every artifact is what its manifest says
        if one.kind == "model":
            models.setdefault(one.manifest.phase, []).append(one)
    assert set(models) == set(PHASES)
    assert len({one.digest for one in models["cognate"]}) == 3
    _lineage_reaches_the_cognates(folder)
    _the_bucket_holds_what_the_folder_holds(s3_uri, folder)

    for page in (
        folder / "report.html",
        folder / "artifacts" / "report" / "page",
    ):  # the runner's, the pipeline's own
        text = page.read_text()
        assert "<script" not in text and all(phase in text for phase in PHASES)
    _the_agent_answers_in_plain_transformers(models["compression"][0].path, tmp_path)
    asked = installed.run("forge", "test", "--runs", tmp_path, "--prompt", "next abc=", cwd=tmp_path)
    assert asked.returncode == 0, asked.stdout + asked.stderr


def _lineage_reaches_the_cognates(folder: Path) -> None:
    """From the final agent back to the trunk, parent by parent."""
    manifests = [json.loads(path.read_text()) for path in (folder / "artifacts").rglob("forge.json")]
    by_digest = {manifest["digest"]: manifest for manifest in manifests}
    waiting, seen = [m["digest"] for m in manifests if m["phase"] == "compression"], set()
    while waiting:
        digest = waiting.pop()
        if digest not in seen:
            seen.add(digest)
            waiting += by_digest[digest]["parents"]
    kinds = {(by_digest[digest]["phase"], by_digest[digest]["kind"]) for digest in seen}
    assert {(phase, "model") for phase in PHASES} <= kinds and ("cognate", "trunk") in kinds


def _the_bucket_holds_what_the_folder_holds(s3_uri: str, folder: Path) -> None:
    pages = boto3.session.Session().client("s3", region_name="us-east-1").get_paginator("list_objects_v2")
    keys = [
        o["Key"]
        for page in pages.paginate(Bucket=s3_uri.removeprefix("s3://"))
        for o in page.get("Contents", [])
    ]
    local = [path.relative_to(folder) for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert local and all(any(key.endswith(str(path)) for key in keys) for path in local)


def _the_agent_answers_in_plain_transformers(agent: Path, elsewhere: Path) -> None:
    script = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        f"m = AutoModelForCausalLM.from_pretrained({str(agent)!r}, trust_remote_code=True)\n"
        f"t = AutoTokenizer.from_pretrained({str(agent)!r})\n"
        "out = m.generate(**t('next abc=', return_tensors='pt'), max_new_tokens=4)\n"
        "print(t.decode(out[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=elsewhere, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "next abc=" in done.stdout
