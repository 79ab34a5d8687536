"""What a run takes: shapes read from configs, terms that follow the settings, and refusals that name the cure."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from components.shared.preflight import estimate
from components.shared.preflight.cures import CURES, cure_of
from components.shared.preflight.shape import ModelShape, of_cognate, of_config, read
from components.shared.preflight.throughput import Machine
from components.shared.runtime.errors import ConfigError, InputError
from pipelines.cli.rendering.plan import said
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
    assert adapted.terms["weights"] == whole.terms["weights"] and "optimiser states" not in adapted.terms
    assert offloaded.device < whole.device - whole.terms["optimiser states"]
    assert offloaded.host > 5 * whole.terms["weights"]


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


def test_seven_billion_parameters_pass_all_but_training_and_adas_on_one_gpu_of_80_gb():
    found = costs()
    assert set(found) == set(composed(profile="hf-7b"))
    assert not estimate.problems([found[name] for name in found if name not in ("training", "adas")], H100)
    wrong = estimate.problems(list(found.values()), H100)
    assert [line.split()[0] for line in wrong] == ["training", "adas"]
    assert "weight average of stabilisation" in found["training"].terms and "without adas" in wrong[1]


def test_a_learnt_model_is_counted_in_float32_by_the_phases_after():
    found = costs()
    assert found["adas"].terms["weights"] == 2 * found["cognate"].terms["weights"]
    assert found["training"].terms["weights"] == found["adas"].terms["weights"]


def test_a_model_in_shards_is_whole_on_each_device_between_loops():
    eight = replace(H100, gpus=8)
    for strategy in ("fsdp", "zero3"):
        engine = (
            f"quietstar.engine={{strategy: {strategy}, offload: false, processes: auto, precision: float32}}"
        )
        cost = costs(engine, machine=eight)["quietstar"]
        assert cost.processes == 8 and cost.device > 4 * SEVEN.parameters
        assert cost.terms["optimiser states"] == SEVEN.parameters


def test_ranks_of_one_machine_share_its_memory():
    engine = "quietstar.engine={strategy: zero3, offload: true, processes: auto}"
    one, eight = (costs(engine, machine=replace(H100, gpus=gpus))["quietstar"] for gpus in (1, 8))
    assert (
        one.host < eight.host < 3 * one.host
    )  # states once in all, models that are read and written once a rank
    alone = costs(engine, machine=LARGE)["quietstar"]
    pair = costs(engine.replace("auto", "2"), machine=LARGE)["quietstar"]
    assert pair.processes == 2 and pair.host > alone.host


def test_a_variant_of_a_given_model_is_counted_while_it_learns():
    def taken(*overrides: str, varied: bool) -> estimate.PhaseCost:
        configs = composed(["cognate"], profile="hf-small", overrides=overrides)
        [cost] = estimate.estimate(SEVEN, configs, LARGE, varied=varied)
        return cost

    as_it_is, learnt = taken(varied=False), taken(varied=True)
    assert learnt.host > as_it_is.host and learnt.hours > as_it_is.hours
    assert "adapters, their gradients and states" in learnt.terms
    assert "optimiser states" in taken("cognate.given.trains=all", varied=True).terms


def test_gram_matrices_are_counted_in_memory_where_they_are_summed_in_it():
    small = replace(SEVEN, hidden=576, inner=1536, layers=30, heads=9, kv_heads=3, head=64, vocabulary=49152)
    for shape, held in ((small, 8 * small.inputs), (SEVEN, 8 * SEVEN.inputs / SEVEN.layers)):
        configs = composed(["cognate"], profile="hf-small")
        [cost] = estimate.estimate(shape, configs, LARGE)
        assert cost.terms["Gram matrices"] == int(held)


def test_what_is_advised_are_settings_that_the_phase_takes():
    advised = {
        (phase, *(word for word in cure.split() if word.startswith(f"{phase}.") and "=" in word))
        for phase, composition in composed(["quietstar", "baking", "adas"], profile="hf-7b").items()
        for term in CURES
        for cure in cure_of(phase, composition.settings, {term: 1}).split("; or ")
    }
    for phase, *settings in sorted(advised):
        assert not settings or composed([phase], profile="hf-7b", overrides=settings)


def test_advice_names_no_setting_that_is_refused_or_set_already():
    configs = composed(profile="hf-7b")
    assert "adapter" not in cure_of("bitnet", configs["bitnet"].settings, {"optimiser states": 1})
    assert "checkpointing" not in cure_of("bitnet", configs["bitnet"].settings, {"activations": 1})
    assert "training.engine.gradient_checkpointing=true" in cure_of(
        "training", composed(profile="tiny")["training"].settings, {"activations": 1}
    )
    assert "adas.svf.samples=4" in cure_of("adas", configs["adas"].settings, {"activations": 1})


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


def test_a_model_whose_shape_is_not_known_yet_is_planned_with_a_word_on_its_cost():
    assert costs_of(["s3://bucket/model"], composed(profile="tiny"), LARGE) == []
    assert said([]) == [
        "by arithmetic: not known before the model is fetched: its address does not give its shape"
    ]


def test_amounts_of_kubernetes_are_bytes():
    assert [bytes_of(q) for q in ("2Gi", "1.5G", "100")] == [2 << 30, 1_500_000_000, 100]
