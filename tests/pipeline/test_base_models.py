"""Base models in the pipeline's graph: one task fetches each, what stands on which, and what a name means when planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from components.shared.runtime.errors import ConfigError, InputError
from pipelines.agent_forge import pipeline, text
from pipelines.ir import reader
from pipelines.ir.base_models import planned, standing
from tests.unit.shared.base_models.hub_server import hub_server


def graph(*stands: int, **more):
    whole = text(pipeline(parents=len(stands), stands=stands, pinned=False, **{"end": "evomerge", **more}))
    return next(yaml.safe_load_all(whole))["root"]["dag"]["tasks"]


def told(task, name):
    one = task["inputs"]["parameters"][name]
    return one.get("componentInputParameter") or one["runtimeValue"]["constant"]


def test_which_variant_stands_on_which_base_model():
    assert standing((), merged=True) == (0, 0, 0)
    assert standing(["owner/x"], merged=True) == (1, 1, 1)
    assert standing(["owner/x"], merged=False) == (1,)
    assert standing(["memory"], merged=True) == (0,)
    assert standing(["standard", "owner/x", "owner/y"], merged=True) == (0, 2, 3)


def test_one_base_model_is_fetched_once_for_three_variants_and_no_trunk_is_trained():
    tasks = graph(1, 1, 1)
    assert [name for name in tasks if name.startswith(("foundation", "cognate"))] == [
        "cognate", "cognate-2", "cognate-3", "foundation"
    ]  # fmt: skip
    assert told(tasks["foundation"], "base_model") == "base_model_1"
    assert "base_model_2" not in json.dumps(tasks)
    variants = [tasks[name] for name in ("cognate", "cognate-2", "cognate-3")]
    assert [told(task, "variant") for task in variants] == ["standard", "memory", "reasoning"]
    for task in variants:
        made = task["inputs"]["artifacts"]["trunk"]["taskOutputArtifact"]
        assert made == {"outputArtifactKey": "model", "producerTask": "foundation"}


def test_given_models_and_a_trained_variant_stand_side_by_side():
    tasks = graph(0, 2, 3)
    assert told(tasks["cognate-trunk"], "base_model_1") == "base_model_1"
    fetched = {told(tasks[name], "base_model") for name in ("foundation", "foundation-2")}
    assert fetched == {"base_model_2", "base_model_3"}
    trunks = [tasks[name]["inputs"]["artifacts"]["trunk"] for name in ("cognate", "cognate-2")]
    makers = [trunk["taskOutputArtifact"]["producerTask"] for trunk in trunks]
    assert makers == ["cognate-trunk", "foundation"]
    assert [told(tasks[name], "variant") for name in ("cognate", "cognate-2")] == ["base_model_1", "given"]


def test_no_setting_of_a_phase_makes_a_base_model_be_fetched_again():
    [task] = [task for name, task in graph(1, end="cognate").items() if name == "foundation"]
    assert told(task, "settings").startswith('{"profile":""')
    compiled = reader.parse(text(pipeline(end="cognate", parents=1, stands=(1,), pinned=False)))
    assert {"base_model_1", "base_dtype", "hub_secret"} <= set(compiled.root.parameters)
    assert (
        "base_dtype"
        not in reader.parse(text(pipeline(end="cognate", parents=1, pinned=False))).root.parameters
    )


def test_a_pod_of_the_foundation_gets_token_and_mirror_and_runs_in_the_image_of_the_first_phase():
    whole = text(pipeline(end="cognate", parents=1, stands=(1,), pinned=False))
    spec, platform = yaml.safe_load_all(whole)
    executor = spec["deploymentSpec"]["executors"]["exec-foundation"]["container"]
    assert "/cognate:" in executor["image"] and executor["args"][:2] == ["-m", "components.shared.foundation"]
    pods = json.dumps(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-foundation"])
    assert "HF_TOKEN" in pods and "HF_ENDPOINT" in pods
    others = json.dumps(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-cognate"])
    assert "HF_TOKEN" not in others


def test_a_branch_is_resolved_when_a_run_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        commit = hub.add("owner/tiny", tmp_path / "m")
        assert planned(["standard", "owner/tiny", "s3://b/x"]) == [
            "standard",
            f"owner/tiny@{commit}",
            "s3://b/x",
        ]
        before = len(hub.requests)
        assert planned([f"owner/tiny@{commit}"]) == [f"owner/tiny@{commit}"] and len(hub.requests) == before
        with pytest.raises(InputError, match="no revision 'v2'"):
            planned(["owner/tiny@v2"])
    assert planned([str(tmp_path / "m")]) == [str(tmp_path / "m")]
    with pytest.raises(InputError, match="a pod cannot read a folder"):
        planned([str(tmp_path / "m")], pods=True)


def test_two_given_models_without_a_merge_are_refused():
    with pytest.raises(ConfigError, match="no phase that makes one of them"):
        pipeline(without=["evomerge"], parents=2, stands=(1, 2))
