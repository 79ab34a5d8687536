"""Two processes over gloo against one: the same losses and weights under every strategy, resumed and not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import PhaseFailed
from components.shared.training.settings import EngineSettings
from tests.contract.distributed import training, two_ranks
from tests.contract.distributed.worker import RESUMED, RUNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the ranks left; a rank before them was killed while it built an operator of DeepSpeed's."""
    place = tmp_path_factory.mktemp("ranks")
    (Path(cpp_extension._get_build_directory("deepspeed_shm_comm", verbose=False)) / "lock").touch()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    for rank in two_ranks.start("tests.contract.distributed.worker", [place], environment):
        assert rank.wait(550) == 0, rank.output
    return place


@pytest.fixture(scope="module")
def alone():
    """The same runs in one process, by adapter, optimiser, Grokfast and average."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield {
        (adapter, *how): training.train(EngineSettings(adapter=adapter, adapter_rank=4), *how)
        for adapter, *how in {(run.engine.get("adapter", "none"), *run[1:]) for run in RUNS.values()}
    }
    torch.set_num_threads(threads)


def apart(one, other):
    """The largest differences of losses, norms and weights."""
    losses, norms = (max(abs(a - b) for a, b in zip(one[i], other[i], strict=True)) for i in (0, 1))
    assert one[2].keys() == other[2].keys()
    return losses, norms, max(float((one[2][name] - other[2][name]).abs().max()) for name in one[2])


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_learn_what_one_process_learns(folder, alone, name):
    settings, optimizer, grokfast, average = RUNS[name]
    bound = 1e-6 if grokfast or optimizer == "muon" else 1e-4 if name.startswith("zero") else 1e-5
    one = alone[settings.get("adapter", "none"), optimizer, grokfast, average]
    assert max(apart(torch.load(folder / f"{name}.pt"), one)) < bound


@pytest.mark.parametrize("name", RESUMED)
def test_resumed_on_as_many_ranks_the_weights_are_the_same_to_the_last_bit(folder, name):
    undisturbed = torch.load(folder / f"{name}.pt")
    resumed = torch.load(folder / f"resumed {name}.pt")
    assert all(torch.equal(undisturbed[2][name], tensor) for name, tensor in resumed[2].items())
    assert undisturbed[0][-len(resumed[0]) :] == resumed[0]


@pytest.mark.parametrize("name", RESUMED)
def test_each_rank_keeps_its_own_shard_and_another_number_of_ranks_is_refused_by_name(folder, name):
    place = folder / f"checkpoints {name}"
    [checkpoint] = (path for path in place.rglob("*-step-*") if path.is_dir())
    names = {path.name for path in checkpoint.iterdir()}
    assert {"rank-00000.safetensors", "rank-00001.safetensors", "tensors.safetensors", "state.json"} <= names
    with pytest.raises(PhaseFailed, match="written by 2 ranks, and there are 1"):
        Checkpoints(str(place), "0" * 64, say=lambda text: None).restore()


def test_bfloat16_computes_in_fewer_bits_and_learns_in_float32(folder, alone):
    reduced, whole = torch.load(folder / "bfloat16.pt"), alone["none", "adamw", False, False]
    assert all(tensor.dtype == torch.float32 for tensor in reduced[2].values())
    assert 1e-4 < apart(reduced, whole)[0] < 0.1


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(folder):
    texts = {(folder / f"diverged {rank}.txt").read_text() for rank in (0, 1)}
    assert len(texts) == 1 and "the loss is nan at step 3" in texts.pop()


def test_ranks_leave_when_all_training_is_done(folder):
    assert (folder / "left").exists()
