"""What the documents say is missing, unmeasured or to be known, against what is there."""

import re
from pathlib import Path

import yaml

from pipelines.phases import COMPILED

ROOT = Path(__file__).resolve().parents[3]


def text(name):
    """A document as one line."""
    return " ".join((ROOT / name).read_text().split())


def planned():
    """The third column of ARCHITECTURE's first table, a row each."""
    table = (ROOT / "docs/ARCHITECTURE.md").read_text().split("planned, not here |")[1].split("\n\n")[0]
    return [row.split("|")[3] for row in table.splitlines() if row.count("|") == 4 and "---" not in row]


def test_what_is_not_here_is_listed_as_planned():
    rows = planned()
    for words in (
        "GPU tests in CI",
        "`runtimeClassName`",
        "HPA",
        "Ingress",
        "TLS",
        "35-pod graph on an engine",
    ):
        assert sum(words in row for row in rows) == 1, words


def test_what_is_planned_is_really_not_here():
    chart = "".join(path.read_text() for path in (ROOT / "charts/agent-forge/templates").rglob("*.*"))
    for kind in ("runtimeClassName", "HorizontalPodAutoscaler", "kind: Ingress\n"):
        assert kind not in chart
    assert "runtimeClassName" not in COMPILED.read_text()
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))
    assert not re.search(r"runs-on:.*gpu", workflows)


def test_the_size_of_a_run_is_called_an_estimate_wherever_it_is_given():
    for name in ("README.md", "docs/kubeflow.md", "docs/operations.md", "docs/ARCHITECTURE.md"):
        for given in re.finditer(r"\.86 MB", text(name)):
            assert "estimate" in text(name)[max(0, given.start() - 250) : given.end() + 60], name


def test_the_committed_pipeline_has_no_code_digests_and_the_documents_say_what_to_start_instead():
    spec = next(yaml.safe_load_all(COMPILED.read_text()))
    dags = [spec["root"]["dag"], *(one["dag"] for one in spec["components"].values() if "dag" in one)]
    digests = [
        task["inputs"]["parameters"]["code_version"]["runtimeValue"]["constant"]
        for dag in dags
        for task in dag["tasks"].values()
        if "code_version" in task.get("inputs", {}).get("parameters", {})
    ]
    assert digests and set(digests) == {""}
    for name in ("README.md", "docs/kubeflow.md"):
        assert "carries no code digests" in text(name)
        for start in (
            "`forge submit`",
            "`forge submit --upload`",
            "`python pipelines/agent_forge.py submit`",
        ):
            assert start in text(name).split("carries no code digests")[1][:300], (name, start)


def test_a_run_that_mlflow_still_calls_running_is_explained():
    assert "stays RUNNING in MLflow" in text("docs/operations.md")
