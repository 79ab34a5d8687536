"""A KFP run's own place in the object store, and how its progress is followed there."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import StoreError
from components.shared.runtime.request import run_root
from components.shared.runtime.request.inputs import Request
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store
from components.shared.runtime.tracking.progress_object import ProgressObject

ROOT = "minio://mlpipeline/v2/artifacts/agent-forge/91db5f79"


@pytest.mark.parametrize(
    ("uri", "root"),
    [
        (f"{ROOT}/evomerge-worker/02fed257/results", ROOT),
        ("s3://bucket/pipeline/run/task/uuid/model", "s3://bucket/pipeline/run"),
        ("s3://bucket/run/task/uuid/model", ""),
        ("/a/b/c/d/e/f/g", ""),
        ("minio://bucket/model", ""),
    ],
)
def test_the_root_is_what_comes_before_task_execution_and_output(uri: str, root: str) -> None:
    assert run_root.root_of(uri) == root


def test_by_hand_and_under_the_local_runner_nothing_is_decided(tmp_path: Path) -> None:
    said: list[str] = []
    for request in (Request({}, "out"), Request({}, "out", output_file=tmp_path / "f", uri="/runs/demo/out")):
        assert run_root.choose_checkpoint_root(request, said.append) == "" and request.checkpoint_root == ""
    assert said == []


def test_checkpoints_go_to_the_run_unless_another_place_is_given(s3_uri: str) -> None:
    address = f"{s3_uri.replace('s3://', 'minio://')}/pipeline/run"
    request = Request({}, "out", output_file=Path("f"), uri=f"{address}/task/uuid/model")
    assert run_root.choose_checkpoint_root(request, print) == address
    assert request.checkpoint_root == f"{address}/checkpoints"
    request.checkpoint_root = "s3://own/place"
    assert (
        run_root.choose_checkpoint_root(request, print) == address
        and request.checkpoint_root == "s3://own/place"
    )


def test_minio_is_s3_at_the_endpoint_wherever_an_address_is_taken(s3_uri: str, tmp_path: Path) -> None:
    address = s3_uri.replace("s3://", "minio://")
    store = open_store(f"{address}/some/model")
    store.put("config.json", b"{}")
    assert open_store(f"{s3_uri}/some/model").get("config.json") == b"{}"
    assert (download(f"{address}/some/model", tmp_path) / "config.json").read_text() == "{}"
    assert store.address("config.json") == f"{address}/some/model/config.json"


def test_minio_without_an_endpoint_is_refused_with_what_to_set(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with pytest.raises(StoreError, match=r"AWS_ENDPOINT_URL is not set.*What to do: set it") as caught:
        open_store(s3_uri.replace("s3://", "minio://"))
    assert not caught.value.transient


def test_the_region_of_the_environment_is_used(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-central-7")
    store: Any = open_store(s3_uri)
    assert store.client.meta.region_name == "eu-central-7"


def test_a_task_can_be_followed_and_counts_on_from_pods_that_are_gone(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_TASK", "cognate-trunk")
    for attempt in (1, 2):
        with ProgressObject(f"{s3_uri}/run", "cognate", print) as following:
            assert following.attempt == attempt - 1
            following.attempt = attempt
            following({"stage": "pretrain", "step": 3, "total": 9})
            following({"note": "going on"})
            following({"stage": "pretrain", "step": 9, "total": 9}, True)
    found = json.loads(open_store(f"{s3_uri}/run/progress").get("cognate-trunk.json"))
    assert (found["step"], found["note"], found["attempt"]) == (9, "going on", 2)
    assert found["updated"] <= time.time() and found["host"]


def test_the_reason_of_a_failure_is_the_last_word(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORGE_TASK", raising=False)
    with pytest.raises(StoreError), ProgressObject(f"{s3_uri}/run", "toy", print) as following:
        following({"stage": "fit", "step": 3})
        raise StoreError("the disk is full")
    found = json.loads(open_store(f"{s3_uri}/run/progress").get("toy.json"))
    assert found["note"] == "the disk is full." and found["stage"] == "fit"


class Counts:
    """A store that only counts what is put, and says when."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.put_one = threading.Event()

    def put(self, key: str, data: bytes) -> None:
        self.lines.append(json.loads(data))
        self.put_one.set()


def test_between_two_ends_of_stages_little_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Counts()
    following = ProgressObject("s3://x/run", "toy", print, every=1e6)
    monkeypatch.setattr(following, "_attempts_before", lambda: 0)
    monkeypatch.setattr(following, "_open", lambda: store)
    with following:
        following({"stage": "fit", "step": 0})
        assert store.put_one.wait(60)
        store.put_one.clear()
        for step in range(1, 100):
            following({"stage": "fit", "step": step})
        following({"stage": "fit", "step": 100}, True)
        assert store.put_one.wait(60)
        assert [line["step"] for line in store.lines] == [0, 100]


def test_a_store_that_is_away_is_said_once_and_ends_nothing(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    said: list[str] = []
    with ProgressObject(f"{s3_uri}/run", "toy", said.append, every=0.01) as following:
        for step in range(3):
            following({"stage": "fit", "step": step}, True)
    assert following.attempt == 0
    assert len(said) == 1 and "progress cannot be followed" in said[0]
