"""Gates of a phase: what stops, warns or rolls back, and what is published then. Shown on a toy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from components.shared.runtime.measured import stand_ins_of
from tests.contract.toy_runs import clean, manifest, toy  # noqa: F401

FAILS = '{{metric: loss, op: "<", value: 0, on_fail: {0}}}'


def test_a_gate_that_stops_publishes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("--output", tmp_path / "out", "toy.steps=5", f"toy.gates=[{FAILS.format('stop')}]") == 7
    assert "< 0 failed" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_after_a_failed_gate_the_work_is_not_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--output", tmp_path / "out", "toy.steps=10", "toy.checkpoint_seconds=0")
    assert toy(*options, f"toy.gates=[{FAILS.format('stop')}]") == 7
    assert toy(*options) == 0
    assert "going on from the checkpoint at step" in capsys.readouterr().err


def test_a_gate_that_warns_publishes_and_leaves_its_result(tmp_path: Path) -> None:
    gates = f'toy.gates=[{FAILS.format("warn")}, {{metric: score/reasoning, op: "<", value: 2}}]'
    assert toy("--output", tmp_path / "out", "toy.steps=5", gates) == 0
    first, second = manifest(tmp_path / "out").gates
    assert (first["passed"], first["on_fail"], first["bound"]) == (False, "warn", 0.0)
    assert second["passed"] and second["metric"] == "score/reasoning"


def test_a_gate_that_rolls_back_publishes_the_input_again(tmp_path: Path) -> None:
    assert toy("--output", tmp_path / "a", "toy.steps=30") == 0
    gate = "{metric: score/reasoning, value: input/score/reasoning + 9, on_fail: rollback}"
    assert (
        toy("--input", tmp_path / "a", "--output", tmp_path / "b", "toy.steps=5", f"toy.gates=[{gate}]") == 0
    )
    before, after = manifest(tmp_path / "a"), manifest(tmp_path / "b")
    assert after.digest == before.digest and after.parents == [before.digest]
    assert after.scores == before.scores and after.extra["rejected"]["scores"] != before.scores
    assert after.extra["rolled_back"] and not after.gates[0]["passed"]
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert torch.equal(one["weight"], other["weight"])


def test_a_gate_may_name_what_stands_in_for_suites() -> None:
    found = {
        "stand_ins": {
            "perplexity": 25.4,
            "bits_per_byte": 1.2,
            "tokens": 2048.0,
            "chat": {"score": 0.5, "n": 24},
        }
    }
    assert stand_ins_of(found) == {
        "stand_in/perplexity": 25.4,
        "stand_in/bits_per_byte": 1.2,
        "stand_in/chat": 0.5,
    }
    assert stand_ins_of({}) == {}


def test_a_rollback_without_an_input_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("--output", tmp_path / "out", f"toy.gates=[{FAILS.format('rollback')}]") == 2
    assert "roll back" in capsys.readouterr().err


def test_a_gate_of_a_later_phase_sees_the_first_model_also_through_a_store_and_after_a_stop(
    tmp_path: Path, s3_uri: str
) -> None:
    between = f"{s3_uri}/b"
    assert toy("--output", tmp_path / "a", "toy.steps=30") == 0
    assert toy("--input", tmp_path / "a", "--output", between, "toy.steps=5") == 0
    gates = (
        "[{metric: score/reasoning, op: '<', value: start/score/reasoning - 2%, on_fail: warn},"
        "{metric: size/bytes, op: '<', value: start/size/weights * 0.02, on_fail: warn},"
        "{metric: loss, op: '<', value: start/loss + 1e9}]"
    )
    rest = ("--input", between, "--output", tmp_path / "c", "toy.steps=3")
    assert toy(*rest, "toy.gates=[{metric: loss, op: '<', value: start/loss - 1e9}]") == 7
    assert toy(*rest, f"toy.gates={gates}") == 0
    first, last = manifest(tmp_path / "a"), manifest(tmp_path / "c")
    score, size, loss = last.gates
    assert score["bound"] == pytest.approx(0.98 * first.scores["reasoning"]["score"])
    assert size["bound"] == pytest.approx(0.02 * 4 * first.parameters) and size["value"] == last.bytes
    assert not size["passed"] and loss["bound"] == pytest.approx(first.metrics["loss"] + 1e9)
    start = last.extra["start"]
    assert start["digest"] == first.digest and start["phase"] == "toy" and "start" not in first.extra
    assert start["measured"]["size/bytes"] == first.bytes


@pytest.mark.parametrize(
    ("metric", "why"),
    [("start/score/reasonin", "did you mean start/score/reasoning"), ("input/nothing", "known: input/")],
)
def test_a_figure_that_no_model_before_has_is_refused_before_any_work(
    metric: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert toy("--output", tmp_path / "a", "toy.steps=3") == 0
    gate = f"toy.gates=[{{metric: loss, op: '<', value: {metric} * 2}}]"
    assert toy("--input", tmp_path / "a", "--output", tmp_path / "b", "toy.steps=3", gate) == 2
    said = capsys.readouterr().err
    assert f"'{metric}'" in said and why in said and not (tmp_path / "b").exists()


def test_the_first_phase_has_no_start_to_be_held_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = "toy.gates=[{metric: loss, op: '<', value: start/loss}]"
    assert toy("--output", tmp_path / "a", "toy.steps=3", gate) == 2
    assert "nothing comes before" in capsys.readouterr().err
