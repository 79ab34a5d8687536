"""Models of the hub: what is fetched, from which commit, how a broken download goes on, and what each refusal says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from components.shared.base_models import hub as fetching
from components.shared.base_models import hub_place, partial
from components.shared.base_models.address import Address, address
from components.shared.runtime.errors import ArtifactError, ForgeError, InputError, StoreError
from tests.unit.shared.base_models.hub_server import TOKEN, Hub

NAME = "owner/model"
CARD = "---\nlicense: apache-2.0\ntags: [x]\n---\n# A model\n"


def folder(path: Path, *, value: float = 1.0, size: int = 50_000) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "tokenizer.json").write_text("{}")
    (path / "README.md").write_text(CARD)
    (path / "LICENSE").write_text("free")
    for name in ("pytorch_model.bin", "modeling_x.py", "flax_model.msgpack", "model.fp16.safetensors"):
        (path / name).write_bytes(b"not to be fetched")
    (path / "onnx").mkdir(exist_ok=True)
    (path / "onnx" / "model.safetensors").write_bytes(b"not to be fetched")
    save_file({"w": torch.full((size,), value)}, path / "model.safetensors")
    return path


@pytest.fixture(autouse=True)
def large_files_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "LARGE", 1 << 16)


def test_what_a_person_may_call_a_base_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here" / "model").mkdir(parents=True)
    (tmp_path / "x.GGUF").touch()
    (tmp_path / "x.bin").touch()
    assert address("owner/name@v1") == Address("hub", "owner/name", "v1")
    assert address("here/model").kind == "folder" and address("x.GGUF").kind == "gguf"
    assert address("s3://b/x@y") == Address("store", "s3://b/x@y")
    assert str(address("owner/name").at("a" * 40)) == f"owner/name@{'a' * 40}"
    assert address(f"owner/name@{'a' * 40}").pinned and not address("owner/name@main").pinned
    for wrong in ("nowhere", "x.bin", "a/b/c", "owner/x.gguf", "owner/", ""):
        with pytest.raises(InputError, match="no base model"):
            address(wrong)


def test_only_what_a_model_is_made_of_is_fetched_and_from_one_commit(hub: Hub, tmp_path: Path) -> None:
    first = hub.add(NAME, folder(tmp_path / "m"))
    model = fetching.fetch(address(NAME))
    assert (model.name, model.commit, model.licence) == (NAME, first, "apache-2.0")
    names = {path.name for path in model.folder.iterdir()}
    assert names == {"config.json", "tokenizer.json", "README.md", "LICENSE", "model.safetensors"}
    assert torch.equal(load_file(model.folder / "model.safetensors")["w"], torch.ones(50_000))
    assert not [path for _, path, _ in hub.requests if path.endswith((".bin", ".py", ".msgpack"))]
    second = hub.add(NAME, folder(tmp_path / "m", value=2.0))
    assert fetching.resolved(address(NAME)).revision == second != first
    before = len(hub.requests)
    again = fetching.fetch(address(f"{NAME}@{first}"))
    assert again.folder == model.folder and again.licence == "apache-2.0" and len(hub.requests) == before


def test_code_is_fetched_for_who_trusts_it_alone(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, folder(tmp_path / "m"))
    assert not (fetching.fetch(address(NAME)).folder / "modeling_x.py").exists()
    assert (fetching.fetch(address(NAME), code=True).folder / "modeling_x.py").exists()


def test_shards_are_those_that_the_index_names(hub: Hub, tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    (path / "model.safetensors").rename(path / "model-00001-of-00002.safetensors")
    save_file({"v": torch.zeros(3)}, path / "model-00002-of-00002.safetensors")
    (path / "consolidated.safetensors").write_bytes(b"twice")
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.add(NAME, path)
    got = {file.name for file in fetching.fetch(address(NAME)).folder.glob("*.safetensors")}
    assert got == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    (path / "model-00002-of-00002.safetensors").unlink()
    hub.add(NAME, path)
    with pytest.raises(ArtifactError, match=r"names weights that the hub has not got.*00002-of-00002"):
        fetching.fetch(address(NAME))


def test_a_connection_that_breaks_goes_on_where_it_stopped(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.add(NAME, folder(tmp_path / "m"))
    hub.cut = [70_000, 50_000]
    model = fetching.fetch(address(NAME))
    assert load_file(model.folder / "model.safetensors")["w"].sum() == 50_000
    assert [header for verb, path, header in hub.requests if verb == "GET" and path.startswith("/store/")] == [
        "", "bytes=70000-", "bytes=120000-"
    ]  # fmt: skip


def test_a_server_without_ranges_is_read_from_the_start_again(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, folder(tmp_path / "m"))
    hub.cut, hub.ranges = [70_000], False
    assert load_file(fetching.fetch(address(NAME)).folder / "model.safetensors")["w"].sum() == 50_000


def test_a_killed_download_goes_on_in_the_next_process(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, folder(tmp_path / "m", size=5_000_000))
    held = tmp_path / "held"
    program = (
        "import sys, pathlib, time\n"
        "from components.shared.base_models import hub, address, partial\n"
        "step = partial._Megabytes.update\n"
        "def slow(self, count):\n"
        "    step(self, count)\n"
        f"    if count: pathlib.Path({str(held)!r}).touch(); time.sleep(60)\n"
        "partial._Megabytes.update = slow\n"
        f"hub.fetch(address.address({NAME!r}))\n"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub-cache"), "HF_HUB_DISABLE_XET": "1"}
    child = subprocess.Popen([sys.executable, "-c", program], env=environment)
    try:
        ends = time.monotonic() + 60
        while not held.exists() and time.monotonic() < ends and child.poll() is None:
            time.sleep(0.02)
        assert held.exists()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    blobs = hub_place.repository(NAME) / "blobs"
    [half] = blobs.glob("*.partial")
    half.write_bytes(hub.content(half.stem)[:9_000_000])  # what the child held in its buffer is lost with it
    hub.requests.clear()
    model = fetching.fetch(address(NAME))
    assert load_file(model.folder / "model.safetensors")["w"].sum() == 5_000_000
    assert [
        header for verb, path, header in hub.requests if verb == "GET" and path.startswith("/store/")
    ] == ["bytes=9000000-"]
    assert not list(blobs.glob("*.partial"))


def test_bytes_that_are_not_what_the_hub_said_are_thrown_away(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, folder(tmp_path / "m"))
    hub.damaged = True
    with pytest.raises(StoreError, match=r"arrived damaged.*SHA-256") as caught:
        fetching.fetch(address(NAME))
    assert caught.value.transient and not list((hub_place.repository(NAME) / "blobs").glob("*.partial"))
    hub.damaged = False
    assert load_file(fetching.fetch(address(NAME)).folder / "model.safetensors")["w"].sum() == 50_000


def test_a_gated_model_wants_a_token_that_goes_to_the_hub_and_not_to_its_store(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add(NAME, folder(tmp_path / "m"))
    hub.gated.add(NAME)
    with pytest.raises(
        InputError, match=r"access to owner/model is restricted.*HTTP 401.*HF_TOKEN is not set.*ask for"
    ):
        fetching.fetch(address(NAME))
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(InputError, match=r"restricted.*HTTP 403.*HF_TOKEN is set"):
        fetching.resolved(address(NAME))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetching.fetch(address(NAME))
    assert {value for path, value in hub.tokens.items() if path.startswith("/store/")} == {""}


def test_unknown_models_and_revisions_are_named(hub: Hub, tmp_path: Path) -> None:
    hub.add(NAME, folder(tmp_path / "m"))
    with pytest.raises(InputError, match=r"has no revision 'v9'.*leave @v9 out"):
        fetching.fetch(address(f"{NAME}@v9"))
    with pytest.raises(InputError, match=r"no model 'owner/other'.*check the spelling"):
        fetching.fetch(address("owner/other"))


@pytest.mark.parametrize(
    ("left", "says"),
    [
        ("pytorch_model.bin", "only pytorch_model.bin.*unpickled"),
        ("model.Q4.gguf", "only model.Q4.gguf.*hf download"),
    ],
)
def test_a_model_without_safetensors_is_refused_before_anything_is_fetched(
    hub: Hub, tmp_path: Path, left: str, says: str
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / left).write_bytes(b"x")
    hub.add(NAME, tmp_path / "m")
    with pytest.raises(ArtifactError, match=says):
        fetching.fetch(address(NAME))


def test_without_a_network_the_cache_is_enough(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add(NAME, folder(tmp_path / "m"))
    fetching.fetch(address(NAME))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.requests)
    assert fetching.resolved(address(NAME)).revision == commit
    assert fetching.fetch(address(NAME)).commit == commit and len(hub.requests) == before
    with pytest.raises(InputError, match=r"owner/model@v1 is not in the hub's cache.*HF_HUB_OFFLINE"):
        fetching.fetch(address(f"{NAME}@v1"))
    (hub_place.snapshot(Address("hub", NAME, commit)) / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"there is no model.safetensors.*fetch it once"):
        fetching.fetch(address(NAME))


def test_a_hub_that_does_not_answer_is_a_fault_that_passes(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ForgeError, match=r"could not be fetched.*127.0.0.1:9.*HF_ENDPOINT") as caught:
        fetching.fetch(address(NAME))
    assert caught.value.transient


def test_progress_counts_megabytes_those_of_an_earlier_try_included() -> None:
    class Steps:
        at = 0

        def step(self, count: int) -> None:
            self.at += count

    steps = Steps()
    bar = partial._Megabytes(steps, initial=(3 << 20) + 5)  # type: ignore[arg-type]
    bar.update(1 << 19)
    bar.update(1 << 19)
    assert steps.at == 4
