"""The models of runs, listed from their manifests."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.store.uri import open_store
from pipelines.analysis.catalog import catalog, to_json
from tests.unit.pipelines.analysis.recorded_runs import artifact, run, task


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, and a copy of a model that is none of theirs."""
    old, new = run(tmp_path / "runs", "old", 100.0), run(tmp_path / "runs", "new", 200.0)
    scores = {"memory": {"score": 0.5}, "safety": {"score": 1.0}}
    first = task(old, "cognate-variant-1", phase="cognate", extra={"variant": "memory"}, scores=scores)
    assert first is not None
    task(old, "evomerge", parents=[first.digest], value=2.0)
    task(old, "cognate-trunk", phase="cognate", kind="trunk", value=3.0)
    task(new, "outer/2/bitnet", phase="bitnet", scores={"memory": {"score": 0.9}}, value=4.0)
    artifact(tmp_path / "runs" / "mlartifacts" / "1" / "agent", "compression")
    return tmp_path / "runs"


def test_models_stand_in_the_order_of_runs_and_of_their_making(runs: Path) -> None:
    listed = catalog(runs)
    assert [(one.run, one.phase, one.variant) for one in listed.models] == [
        ("old", "cognate", "memory"),
        ("old", "evomerge", ""),
        ("new", "bitnet", ""),
    ]
    first, second, third = listed.models
    assert second.parents == [first.digest] and first.score == 0.75 and second.score is None
    assert (third.task, third.parameters) == ("outer/2/bitnet", 12)
    assert Path(third.address) == (runs / "new/artifacts/outer/2/bitnet/model").resolve()
    assert not listed.damaged


def test_they_are_chosen_by_run_phase_and_kind_and_sorted_by_size_or_score(runs: Path) -> None:
    assert [one.run for one in catalog(runs, run="latest").models] == ["new"]
    assert [one.phase for one in catalog(runs / "old").models] == ["cognate", "evomerge"]
    assert [one.run for one in catalog(runs, phase="cognate").models] == ["old"]
    assert [one.kind for one in catalog(runs, kinds=("trunk",)).models] == ["trunk"]
    assert [one.phase for one in catalog(runs, order="score").models] == ["bitnet", "cognate", "evomerge"]
    sizes = [one.bytes for one in catalog(runs, order="bytes").models]
    assert sizes == sorted(sizes, reverse=True)


def test_no_weight_is_read(runs: Path) -> None:
    for path in runs.rglob("model.safetensors"):
        path.unlink()
    assert len(catalog(runs).models) == 3


def test_a_damaged_manifest_is_named_and_hides_no_other(runs: Path) -> None:
    path = runs / "old/artifacts/evomerge/model/forge.json"
    path.write_text(path.read_text().replace("evomerge", "evomerse"))
    listed = catalog(runs)
    assert len(listed.models) == 2 and str(path) in listed.damaged[0]
    assert len(to_json(listed)["models"]) == 2 and to_json(listed)["models"][0]["score"] == 0.75


def test_a_store_is_listed_like_a_folder_whether_a_machine_or_kubeflow_has_filled_it(
    runs: Path, s3_uri: str
) -> None:
    store = open_store(s3_uri)
    store.upload(runs / "new", "new")
    place = "v2/artifacts/agent-forge/" + "/".join(
        ("11111111-1111-1111-1111-111111111111", "bitnet", "22222222-2222-2222-2222-222222222222", "model")
    )
    store.upload(runs / "new/artifacts/outer/2/bitnet/model", place)
    listed = catalog(s3_uri).models
    assert {(one.run, one.task) for one in listed} == {
        ("new", "outer/2/bitnet"),
        ("11111111-1111-1111-1111-111111111111", "bitnet"),
    }
    assert f"{s3_uri}/{place}" in {one.address for one in listed}


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"phase": "bitnte"}, ConfigError, "did you mean bitnet"),
        ({"run": "nwe"}, InputError, "did you mean new"),
    ],
)
def test_what_there_is_not_is_refused_by_name(
    runs: Path, arguments: dict[str, str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        catalog(runs, **arguments)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no such folder"):
        catalog(runs / "none")
