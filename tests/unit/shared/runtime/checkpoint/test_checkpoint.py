"""Checkpoints: whole or not there, the last two, bit for bit, without pickle."""

from __future__ import annotations

import json
import math
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from components.shared.runtime import stopping
from components.shared.runtime.checkpoint import checkpoints as checkpoints_module
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import Interrupted, StoreError
from components.shared.runtime.store.s3 import S3Store

IDENTITY = "ab" * 32


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def checkpoints(tmp_path: Path, said: list[str]) -> Checkpoints:
    return Checkpoints(str(tmp_path / "checkpoints"), IDENTITY, every=0, say=said.append)


@pytest.fixture(autouse=True)
def nobody_asks() -> Any:
    yield
    stopping.clear_stop_request()


def folder(checkpoints: Checkpoints, step: int) -> Path:
    [found] = Path(checkpoints.uri).glob(f"*-step-{step:08d}")
    return found


def save(checkpoints: Checkpoints, *steps: int) -> None:
    for step in steps:
        checkpoints.save(step, {"weight": torch.full((3,), float(step))}, {"step": step})


def test_what_was_saved_comes_back(checkpoints: Checkpoints) -> None:
    tensors = {
        "bfloat16": torch.randn(3, 5).bfloat16(),
        "int64": torch.arange(4),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 2),
        "transposed": torch.randn(3, 4).t(),
    }
    state = {"loss": 0.1 + 0.2, "stage": "dream", "history": [1, None, True, {"x": -0.0}], "big": 2**77}
    checkpoints.save(7, tensors, state)
    found = checkpoints.restore()
    assert found is not None and found.step == 7
    assert found.state == state and math.copysign(1, found.state["history"][3]["x"]) == -1
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(found.tensors[name], tensor) and found.tensors[name].dtype == tensor.dtype


def test_without_a_checkpoint_there_is_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.restore() is None


def test_the_newest_is_restored_and_the_last_two_are_kept(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2, 30)
    found = checkpoints.restore()
    assert found is not None and found.step == 30
    assert sorted(path.name for path in Path(checkpoints.uri).iterdir()) == [
        "000002-step-00000002",
        "000003-step-00000030",
    ]


def test_another_identity_sees_nothing(checkpoints: Checkpoints, tmp_path: Path) -> None:
    save(checkpoints, 1)
    assert Checkpoints(str(tmp_path / "checkpoints"), "cd" * 32).restore() is None


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b"1",
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"format": 1}',
        b'{"step": 2}\n',
        lambda text: text.replace(b'"loss": 0.25', b'"loss": 0.35'),
        lambda text: text.replace(b'"step": 2,', b'"step": 7,', 1),
        lambda text: text.replace(b'"mark": 0', b'"mark": 9'),
        lambda text: text.replace(b" ", b"  ", 1),
    ],
)
def test_no_changed_byte_of_a_state_is_gone_on_from(
    checkpoints: Checkpoints, said: list[str], text: Any
) -> None:
    for step in (1, 2):
        checkpoints.save(step, {"weight": torch.full((3,), float(step))}, {"loss": 0.25})
    state = folder(checkpoints, 2) / "state.json"
    before = state.read_bytes()
    state.write_bytes(text if isinstance(text, bytes) else text(before))
    assert state.read_bytes() != before
    found = checkpoints.restore()
    assert found is not None and found.step == 1 and found.state == {"loss": 0.25}
    assert any("step-00000002 is damaged" in line for line in said)


def test_of_two_hundred_mutations_of_a_state_none_is_gone_on_from(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2)
    state = folder(checkpoints, 2) / "state.json"
    before, chance = state.read_bytes(), random.Random(6)
    for _ in range(200):
        text = bytearray(before)
        for _ in range(chance.randint(1, 3)):
            text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        state.write_bytes(text[: chance.choice([len(text), chance.randrange(len(text))])])
        found = checkpoints.restore()
        assert found is not None and (found.step == 1 or state.read_bytes() == before)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing tensors", "half a state", "wrong state"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(
    checkpoints: Checkpoints, said: list[str], damage: str
) -> None:
    save(checkpoints, 1, 2)
    tensors, state = folder(checkpoints, 2) / "tensors.safetensors", folder(checkpoints, 2) / "state.json"
    data = bytearray(tensors.read_bytes())
    if damage == "flipped":
        data[-1] ^= 1
        tensors.write_bytes(data)
    elif damage == "truncated":
        tensors.write_bytes(data[:-4])
    elif damage == "missing tensors":
        tensors.unlink()
    elif damage == "half a state":
        state.write_text(state.read_text()[:40])
    else:
        state.write_text(json.dumps(json.loads(state.read_text()) | {"identity": "other"}))
    found = checkpoints.restore()
    assert found is not None and found.step == 1 and found.tensors["weight"][0] == 1
    assert any("step-00000002 is damaged" in line for line in said)


def test_a_checkpoint_whose_state_was_never_written_does_not_exist(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2)
    (folder(checkpoints, 2) / "state.json").unlink()
    found = checkpoints.restore()
    assert found is not None and found.step == 1
    save(checkpoints, 3)
    assert not list(Path(checkpoints.uri).glob("*-step-00000002"))


