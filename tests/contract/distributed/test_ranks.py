"""A phase over two ranks as processes: the artifact of one process, and what happens when a rank is killed."""

from __future__ import annotations

import json
import signal
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from components.shared.runtime.errors import PhaseFailed
from tests.contract import killing
from tests.contract.distributed import two_ranks
from tests.contract.forked import DEADLINE, Forked
from tests.contract.killing import has_checkpoint

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
    return output, finished(output, RANKS)


def started(output, arguments):
    """The two ranks of the phase."""
    output.parent.mkdir(exist_ok=True)
    return two_ranks.start(
        "components.cognate", ["--output", output, *arguments], killing.quiet(output.parent)
    )


def finished(output, arguments):
    """Run both ranks to their end; the digest of what they published."""
    for rank in started(output, arguments):
        assert rank.wait() == 0, rank.output
    return json.loads((output / "forge.json").read_text())["digest"]


def wait_for_checkpoint(process, folder):
    deadline = time.monotonic() + DEADLINE
    while not has_checkpoint(folder):
        assert process.poll() is None and time.monotonic() < deadline, process.output
        time.sleep(0.01)


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
    wait_for_checkpoint(process, tmp_path)
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


def test_a_rank_that_is_killed_loses_no_shard_of_weights_or_states(tmp_path):
    sharded = [*TRUNK, "cognate.engine={strategy: fsdp, processes: 2}", "cognate.checkpoint_seconds=0"]
    output = tmp_path / "killed" / "out"
    survivor, victim = started(output, sharded)
    wait_for_checkpoint(victim, tmp_path)
    victim.send_signal(signal.SIGKILL)
    assert survivor.wait() == PhaseFailed.exit_code, survivor.output
    assert "another rank of the group is gone" in survivor.output and not output.exists()
    assert finished(output, sharded) == finished(tmp_path / "undisturbed" / "out", sharded)
