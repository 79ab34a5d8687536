"""How a training went, read from its artifact, its checkpoint or its run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import InputError
from components.shared.runtime.store.uri import open_store
from pipelines.analysis import training_plot
from pipelines.analysis.training_report import from_checkpoint
from pipelines.analysis.trainings import analyse, of_run
from pipelines.settings import composed
from tests.unit.pipelines.analysis.recorded_runs import (
    artifact,
    checkpoint,
    results,
    run,
    settings,
    task,
    trained,
)


def state(**more: Any) -> dict[str, Any]:
    """A checkpoint after three stages of ten."""
    fresh = {"within": 0, "loss": [], "success": [], "start": 0.0, "rates": {"chain 1": 0.25}}
    return {"stage": 3, "results": results(series=True), **fresh, **more}


def test_an_artifact_says_what_each_stage_did(tmp_path: Path) -> None:
    artifact(tmp_path / "a", "training", **trained({"alpha": 0.98, "strength": 2.0}))
    report = analyse(str(tmp_path / "a"))
    first, edge, last = report.stages
    assert (first.loss_before, first.loss_after, first.kept, last.kept) == (3.0, 2.0, True, False)
    assert (first.dimension_share, first.strength, first.train_loss_after) == (0.5, 2.0, 2.0)
    assert edge.success == pytest.approx(0.6) and edge.in_band == 0.5 and first.in_band is None
    assert (report.regime, last.regime, report.band) == ("generalising", "diverging", (0.55, 0.75))
    json.dumps(report.to_json(), allow_nan=False)


def test_without_grokfast_its_strength_is_zero_and_unknown_where_nothing_says_it(tmp_path: Path) -> None:
    artifact(tmp_path / "a", "training", **trained())
    assert {stage.strength for stage in analyse(str(tmp_path / "a")).stages} == {0.0}
    report = from_checkpoint(state(within=1, loss=[2.0], success=[0.5]), "x")
    assert [stage.strength for stage in report.stages] == [0.0, 0.0, 0.0, None] and report.grokfast is None


def test_a_checkpoint_within_a_stage_knows_the_stages_before_it_and_its_own_steps(tmp_path: Path) -> None:
    known = settings(None)
    planned = [*known["stages"], *({"name": n, "kind": "adaptation", "steps": 5} for n in ("next", "after"))]
    within = state(within=2, start=1.5, loss=[2.5, 2.0], success=[0.25, 0.75])
    report = from_checkpoint(within, "x", settings=known | {"stages": planned})
    assert [stage.state for stage in report.stages] == ["done"] * 3 + ["running", "pending"]
    current = report.stages[3]
    assert (current.name, current.steps_done, current.steps) == ("next", 2, 5)
    assert (current.success, current.loss_before, current.kept) == (0.5, 1.5, None)
    assert report.curves["loss through the ten stages"]["series"]["train"] == [4.0, 3.0] * 3 + [2.5, 2.0]
    assert report.regime == "generalising"
    assert "<svg" in training_plot.draw(report)


def test_the_newest_checkpoint_is_read_in_a_folder_and_in_a_bucket(tmp_path: Path, s3_uri: str) -> None:
    work = tmp_path / "checkpoints" / "0123456789abcdef"
    checkpoint(work, state(results=[], stage=0), number=1)
    newest = checkpoint(work, state(), number=2)
    for place in (newest, work, tmp_path / "checkpoints"):
        report = analyse(str(place))
        assert len(report.stages) == 3 and report.rates == {"chain 1": 0.25}
    open_store(s3_uri).upload(tmp_path / "checkpoints")
    report = analyse(s3_uri)
    assert len(report.stages) == 3 and report.source == f"{s3_uri}/0123456789abcdef/{newest.name}"


@pytest.mark.parametrize("text", [b"[]", b"null", b"{}", b"[" * 100_000, b'{"format": 1, "state": []}'])
def test_a_damaged_checkpoint_is_named_with_what_to_do(text: bytes, tmp_path: Path) -> None:
    place = checkpoint(tmp_path / "work", state())
    (place / "state.json").write_bytes(text)
    with pytest.raises(InputError, match=r"checkpoint is damaged .*state\.json.*What to do: delete"):
        analyse(str(place))


def test_another_phase_has_its_curves_and_no_stages(tmp_path: Path) -> None:
    curve = {"x": [1, 2], "xlabel": "step", "ylabel": "", "series": {"answer": [2.0, 1.0]}}
    artifact(tmp_path / "a", "bitnet", extra={"curves": {"quantisation": curve}})
    report = analyse(str(tmp_path / "a"))
    assert (
        report.stages == []
        and report.curves == {"quantisation": curve}
        and "<svg" in training_plot.draw(report)
    )
    checkpoint(
        tmp_path / "c",
        {"losses": [3.0, 2.0], "at": {"scores": [1, 2]}, "done": [1], "__snapshot__": {"a": [1, 2]}},
    )
    assert set(analyse(str(tmp_path / "c")).curves) == {"losses", "at/scores"}


def test_a_run_is_read_from_its_artifact_and_while_it_trains_from_its_checkpoint(tmp_path: Path) -> None:
    done = run(tmp_path, "done", 100.0)
    task(done, "training", **trained())
    assert of_run(done).kind == "artifact" and of_run(done).run == "done"
    assert (
        analyse(str(done.path)).stages
        == of_run(done).stages
        == analyse(str(done.path / "tasks/training")).stages
    )
    going = run(tmp_path, "going", 200.0, "running")
    with pytest.raises(InputError, match="has not begun"):
        of_run(going)
    task(going, "training", status="running")
    with pytest.raises(InputError, match="forge metrics going --task training"):
        of_run(going)
    place = going.task("training")
    configs = composed(["training"], profile="micro", overrides=["training.grokfast={strength: 3}"])
    values = {"settings": configs["training"].parameter, "seed": 0}
    place.executor_input.write_text(json.dumps({"inputs": {"parameterValues": values}}))
    checkpoint(place.checkpoints / "0123456789abcdef", state())
    report = of_run(going)
    assert (report.kind, report.run) == ("checkpoint", "going")
    assert len(report.stages) == 10 and {stage.strength for stage in report.stages[3:]} == {3.0}


def test_what_is_no_training_is_refused_with_what_to_give(tmp_path: Path) -> None:
    (tmp_path / "step_10000.pt").write_bytes(b"")
    for place, said in (
        ("step_10000.pt", "never opened"),
        ("none", "no such folder"),
        ("", "neither an artifact"),
    ):
        with pytest.raises(InputError, match=said):
            analyse(str(tmp_path / place))