def test_the_newest_is_the_one_written_last_whatever_its_step(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    save(checkpoints, 500)
    again = Checkpoints(str(tmp_path / "checkpoints"), IDENTITY)
    save(again, 3)  # the second stage of a phase counts from the beginning
    found = again.restore()
    assert found is not None and found.step == 3


def test_a_kill_while_the_same_step_is_saved_again_loses_nothing(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 2)

    def dies(key: str, data: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.store, "put", dies)
    with pytest.raises(KeyboardInterrupt):
        save(checkpoints, 2)
    found = checkpoints.restore()
    assert found is not None and found.step == 2


def test_parts_add_up_in_the_order_of_writing_and_a_damaged_one_is_left_out(
    checkpoints: Checkpoints, said: list[str]
) -> None:
    for step in range(1, 5):
        checkpoints.append(step, {"t": torch.full((step,), float(step))}, {"found": step})
    assert [(part.step, part.state["found"], len(part.tensors["t"])) for part in checkpoints.parts()] == [
        (step, step, step) for step in range(1, 5)
    ]
    tensors = folder(checkpoints, 2) / checkpoints_module.TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-1])
    assert [part.step for part in checkpoints.parts()] == [1, 3, 4]
    assert len(said) == 1 and "damaged" in said[0]


def test_clear_leaves_nothing(checkpoints: Checkpoints) -> None:
    save(checkpoints, 1, 2)
    checkpoints.clear()
    assert checkpoints.restore() is None and not Path(checkpoints.uri).exists()


def test_a_bucket_is_as_good_as_a_folder(s3_uri: str, said: list[str]) -> None:
    checkpoints = Checkpoints(f"{s3_uri}/some/where", IDENTITY, say=said.append)
    assert checkpoints.restore() is None
    save(checkpoints, 1, 2, 3)
    checkpoints.store.put("000003-step-00000003/tensors.safetensors", b"rubbish")
    found = Checkpoints(f"{s3_uri}/some/where", IDENTITY, say=said.append).restore()
    assert found is not None and found.step == 2 and found.tensors["weight"].tolist() == [2, 2, 2]
    assert any("damaged" in line for line in said)
    checkpoints.clear()
    assert checkpoints.store.list() == []


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "loop", "unreadable"])
def test_what_is_no_file_of_a_checkpoint_is_damage(
    checkpoints: Checkpoints, said: list[str], file: str, kind: str
) -> None:
    save(checkpoints, 1, 2)
    path = folder(checkpoints, 2) / file
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.name if kind == "loop" else "/proc/self/mem")
    found = checkpoints.restore()
    assert found is not None and found.step == 1


@pytest.mark.parametrize("file", ["state.json", "tensors.safetensors"])
def test_an_object_that_is_not_what_was_stored_falls_back_to_the_checkpoint_before(
    s3_uri: str, said: list[str], file: str
) -> None:
    checkpoints = Checkpoints(s3_uri, IDENTITY, say=said.append)
    save(checkpoints, 1, 2)
    store = checkpoints.store
    assert isinstance(store, S3Store)
    key = f"{store.prefix}000002-step-00000002/{file}"
    head = store.client.head_object(Bucket=store.bucket, Key=key)
    store.client.put_object(Bucket=store.bucket, Key=key, Body=b"rot", Metadata=head["Metadata"])
    found = checkpoints.restore()
    assert found is not None and found.step == 1
    assert any("step-00000002 is damaged" in line for line in said)


def test_a_store_that_cannot_be_reached_is_an_error_and_no_damage(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(checkpoints, 1, 2)

    def away(key: str) -> bytes:
        raise StoreError("the store does not answer", transient=True)

    monkeypatch.setattr(checkpoints.store, "get", away)
    with pytest.raises(StoreError, match="does not answer"):
        checkpoints.restore()


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"a": {1: 2}}, "the key 1"),
        ({"a": [np.float32(1)]}, r"\['a'\]\[0\]"),
        ({"a": torch.ones(1)}, "Tensor"),
    ],
)
def test_a_state_that_json_would_change_is_refused(
    checkpoints: Checkpoints, state: dict[str, Any], place: str
) -> None:
    with pytest.raises(TypeError, match=place):
        checkpoints.save(1, {}, state)


def test_tied_and_overlapping_tensors_survive(checkpoints: Checkpoints) -> None:
    whole = torch.randn(4, 4)
    checkpoints.save(1, {"embed": whole, "head": whole, "row": whole[1], "column": whole[:, 2]}, {})
    found = checkpoints.restore()
    assert found is not None
    assert torch.equal(found.tensors["head"], whole) and found.tensors["head"] is found.tensors["embed"]
    assert torch.equal(found.tensors["row"], whole[1]) and torch.equal(found.tensors["column"], whole[:, 2])


def test_a_checkpoint_is_due_when_the_time_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(str(tmp_path), IDENTITY, every=30)
    assert not checkpoints.due()
    now[0] += 31
    assert checkpoints.due()
    save(checkpoints, 1)
    assert not checkpoints.due()


def test_saving_takes_at_most_a_tenth_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
    checkpoints = Checkpoints(str(tmp_path), IDENTITY, every=1)
    put = checkpoints.store.put

    def slow(key: str, data: Any) -> None:
        now[0] += 10
        put(key, data)

    monkeypatch.setattr(checkpoints.store, "put", slow)
    save(checkpoints, 1)
    now[0] += 100
    assert not checkpoints.due()
    now[0] += 101
    assert checkpoints.due()


def test_sigterm_makes_a_checkpoint_due_and_ends_the_phase_behind_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path), IDENTITY, every=3600)
    checkpoints.stop_if_asked()
    before = signal.signal(signal.SIGTERM, stopping.request_stop)
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert checkpoints.due()
    save(checkpoints, 1)
    with pytest.raises(Interrupted):
        checkpoints.stop_if_asked()
