"""What carries a training loop: what goes together, and what is refused by name before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError

from components.shared.runtime.config.settings import model_of
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.batches import Batch
from components.shared.training.ahead import Ahead
from components.shared.training.loop import rows_in_part, share_of_rank
from components.shared.training.settings import EngineSettings
from pipelines.settings import composed

PHASES = ("cognate", "quietstar", "bitnet", "training", "baking", "adas", "compression")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"processes": 2}, "choose ddp, fsdp or zero1"),
        ({"strategy": "ddp", "nodes": 2}, "set launcher: trainjob"),
        ({"launcher": "trainjob"}, "makes a group of ranks"),
        ({"strategy": "ddp", "offload": True}, "choose fsdp or zero1"),
        ({"strategy": "zero3", "adapter": "qlora"}, "4 bits cannot be cut"),
        ({"strategy": "zero2", "compile": True}, "does not go with DeepSpeed"),
        ({"strategy": "ddp", "processes": 0}, "1 to 1024, or auto"),
    ],
)
def test_what_cannot_go_together_is_refused_with_what_would(settings, says):
    with pytest.raises(ValidationError, match=says):
        EngineSettings(**settings)


def test_a_refusal_says_its_reason_without_the_section_in_front_of_it():
    with pytest.raises(ConfigError) as caught:
        composed(["bitnet"], overrides=["bitnet.engine.adapter=lora"])
    why = str(caught.value)
    assert "]: adapter lora: a ternary network" in why
    assert "{" not in why and "set engine.adapter: none" in why


@pytest.mark.parametrize("strategy", ["zero1", "zero2", "zero3"])
def test_muon_is_refused_where_the_optimiser_sees_flat_pieces(strategy):
    engine = EngineSettings(strategy=strategy)
    with pytest.raises(ValueError, match="whole matrices orthogonal"):
        engine.check_optimizer("muon")
    engine.check_optimizer("adamw")


def test_thoughts_are_refused_where_layers_keep_no_keys_and_values():
    with pytest.raises(ConfigError, match="keys and values"):
        composed(["quietstar"], overrides=["quietstar.engine.gradient_checkpointing=true"])


def test_every_training_phase_has_an_engine_that_changes_nothing_by_default():
    assert all(model_of(phase).model_fields["engine"].default == EngineSettings() for phase in PHASES)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_drawn_ahead_are_those_of_their_step(workers):
    drawn = []

    def draw(step, opening):
        drawn.append((step, opening))
        ids = torch.tensor([[step, int(opening)]])
        return [Batch(ids, ids, ids)]

    ahead = Ahead(draw, workers)
    taken = [ahead(step, step < 2)[0].input_ids.tolist() for step in range(4)]
    ahead.close()
    assert taken == [[[step, int(step < 2)]] for step in range(4)]
    assert (len(drawn) > 4) is (workers > 0)


def test_settings_load_no_torch():
    code = "import sys, components.shared.training.settings; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_alone_all_parts_are_ones_own_and_accumulation_cuts_the_rows():
    parts = [("a", 0.5), ("b", 0.5)]
    assert share_of_rank(parts) == parts
    assert rows_in_part(64, 64, EngineSettings()) == 64
    assert rows_in_part(64, 64, EngineSettings(accumulate=3)) == 22
