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

from components.baking import bake
from components.compression import recovery
from components.shared.evaluation import answers
from components.shared.preflight import estimate, phases
from components.shared.preflight.cures import CURES, cure_of
from components.shared.preflight.shape import ModelShape, of_cognate, of_config, read, tied_by_default
from components.shared.preflight.throughput import Machine
from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.store.uri import open_store
from pipelines.cli.rendering.plan import said
from pipelines.cluster import load
from pipelines.costs import bytes_of, costs_of, fitting_pods, shape_of
from pipelines.settings import composed
from tests import shapes
from tests.shapes import FAMILIES, config
from tests.unit.shared.base_models import test_gguf

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


def test_zero_1_offloads_the_states_and_keeps_the_gradients_on_the_device():
    first, second = (
        costs(f"training.engine={{adapter: none, strategy: zero{stage}, offload: true}}")["training"]
        for stage in (1, 2)
    )
    assert first.device == second.device + first.terms["gradients"]
    assert first.host == second.host


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


def test_seven_billion_parameters_pass_every_phase_on_one_gpu_of_80_gb():
    found = costs()
    assert set(found) == set(composed(profile="hf-7b"))
    assert not estimate.problems(list(found.values()), H100)
    wrong = estimate.problems(list(found.values()), replace(H100, gpu=48 * GIB))
    assert {"training", "adas"} <= {line.split()[0] for line in wrong}


def test_what_a_stage_found_is_kept_in_host_memory_or_beneath_a_change():
    beneath = costs()["training"]
    beside = costs("training.engine.adapter=none")["training"]
    assert "model before the stage" not in " ".join(beneath.terms)
    assert beside.terms["model before the stage (host)"] == 4 * SEVEN.parameters
    assert beside.terms["weight average of stabilisation"] == 4 * SEVEN.parameters
    assert beneath.terms["weight average of stabilisation"] < 0.02 * 4 * SEVEN.parameters


def test_singular_vectors_are_counted_in_host_memory_and_regmean_where_it_is_a_method():
    adas = costs()["adas"]
    assert adas.terms["singular vectors (host)"] == 4 * SEVEN.singular and adas.host > 4 * SEVEN.singular
    fitted = "RegMean's widest layer"
    assert fitted not in costs()["evomerge"].terms
    assert fitted in costs("evomerge.methods=[linear, regmean]")["evomerge"].terms


def test_what_passes_together_is_bounded_as_the_phases_bound_it():
    assert (phases.LONG, phases.BAKED) == (answers.CHARACTERS, bake.ROWS)
    assert phases.PARTS == recovery.PARTS
    few, many = (costs(f"evaluation.batch={rows}")["evomerge"] for rows in (512, 1024))
    assert few.terms["one layer's numbers"] == many.terms["one layer's numbers"]


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


def test_a_teacher_beside_a_student_that_learns_on_a_cpu_is_counted_a_module_at_a_time():
    on_cpu = costs("bitnet.engine.precision=float32", machine=LARGE)["bitnet"]
    on_gpu = costs("bitnet.engine.precision=float32")["bitnet"]
    assert on_cpu.terms["teacher"] == 4 * SEVEN.vocabulary * SEVEN.hidden
    assert on_gpu.terms["teacher"] == 4 * SEVEN.parameters
    assert on_cpu.disk == on_gpu.disk + 4 * SEVEN.parameters


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


@pytest.mark.parametrize("family", ["gemma", "llama", "gpt2"])
def test_a_config_that_does_not_say_whether_its_embedding_is_tied_is_taken_as_transformers_takes_it(family):
    said = config(family).to_dict()
    silent = {name: value for name, value in said.items() if name != "tie_word_embeddings"}
    assert of_config(silent).tied == type(config(family))().tie_word_embeddings
    assert of_config({**silent, "tie_word_embeddings": True}).tied
    inside = {"text_config": silent, "tie_word_embeddings": False}
    assert not of_config(inside).tied, "what the config around it says holds for the text model in it"


