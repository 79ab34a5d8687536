"""Phase quietstar: what it publishes, killed and started again, on foreign models, with bad input."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from components.quietstar.phase import QuietStar
from components.shared.evaluation.suites import draw
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.artifact import Manifest
from components.shared.runtime.executor import main
from components.shared.tasks.tokenizer import byte_tokenizer
from tests.contract import killing
from tests.contract.in_process import torch_as_before, tracking  # noqa: F401

SMALL = [
    *("evaluation.items=16", "quietstar.threads=1", "quietstar.items=16"),
    *("quietstar.questions.levels=[1]", "quietstar.questions.batch=4", "quietstar.text.batch=4"),
    *("quietstar.length=2", "quietstar.talk=2", "quietstar.positions=2", "quietstar.lr=0.003"),
    *("quietstar.steps=12", "quietstar.warmup=4"),
]
GEOMETRY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Cognate with memory and refinement, as evomerge leaves them."""
    folder = tmp_path_factory.mktemp("base") / "champion"
    config = CognateConfig(**GEOMETRY, memory=True, memory_size=16, refinement=True, refinement_size=32)
    save(build(config, seed=0), byte_tokenizer(), folder, card="")
    artifact.seal(folder, kind="model", phase="evomerge")
    return folder


def run(output: Path, *arguments: str | Path) -> Manifest:
    assert main(QuietStar, ["--output", str(output), *SMALL, *map(str, arguments)]) == 0
    return artifact.read(output).manifest


@pytest.fixture(scope="module")
def thinker(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("thinker") / "thinker"
    run(folder, "--input", base)
    return folder


def test_it_publishes_every_claim_with_its_control_and_the_scores_of_the_plain_model(thinker: Path) -> None:
    manifest = artifact.read(thinker).manifest
    assert set(manifest.scores) == {"reasoning", "memory", "generalization", "efficiency", "safety"}
    ways = ("input", "pause", "no_thought", "before_REINFORCE", "thoughts", "shuffled")
    assert all(f"nll/{way}" in manifest.metrics and f"accuracy/{way}" in manifest.metrics for way in ways)
    assert {control["control"] for control in manifest.extra["controls"]} >= {
        "pause",
        "shuffled",
        "no thought",
    }
    assert [gate["on_fail"] for gate in manifest.gates] == ["warn", "warn", "warn"]
    lengths = {
        len(series) for curve in manifest.extra["curves"].values() for series in curve["series"].values()
    }
    assert lengths == {12}


def test_its_model_thinks_when_asked_and_works_without_thinking(thinker: Path) -> None:
    model, tokenizer = load(thinker)
    assert model.config.thoughts == {"length": 2, "mixing": True, "start": 259, "end": 260}
    ids = torch.tensor([[257, *b"41+2="]])
    thought = think(model, ids)
    assert torch.allclose(thought.before, model(ids).logits, atol=1e-5)
    assert thought.weight.abs().max() > 0, "the talk head was trained and travels in the artifact"
    items = draw("chain", "report", 1, 6, 0)
    assert len(answers_with_thoughts(model, tokenizer, items)) == 6
    inputs = tokenizer("41+2=", return_tensors="pt").input_ids
    assert model.generate(inputs, max_new_tokens=3, do_sample=False).shape[1] <= inputs.shape[1] + 3


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(
    thinker: Path, base: Path, tmp_path: Path
) -> None:
    slow = ["--input", base, *SMALL, "quietstar.checkpoint_seconds=0"]
    killing.kill("quietstar", tmp_path / "killed", slow, within=1.0, moment=random.Random())
    assert killing.run("quietstar", tmp_path / "killed", slow) == artifact.read(thinker).digest


def test_a_llama_that_never_heard_of_thoughts_learns_to_think(tmp_path: Path) -> None:
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=272, **GEOMETRY)).save_pretrained(tmp_path / "llama")
    byte_tokenizer().save_pretrained(tmp_path / "llama")
    manifest = run(tmp_path / "out", "--input", tmp_path / "llama", "quietstar.steps=4", "quietstar.warmup=2")
    assert any(name.startswith("talk_head.") for name in manifest.tensors)
    assert think(load(tmp_path / "out")[0], torch.tensor([[257, 52, 61]])).tokens.shape == (1, 3, 2)


def refused(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path) -> str:
    assert main(QuietStar, ["--output", str(output), *SMALL, *map(str, arguments)]) not in (0, 1)
    assert not output.exists()
    return capsys.readouterr().err


def test_a_task_that_does_not_exist_is_refused_by_name(base: Path, tmp_path: Path, capsys) -> None:
    message = refused(capsys, tmp_path / "out", "--input", base, "quietstar.questions.tasks={chian: 1}")
    assert "chian" in message and "chain" in message


def test_a_single_pass_has_no_baseline_and_is_refused(base: Path, tmp_path: Path, capsys) -> None:
    message = refused(capsys, tmp_path / "out", "--input", base, "quietstar.passes=1")
    assert "quietstar.passes = 1" in message


def test_a_warm_up_that_leaves_no_steps_for_reinforce_is_refused(base: Path, tmp_path: Path, capsys) -> None:
    message = refused(capsys, tmp_path / "out", "--input", base, "quietstar.warmup=12")
    assert "12 warm-up steps of 12 leave none" in message and "quietstar.steps" in message


def test_an_exam_with_more_items_than_there_are_is_refused(base: Path, tmp_path: Path, capsys) -> None:
    message = refused(capsys, tmp_path / "out", "--input", base, "quietstar.items=900")
    assert "chain" in message and "level 1" in message and "not 900" in message


def test_a_population_is_refused(base: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "population"
    folder.mkdir()
    (folder / "state.json").write_text("{}")
    artifact.seal(folder, kind="population", phase="evomerge")
    assert "a population is no model" in refused(capsys, tmp_path / "out", "--input", folder)
