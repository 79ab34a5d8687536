"""Phase bitnet as a process: killed and started again, on foreign models, with bad input, and what it publishes."""

import json
import random
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from components.bitnet.phase import BitNet
from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact import artifact
from components.shared.runtime.executor import main
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import plain_transformers
from tests.contract import killing
from tests.plain_transformers import IDS

SMALL = [
    *("evaluation.items=16", "bitnet.threads=1", "bitnet.steps=10"),
    *("bitnet.batch=8", "bitnet.rows=4", "bitnet.calibration_items=16", "bitnet.held_out_items=32"),
    *("bitnet.tasks={copy: 1, chain: 1}", "bitnet.levels=[1]"),
]
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
THOUGHTS = {"length": 2, "start": 259, "end": 260, "mixing": True}


@pytest.fixture(scope="module", autouse=True)
def tracking(tmp_path_factory):
    """One MLflow database for all tests here: making one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in killing.quiet(tmp_path_factory.mktemp("mlflow")).items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def torch_as_before():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def run(output, *arguments):
    assert main(BitNet, ["--output", str(output), *SMALL, *map(str, arguments)]) == 0
    return output


def refused(capsys, output, *arguments):
    assert main(BitNet, ["--output", str(output), *SMALL, *map(str, arguments)]) not in (0, 1)
    assert not output.exists()
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def thinker(tmp_path_factory):
    """A Cognate with everything, as quietstar leaves it."""
    folder = tmp_path_factory.mktemp("input") / "thinker"
    config = CognateConfig(
        **SHAPE, memory=True, memory_size=16, refinement=True, refinement_size=32, thoughts=THOUGHTS
    )
    save(build(config, seed=0), byte_tokenizer(), folder, card="")
    artifact.seal(folder, kind="model", phase="quietstar")
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A mixture of a task and a corpus of three documents, and a text to hold out."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "corpus.txt").write_text("\n\n".join(f"{word} is a word of its own. " * 9 for word in "abc"))
    (folder / "held.txt").write_text("what no step has seen, " * 9)
    mixture = f"bitnet.tasks={{copy: 1, 'corpus:{folder}/corpus.txt': 3}}"
    return [mixture, "bitnet.row_tokens=96", f"evaluation.text={folder}/held.txt"]


@pytest.fixture(scope="module")
def ternary(thinker, text, tmp_path_factory):
    return run(tmp_path_factory.mktemp("output") / "ternary", "--input", thinker, *text)


def llama(folder, *, tokenizer=True, **more):
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(vocab_size=272, **SHAPE, **more)).save_pretrained(folder)
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(thinker, text, ternary, tmp_path):
    slow = ["--input", thinker, *SMALL, *text, "bitnet.checkpoint_seconds=0"]
    killing.kill("bitnet", tmp_path / "killed", slow, within=0.3, moment=random.Random())
    assert killing.run("bitnet", tmp_path / "killed", slow) == artifact.read(ternary).digest


@pytest.mark.skipif(sys.platform != "linux", reason="pages are handed back by Linux's madvise")
def test_killed_while_its_teacher_is_in_a_file_it_ends_as_if_that_had_been_in_memory(
    thinker, text, ternary, tmp_path
):
    paged = "tests.contract.phases.paged_bitnet"
    slow = ["--input", thinker, *SMALL, *text, "bitnet.checkpoint_seconds=0"]
    killing.kill(paged, tmp_path / "killed", slow, within=0.1, moment=random.Random())
    assert killing.run(paged, tmp_path / "killed", slow) == artifact.read(ternary).digest


def test_it_publishes_sizes_losses_scores_and_the_claim_with_its_control(thinker, ternary):
    manifest = artifact.read(ternary).manifest
    assert set(manifest.scores) == {"reasoning", "memory", "generalization", "efficiency", "safety"}
    sizes = manifest.extra["sizes"]
    assert (
        manifest.metrics["bytes_after"] == sum(sizes["stored"].values()) < sum(sizes["before"].values()) / 2
    )
    assert sum(entry["bytes"] for entry in manifest.tensors.values()) == sum(sizes["stored"].values())
    assert set(sizes["before"]) == {"F32"} and set(sizes["stored"]) == {"ternary", "F16"}
    assert {"loss_increase", "bits_per_parameter", "tokens_per_second_after"} <= set(manifest.metrics)
    (claim,) = manifest.extra["controls"]
    assert claim["control"] == "ternary, only rounded" and claim["low"] <= claim["value"] <= claim["high"]
    assert manifest.parents == [artifact.read(thinker).digest]


def test_it_learns_from_text_and_says_which_and_what_that_did_to_held_out_text(ternary):
    manifest = artifact.read(ternary).manifest
    [corpus] = manifest.extra["corpora"]
    assert corpus["documents"] == corpus["read"] == 3 and not corpus["contaminated"]
    whens = ("before", "without_training", "after")
    before, rounded, after = (manifest.metrics[f"perplexity_{when}"] for when in whens)
    assert before != rounded != after == manifest.extra["stand_ins"]["perplexity"]


def test_the_ternary_model_still_thinks_and_trains_on_in_full_precision(ternary):
    manifest = artifact.read(ternary).manifest
    assert manifest.extra["thinking"]["reasoning"]["n"] == 16
    model, _ = load(ternary, trainable=True)
    assert model.config.thoughts == THOUGHTS and {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model(IDS).logits, load(ternary)[0](IDS).logits)


def test_it_loads_in_plain_transformers_where_this_project_is_not(ternary, tmp_path):
    assert torch.equal(plain_transformers.logits(ternary, tmp_path), load(ternary)[0](IDS).logits)


def test_a_llama_with_biases_becomes_ternary_and_loads_as_one(text, tmp_path):
    base = llama(tmp_path / "llama", attention_bias=True)
    run(tmp_path / "out", "--input", base, "bitnet.steps=2", *text)
    stored = json.loads((tmp_path / "out" / "config.json").read_text())["storage"]
    assert len(stored) == 7 and all(name.startswith("inner.model.layers.0.") for name in stored)
    assert {name.rpartition(".")[2] for name in stored if stored[name].get("bias")} == {
        *("q_proj", "k_proj", "v_proj", "o_proj")
    }
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=True)
    assert model(IDS).logits.shape == (1, 10, 272)


def test_a_llama_without_a_tokenizer_is_refused(tmp_path, capsys):
    bare = llama(tmp_path / "llama", tokenizer=False)
    message = refused(capsys, tmp_path / "out", "--input", bare)
    assert "no tokenizer" in message and "tokenizer.save_pretrained" in message


def test_its_own_output_is_refused_because_it_is_ternary(ternary, tmp_path, capsys):
    message = refused(capsys, tmp_path / "out", "--input", ternary)
    assert "ternary or coded already" in message