def test_gemmas_inside_of_larger_models_are_tied_by_default_and_what_is_not_known_is_not():
    assert [tied_by_default(name) for name in ("gemma3_text", "gemma2", "qwen2", "no_such")] == [
        True,
        True,
        False,
        False,
    ]


def test_of_a_model_in_a_store_the_config_alone_is_read(s3_uri, tmp_path):
    configs = composed(["cognate"], profile="hf-small")
    assert shape_of([f"{s3_uri}/model"], configs) is None  # nothing lies there
    (tmp_path / "config.json").write_text(json.dumps(config("qwen2").to_dict()))
    open_store(f"{s3_uri}/model").upload(tmp_path, "")
    assert shape_of([f"{s3_uri}/model"], configs) == read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    open_store(f"{s3_uri}/model").upload(tmp_path, "")
    with pytest.raises(InputError, match=r"config\.json cannot be read[\s\S]*s3://"):
        shape_of([f"{s3_uri}/model"], configs)


def test_the_head_of_a_gguf_file_says_the_shape_of_its_model(tmp_path):
    folder = shapes.make("llama", tmp_path / "llama")
    file = test_gguf.write(folder, tmp_path / "model.gguf")
    found = shape_of([str(file)], {})
    assert found == replace(read(folder), stored=4)
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="head of the GGUF file"):
        shape_of([str(file)], {})


def test_on_a_cpu_parents_are_pages_of_files_and_one_merged_model_is_in_memory():
    merged, on_gpu = costs(machine=LARGE)["evomerge"], costs()["evomerge"]
    assert merged.host < 20 * GIB < 70 * GIB < on_gpu.device
    assert merged.terms["merged model"] == SEVEN.stored * SEVEN.parameters and "parents" not in merged.terms
    fitted = costs("evomerge.methods=[linear, regmean]", machine=LARGE)["evomerge"]
    assert "Gram matrices of a tensor (host)" not in fitted.terms and fitted.host > merged.host


SMOLLM2 = replace(
    SEVEN, hidden=576, inner=1536, layers=30, heads=9, kv_heads=3, head=64, vocabulary=49152, tied=True
)


def test_a_text_that_calibrates_is_counted_a_row_of_it_forward_and_backward():
    text = ("compression.calibration.text=t.txt", "compression.calibration.row=512")
    items, row, half = (
        costs(*overrides, profile="hf-small", machine=LARGE, shape=replace(SMOLLM2, stored=4))["compression"]
        for overrides in ((), text, (*text, "compression.calibration.row=256"))
    )
    assert row.terms["logits of a row of text"] == 5 * 4 * 512 * SMOLLM2.vocabulary
    assert row.terms["activations of a row of text"] == 2 * half.terms["activations of a row of text"]
    assert row.host - items.host > 1.5 * GIB


@pytest.mark.parametrize("phase", ["bitnet", "training"])
def test_packed_rows_of_a_corpus_pass_the_network_together_and_are_counted(phase):
    given = (f"{phase}.batch=8", f"{phase}.rows=1", f"{phase}.row_tokens=512")
    engine = f"{phase}.engine={{adapter: none, precision: float32}}"
    of_items, of_text = (
        costs(*given, engine, f"{phase}.tasks={tasks}", profile="hf-small", machine=LARGE)[phase].terms[
            "activations"
        ]
        for tasks in ("{chain: 1}", "{chain: 1, 'corpus:owner/name@v1': 1}")
    )
    assert of_text > 4 * of_items


def test_a_model_whose_shape_is_not_known_yet_is_planned_with_a_word_on_its_cost(tmp_path):
    assert costs_of([str(tmp_path)], composed(profile="tiny"), LARGE) == []
    assert said([]) == [
        "by arithmetic: not known before the model is fetched: its address does not give its shape"
    ]


def test_amounts_of_kubernetes_are_bytes():
    assert [bytes_of(q) for q in ("2Gi", "1.5G", "100")] == [2 << 30, 1_500_000_000, 100]
