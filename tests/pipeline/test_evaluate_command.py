"""`forge evaluate`: a model beside its baselines, from the command line."""

import json

import pytest

from components.shared.models.loading import build, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact.artifact import seal
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.runs.folder import RunFolder, RunStatus, TaskStatus

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def run(bench):
    """A run of two phases, whose networks know nothing."""
    folder = RunFolder(bench.runs / "first")
    parents = []
    for number, phase in enumerate(("cognate", "bitnet")):
        output = folder.task(phase).output("model")
        save(build(CognateConfig(**SHAPE), seed=number), byte_tokenizer(), output, card="")
        parents = [seal(output, kind="model", phase=phase, parents=parents, seed=3).digest]
        folder.task(phase).write(
            TaskStatus(
                phase, phase, phase, status="succeeded", started=number, finished=number + 1.0,
                outputs={"model": folder.relative(output)},
            )
        )  # fmt: skip
    folder.write(RunStatus("first", "succeeded", started=0.0, finished=2.0))
    return folder


def test_a_runs_last_model_is_seen_beside_the_one_the_run_began_with(forge, run, bench):
    asked = ("evaluate", "first", "--runs", bench.runs, "--suite", "reasoning", "--limit", "4")
    code, text = forge(*asked, "--page", "first.html")
    assert code == 0, text
    assert "reasoning" in text and "overall" in text and "cognate" in text and "nearest train" in text
    assert "the interval of reasoning is" in text, "what follows from four items"
    page = (bench.runs.parent / "first.html").read_text()
    assert "cognate" in page and "What to do next" in page and "<script" not in page
    code, text = forge(*asked, "--json")
    found = json.loads(text[text.index("{") :])
    assert code == 0 and found["seed"] == 3 and found["model"]["phase"] == "bitnet"
    assert [baseline["kind"] for baseline in found["baselines"]] == ["chance", "lookup", "base"]
    assert found["baselines"][2]["differences"]["overall"]["n"] == 4
    assert {each["rule"] for each in found["recommendations"]} >= {"wide interval"}
    assert "4/4" not in text, "the second time it comes from the cache"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["first", "--suite", "memorry"], "did you mean memory"),
        (["nothing"], "there is no run"),
        (["first", "--shots", "2"], "only a file of questions has examples"),
        (["first", "--suite", "file:none.jsonl"], "there is no such file"),
        (["first", "--against", "nothing"], "there is no run"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_what_to_do(forge, run, bench, arguments, words):
    code, text = forge("evaluate", *arguments, "--limit", "4", "--runs", bench.runs)
    assert code not in (0, 1) and words in text and "Traceback" not in text
