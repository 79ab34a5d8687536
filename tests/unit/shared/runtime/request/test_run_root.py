"""A KFP run's own place in the object store, and how its progress is followed there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from components.shared.runtime.errors import StoreError
from components.shared.runtime.request import run_root
from components.shared.runtime.request.inputs import Request
from components.shared.runtime.store.local_copy import download
from components.shared.runtime.store.uri import open_store

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
