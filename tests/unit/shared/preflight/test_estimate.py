"""What a run takes: shapes read from configs, terms that follow the settings, and refusals that name the cure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.shared.preflight import estimate
from components.shared.preflight.shape import ModelShape, of_cognate, of_config, read
from components.shared.preflight.throughput import Machine
from components.shared.runtime.errors import ConfigError, InputError
from pipelines.cluster import load
from pipelines.costs import bytes_of, costs_of, fitting_pods, shape_of
from pipelines.settings import composed
from tests.shapes import FAMILIES, config

GIB = 1 << 30
LARGE = Machine("a CPU", 1e11, 1 << 50, 0, 0, 1 << 50)
H100 = Machine("a GPU of 80 GB", 3e14, 512 * GIB, 80 * GIB, 1, 4096 * GIB)
SEVEN = ModelShape(
    hidden=3584,
    inner=18944,
    layers=28,
    heads=28,
    kv_heads=4,
    head=128,
    vocabulary=152064,
    positions=32768,
    tied=False,
    stored=2,
)
"""Qwen2.5-7B's."""


@pytest.mark.parametrize("family", FAMILIES)
def test_the_parameters_of_a_config_are_those_of_the_model(family):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config(family))
    counted = of_config(config(family).to_dict()).parameters
    assert abs(counted / model.num_parameters() - 1) < 0.02  # biases and positions of GPT-2 are left out


def test_a_model_of_seven_billion_parameters_is_counted_as_such():
    assert abs(SEVEN.parameters / 7.6e9 - 1) < 0.01


def test_a_config_that_says_no_decoder_is_refused_by_the_number_that_is_missing(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 8, "num_attention_heads": 2}))
    with pytest.raises(InputError, match="num_hidden_layers"):
        read(tmp_path)


def test_nothing_of_it_loads_torch():
    code = (
        "import sys; from pipelines.costs import costs_of, this_machine; from pipelines.settings import composed\n"
        "assert costs_of([], composed(profile='tiny'), this_machine()); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[4], timeout=120)


def costs(*overrides: str, profile: str = "hf-7b", machine: Machine = H100, shape: ModelShape = SEVEN):
    configs = composed(profile=profile, overrides=overrides)
    return {cost.phase: cost for cost in estimate.estimate(shape, configs, machine)}


def test_adapters_checkpointing_and_offload_each_make_their_term_smaller():
    whole = costs("training.engine={adapter: none, precision: float32, gradient_checkpointing: false}")[
        "training"
    ]
    recomputed = costs("training.engine={adapter: none, precision: float32, gradient_checkpointing: true}")[
        "training"
    ]
    adapted = costs("training.engine={adapter: lora, precision: bfloat16, gradient_checkpointing: true}")[
        "training"
    ]
    offloaded = costs("training.engine={adapter: none, strategy: zero3, offload: true}")["training"]
    assert recomputed.terms["activations"] < whole.terms["activations"] / 4
    assert adapted.terms["weights"] == whole.terms["weights"] / 2 and "optimiser states" not in adapted.terms
    assert offloaded.device < whole.device / 2 and offloaded.host > 3 * whole.terms["weights"]


def test_what_cannot_fit_is_refused_with_its_largest_terms_and_the_setting_to_change():
    small = Machine("a GPU of 8 GB", 1e13, 16 * GIB, 8 * GIB, 1, 4096 * GIB)
    with pytest.raises(ConfigError) as caught:
        estimate.refuse_what_cannot_fit(list(costs(machine=small).values()), small)
    assert "bitnet needs" in str(caught.value) and "GPU memory" in str(caught.value)
    assert "engine." in str(caught.value)
    estimate.refuse_what_cannot_fit(list(costs(machine=LARGE, profile="tiny").values()), LARGE)


def test_cognates_are_estimated_from_their_geometry_and_a_given_model_from_its_config(tmp_path):
    configs = composed(profile="tiny")
    cognates = shape_of([], configs)
    assert cognates == of_cognate(configs["cognate"].settings.model)
    (tmp_path / "config.json").write_text(json.dumps(config("llama").to_dict()))
    given = shape_of([str(tmp_path)], configs)
    assert given is not None and given.hidden == 64
    assert [cost.phase for cost in costs_of([str(tmp_path)], configs, LARGE)] == list(configs)
    assert shape_of(["s3://bucket/model"], configs) is None


def test_seven_billion_parameters_learn_on_one_gpu_of_80_gb_at_the_settings_of_their_profile():
    found = costs()
    assert set(found) == set(composed(profile="hf-7b"))
    assert not estimate.problems([found[name] for name in found if name not in ("evomerge", "adas")], H100)


def test_a_phase_that_outgrows_its_pod_is_refused_before_it_is_submitted(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(config("llama").to_dict() | {"hidden_size": 8192, "num_hidden_layers": 64})
    )
    configs = composed(profile="hf-7b")
    with pytest.raises(ConfigError, match="cannot fit"):
        fitting_pods([str(tmp_path)], configs, load("default"))
    assert {cost.phase for cost in fitting_pods([], composed(profile="tiny"), load("default"))} == set(
        configs
    )


def test_amounts_of_kubernetes_are_bytes():
    assert [bytes_of(q) for q in ("2Gi", "1.5G", "100")] == [2 << 30, 1_500_000_000, 100]
