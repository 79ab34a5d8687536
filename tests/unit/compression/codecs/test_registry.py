"""A codec is added by its files alone, and used to the end; what is unknown or there twice is refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from components.compression.allocation.allocate import frontier
from components.compression.allocation.evaluator import Evaluator, codable
from components.compression.allocation.mapped import map_weights
from components.compression.allocation.sensitivity import measure_sensitivities, rate_points
from components.compression.allocation.tensors import Tensors
from components.compression.allocation.workers import Workers
from components.compression.artifact import with_codes
from components.compression.codecs import declarations, registry
from components.shared.evaluation.suites import suite_items
from components.shared.models.build import build
from components.shared.models.loading import load, save
from components.shared.models.remote_code import decoder_table
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.checkpoint.checkpoints import Checkpoints
from components.shared.runtime.errors import ArtifactError, ConfigError
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import plain_transformers
from tests.plain_transformers import IDS

PAGE = Path(__file__).parents[4] / "docs" / "add-a-codec.md"
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The codec of docs/add-a-codec.md, in a folder of its own."""
    decoder, encoder, *_ = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    codecs = tmp_path / "codecs"
    codecs.mkdir()
    (codecs / "decode_rounding.py").write_text(decoder)
    (codecs / "rounding.py").write_text(encoder)
    return codecs


def test_a_codec_from_a_folder_goes_through_the_allocation_into_an_artifact_that_loads(
    folder: Path, tmp_path: Path
) -> None:
    model = build(CognateConfig(**SHAPE), seed=0).eval().requires_grad_(False)
    evaluator, items = (
        Evaluator(model, byte_tokenizer(), 64),
        suite_items("efficiency", split="search", items=8, seed=0),
    )
    modules = codable(model, 512)
    with registry.extra_folder(folder), Workers(1) as workers:
        weights = map_weights(modules, tmp_path / "weights")
        checkpoints = Checkpoints(str(tmp_path / "checkpoints"), "0" * 16, every=1e9)
        progress = Progress("test")
        tensors = Tensors(weights, {}, checkpoints, workers, progress, tmp_path / "codes", seed=0)
        tensors.measure(["rounding 31", "rounding 255", "vptq 1"], 1 << 22)
        measure_sensitivities(tensors, evaluator, items, progress)
        best = frontier(rate_points(tensors.points, tensors.sensitivity))[-1].presets
        assert set(best.values()) == {"rounding 255"}
        with with_codes(model, tensors.stored_codes(best)):
            save(model, byte_tokenizer(), tmp_path / "artifact", card="")
            logits = model(IDS).logits
        assert torch.equal(load(tmp_path / "artifact")[0](IDS).logits, logits)
    assert torch.equal(plain_transformers.logits(tmp_path / "artifact", tmp_path), logits)
    with pytest.raises(ArtifactError, match="unknown codec 'rounding'"):
        load(tmp_path / "artifact")  # the decoder is not here any more


def test_an_unknown_name_is_refused_with_those_that_are_like_it() -> None:
    with pytest.raises(ConfigError, match="no preset 'vptk 2'") as refusal:
        registry.preset("vptk 2")
    assert "did you mean vptq 2" in str(refusal.value)
    with pytest.raises(ConfigError, match="no codec 'seedml'"):
        registry.codec("seedml")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("rounding.py", '"rounding 31"', '"vptq 2"'), "two presets are called 'vptq 2'"),
        (("rounding.py", 'Codec("rounding"', 'Codec("hyper"'), "two codecs are called 'hyper'"),
        (
            ("rounding.py", '"rounding", 4.2', '"vptq", 4.2'),
            "preset 'rounding 31' of codec 'rounding' names 'vptq'",
        ),
        (("rounding.py", "encode, PRESETS", 'encode, PRESETS, decoder="zip"'), "'rounding' has no decoder"),
        (
            ("rounding.py", '{"largest": 15}', '{}, transform="wavelet"'),
            "names a transform that is not there",
        ),
        (
            ("decode_rounding.py", "CODEC, VERSION = 200", "CODEC, VERSION = 4"),
            "two decoders have the number 4",
        ),
    ],
)
def test_what_is_there_twice_or_not_whole_is_refused(
    change: tuple[str, str, str], reason: str, folder: Path
) -> None:
    file, old, new = change
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    with pytest.raises((ConfigError, ValueError), match=reason), registry.extra_folder(folder):
        raise AssertionError("it was taken in")
    assert "rounding" not in registry.catalogue().codecs and "rounding" not in decoder_table.DECODERS


def test_a_file_that_has_the_name_of_another_codecs_is_refused(folder: Path) -> None:
    (folder / "decode_rounding.py").rename(folder / "decode_hyper.py")
    with pytest.raises(ValueError, match="two decoders have one name"), registry.extra_folder(folder):
        raise AssertionError("it was taken in")


def test_every_codec_of_the_project_is_in_the_readmes_list_of_papers() -> None:
    readme = (PAGE.parents[1] / "components" / "compression" / "README.md").read_text()
    for codec in registry.catalogue().codecs.values():
        assert all(number in readme for number in re.findall(r"\d{4}\.\d{5}", codec.paper)), codec.name


def test_an_artifact_that_says_all_in_one_word_is_still_read() -> None:
    spec = decoder_table.current_spec({"codec": "slabs+hadamard+ectcq", "shape": [4, 4]})
    assert spec == {"codec": "ectcq", "transform": "hadamard", "slabs": True, "shape": [4, 4]}
    assert decoder_table.current_spec(spec) == spec
    with pytest.raises(ValueError, match="unknown transform 'wavelet'"):
        decoder_table.current_spec({"codec": "wavelet+ectcq"})


def test_presets_read_without_running_the_files_are_those_of_the_registry() -> None:
    read = {name: (one.codec, one.bits, one.transform) for name, one in declarations.presets().items()}
    run = {name: (one.codec, one.bits, one.transform) for name, one in registry.presets().items()}
    assert read == run
    assert list(declarations.families()) and {
        family: [one.name for one in members] for family, members in declarations.families().items()
    } == {family: [one.name for one in members] for family, members in registry.families().items()}
