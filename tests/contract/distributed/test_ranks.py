"""A phase over two ranks as processes: the artifact of one process, and what happens when a rank is killed."""

from __future__ import annotations

import signal
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from components.shared.runtime.errors import PhaseFailed
from tests.contract import killing
from tests.contract.forked import DEADLINE, Forked

STEPS = 60
TRUNK = [
    *("--step", "trunk", f"cognate.trunk.steps={STEPS}", "cognate.trunk.threads=1", "cognate.threads=1"),
    "cognate.model={hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2}",
    *("cognate.batch=8", "evaluation.items=16"),
]
RANKS = [*TRUNK, "cognate.engine={strategy: ddp, processes: 2}"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder and digest of a run over two ranks that nobody kills."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    return output, killing.run("cognate", output, RANKS)


def test_two_ranks_publish_what_one_process_publishes(undisturbed, tmp_path):
    killing.run("cognate", tmp_path / "one", TRUNK)
    one, two = (load_file(folder / "model.safetensors") for folder in (tmp_path / "one", undisturbed[0]))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=0)


def test_a_rank_that_is_killed_fails_the_phase_which_resumes_to_the_same_digest(undisturbed, tmp_path):
    output = tmp_path / "out"
    slow = [*RANKS, "cognate.checkpoint_seconds=0"]
    process = Forked("components.cognate", ["--output", output, *slow], killing.quiet(tmp_path))
    deadline = time.monotonic() + DEADLINE
    while not list(tmp_path.rglob("state.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.output
        time.sleep(0.01)
    [victim] = (
        each
        for each in psutil.Process(process.pid).children(recursive=True)
        if each.environ().get("RANK") == "1"
    )
    victim.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == PhaseFailed.exit_code, process.output
    assert "rank 1 of 2 was killed" in process.output and not output.exists()
    assert killing.run("cognate", output, slow) == undisturbed[1]
