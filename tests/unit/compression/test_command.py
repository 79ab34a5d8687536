"""Budgets as they are given on the command line, and what a model's bytes are spent on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file
from typer.testing import CliRunner

from components.compression.codecs.registry import presets
from components.compression.inspection import inspect
from components.compression.settings import Settings
from components.compression.stages import after_each_preset
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.loading import build, save
from components.shared.models.remote_code.coded import install
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.config.compose import compose
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.cli import app
from pipelines.cli.models.compression import TEXT_CANDIDATES, calibration_on, overrides, recipe_of

PATH = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with one ternary layer."""
    place = tmp_path_factory.mktemp("model") / "m"
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = build(CognateConfig(**shape), seed=0)
    w = model.get_submodule(PATH).weight
    install(model, PATH, *stored("ternary", encode_ternary(w), w.shape, activations="int8"))
    save(model, byte_tokenizer(), place, card="")
    return place


def budget(folder: Path, *, target: str = "", bits: float | None = None, loss: str = "") -> str:
    return overrides(str(folder), "best", target, bits, loss)[-1]


def test_each_unit_of_the_budget_means_what_it_says(folder: Path) -> None:
    parameters = build(
        CognateConfig(**json.loads((folder / "config.json").read_text()) | {"storage": {}}), seed=0
    )
    count = parameters.num_parameters()
    assert (
        budget(folder, target="0.1")
        == budget(folder, target="10%")
        == f"compression.bytes={int(0.4 * count)}"
    )
    assert budget(folder, bits=2) == f"compression.bytes={count // 4}"
    assert budget(folder, target="25000") == "compression.bytes=25000"
    assert budget(folder, loss="1%") == budget(folder, loss="0.01") == "compression.retention=0.99"
    assert overrides(str(folder), "fixed:vptq@2", "", None, "") == [
        "compression.recipe=fixed:vptq@2",
        "compression.gates=[]",
    ]


def test_a_text_on_the_command_line_reaches_the_phase_whatever_its_name_holds(tmp_path: Path) -> None:
    text = tmp_path / "a text, of [mine].txt"
    text.write_text("words")
    words = ["compression.recipe=best", "compression.gates=[]", *calibration_on(text)]
    settings = compose("compression", Settings, overrides=words).settings
    assert settings.calibration.text == str(text)
    assert settings.candidates == list(TEXT_CANDIDATES) and not settings.recovery.steps


def test_recovery_on_a_text_is_refused() -> None:
    with pytest.raises(ValidationError, match="steps must be 0"):
        Settings(candidates=["int8"], calibration={"text": "a"}, recovery={"steps": 1})


@pytest.mark.parametrize(
    ("recipe", "target", "bits", "loss", "said"),
    [
        ("best", "0.1", 2.0, "", "--target-size and --bits"),
        ("fixed:vptq@2", "", 2.0, "", "takes what it takes"),
        ("best", "", None, "100%", "is no share"),
        ("best", "half", None, "", "is no share"),
        ("best", "", 64.0, "", "64.0 bits a parameter"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    recipe: str, target: str, bits: float | None, loss: str, said: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        overrides(str(folder), recipe, target, bits, loss)


def test_a_codec_at_some_bits_is_its_nearest_code() -> None:
    def recipe(text: str) -> str:
        return Settings(recipe=text, candidates=["int8"]).recipe

    assert recipe("fixed:vptq@2") == "fixed:vptq 2" and recipe("fixed:seedlm@2.6") == "fixed:seedlm 3"
    for name, preset in presets().items():
        nearest = presets()[recipe(f"fixed:{preset.family}@{preset.bits}").removeprefix("fixed:")]
        assert (nearest.family, nearest.bits) == (preset.family, preset.bits), name
    refusals = {"fixed:vptq@": "no number of bits", "fixed:vptq@-1": "no number of bits", "fixed:zip@2": "no codec 'zip'",
                "fixed:vptk 2": "did you mean vptq 2", "seedlm+vptq": "allowed: best, stages:1"}  # fmt: skip
    for wrong, reason in refusals.items():
        with pytest.raises(ValueError, match=reason):
            recipe(wrong)


def test_every_byte_of_the_weights_is_accounted_for(folder: Path) -> None:
    found = inspect(folder)
    tensors = load_file(folder / "model.safetensors")
    assert sum(row.bytes for row in found.rows) == sum(t.numel() * t.element_size() for t in tensors.values())
    (row,) = (row for row in found.rows if row.code == "ternary")
    assert (row.tensor, row.shape, row.bytes) == (
        PATH,
        (48, 32),
        4 + -(-48 * 32 // 5),
    ) and 1.6 < row.bits < 1.63
    assert found.by_code["F32"][2] == 4 * found.by_code["F32"][1]
    assert found.bytes == sum(file.stat().st_size for file in folder.iterdir())


def test_the_error_of_a_tensor_is_what_its_phase_has_measured(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    rows = [{"tensor": PATH, "code": "exact", "error": 0.25}]
    (tmp_path / "forge.json").write_text(json.dumps({"extra": {"sizes": {"per_tensor": rows}}}))
    (row,) = (row for row in inspect(tmp_path).rows if row.tensor == PATH)
    assert (row.code, row.error) == ("exact", 0.25)
    for damaged in ("[]", "{", '{"extra": {"sizes": {"per_tensor": [1]}}}'):
        (tmp_path / "forge.json").write_text(damaged)
        assert {row.error for row in inspect(tmp_path).rows} == {None}


def test_the_command_prints_a_line_a_tensor_and_refuses_a_folder_without_a_model(
    folder: Path, tmp_path: Path
) -> None:
    said = CliRunner().invoke(app, ["compression", "inspect", str(folder)])
    assert said.exit_code == 0 and said.output.count("ternary") == 2 and PATH in said.output
    assert "times smaller than float32" in said.output
    short = CliRunner().invoke(app, ["compression", "inspect", str(folder), "--no-tensors"])
    assert PATH not in short.output and "all else" in short.output
    assert CliRunner().invoke(app, ["compression", "inspect", str(tmp_path)]).exit_code == 3


def test_a_place_that_cannot_be_written_to_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["compression", "compress", "-i", str(folder), "-o", "/proc/x", "--recipe", "fixed:int8"]
    result = CliRunner().invoke(app, asked)
    said = result.output + capsys.readouterr().err
    assert result.exit_code == 5 and "/proc/x" in said and "What to do" in said and "Traceback" not in said


def test_stages_are_a_recipe_and_take_no_size(folder: Path) -> None:
    assert overrides(str(folder), recipe_of("best", 2), "", None, "")[0] == "compression.recipe=stages:2"
    assert recipe_of("fixed:vptq@2", None) == "fixed:vptq@2"
    with pytest.raises(ConfigError, match="--target-size with recipe stages:2"):
        overrides(str(folder), recipe_of("best", 2), "0.02", None, "")
    with pytest.raises(ConfigError, match="--stages with --recipe"):
        recipe_of("fixed:vptq@2", 1)
    assert [str(code) for code in after_each_preset(2)] == [
        "seedlm 4",
        "seedlm 4 → vptq 2",
        "seedlm 4 → vptq 2 → hyper 1600",
    ]
