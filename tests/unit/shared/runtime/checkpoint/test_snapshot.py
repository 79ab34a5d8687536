"""Snapshots: a loop restored in the middle ends as if nothing had happened."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.checkpoint.state_codec import pack, unpack
from components.shared.runtime.errors import PhaseFailed


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(str(tmp_path / "checkpoints"), "ab" * 32)


class Pair:
    """Muon for matrices and AdamW for the rest behind one state_dict, with a float and an integer-keyed table."""

    def __init__(self, model: nn.Module) -> None:
        matrices = [p for p in model.parameters() if p.ndim == 2]
        rest = [p for p in model.parameters() if p.ndim != 2]
        self.parts = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=0.01)]
        self.momentum = 0.1
        self.average = {0: torch.zeros(2)}

    def step(self) -> None:
        for part in self.parts:
            part.step()
        self.momentum = self.momentum * 0.7 + 0.1
        self.average = {0: self.average[0] * 0.9 + torch.rand(2)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "parts": [p.state_dict() for p in self.parts],
            "momentum": self.momentum,
            "average": self.average,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        self.momentum, self.average = state["momentum"], state["average"]


class Loop:
    """A training loop which draws from every kind of generator."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.3), nn.Linear(6, 4))
        self.pair = Pair(self.model)
        self.single = torch.optim.AdamW(self.model.parameters(), lr=torch.tensor(0.001), amsgrad=True)
        self.generator = torch.Generator().manual_seed(2)
        self.numpy = np.random.default_rng(3)
        self.python = random.Random(4)
        self.snapshot = Snapshot(
            {"model": self.model},
            {"pair": self.pair, "single": self.single},
            {"torch": self.generator, "numpy": self.numpy, "python": self.python},
            {"losses": []},
        )

    def steps(self, number: int) -> None:
        for _ in range(number):
            x = torch.randn(8, 4, generator=self.generator) * (1 + random.random()) + np.random.rand()
            loss = (self.model(x) - x * self.numpy.random() + self.python.gauss(0, 1)).square().mean()
            self.model.zero_grad()
            loss.backward()
            self.pair.step()
            self.single.step()
            self.snapshot.state["losses"].append(loss.item())


def test_a_loop_restored_in_the_middle_ends_as_if_nothing_had_happened(checkpoints: Checkpoints) -> None:
    whole = Loop()
    whole.steps(7)
    broken = Loop()
    broken.steps(3)
    broken.snapshot.save(checkpoints, 3)
    broken.steps(2)  # lost work
    resumed = Loop()
    random.random(), np.random.rand(), torch.rand(3)
    assert resumed.snapshot.restore(checkpoints) and resumed.snapshot.step == 3
    resumed.steps(4)
    assert resumed.snapshot.state == whole.snapshot.state
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    first, second = {}, {}
    assert pack(whole.pair.state_dict(), "", first) == pack(resumed.pair.state_dict(), "", second)
    assert all(torch.equal(first[name], second[name]) for name in first | second)


def test_restoring_from_nothing_changes_nothing(checkpoints: Checkpoints) -> None:
    loop = Loop()
    before = torch.get_rng_state()
    assert not loop.snapshot.restore(checkpoints)
    assert torch.equal(before, torch.get_rng_state()) and loop.snapshot.step == 0


def test_a_snapshot_with_other_parts_than_the_checkpoint_is_refused(checkpoints: Checkpoints) -> None:
    Snapshot({"model": nn.Linear(2, 2)}).save(checkpoints, 1)
    with pytest.raises(PhaseFailed, match=r"\['head', 'model'\].*\['model'\]"):
        Snapshot({"model": nn.Linear(2, 2), "head": nn.Linear(2, 2)}).restore(checkpoints)


def test_tied_weights_stay_tied_after_a_restore(checkpoints: Checkpoints) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(5, 3)
            self.head = nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    saved, restored = Tied(), Tied()
    Snapshot({"model": saved}).save(checkpoints, 1)
    Snapshot({"model": restored}).restore(checkpoints)
    assert restored.head.weight is restored.embed.weight
    assert torch.equal(restored.embed.weight, saved.embed.weight)


def test_nothing_in_a_checkpoint_is_a_pickle(checkpoints: Checkpoints) -> None:
    loop = Loop()
    loop.steps(1)
    loop.snapshot.save(checkpoints, 1)
    files = sorted(path.name for path in Path(checkpoints.uri).glob("*/*"))
    assert files == ["state.json", "tensors.safetensors"]
    with pytest.raises(TypeError, match="without pickle"):
        Snapshot(optimizers={"odd": OddOptimizer()}).save(checkpoints, 2)


class OddOptimizer:
    def state_dict(self) -> dict[str, Any]:
        return {"function": len}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        raise AssertionError


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 9) | st.just("$"), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(NESTED)
def test_packing_through_json_is_the_identity(value: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    back = unpack(json.loads(json.dumps(pack(value, "x", tensors))), tensors)
    assert back == value and repr(back) == repr(value)
