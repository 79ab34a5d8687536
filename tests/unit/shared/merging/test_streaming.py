"""Merges from file to file: the same whatever is cut, ordered or threaded how; memory; refusals; vocabularies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from components.shared.merging.mergekit.configuration import parse
from components.shared.merging.methods.task_vectors.ties import ties
from components.shared.merging.registry import streamed_methods
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.merging.streaming.recipe import (
    Filtered,
    Recipe,
    RecipeModel,
    TokenizerRecipe,
    evaluate,
)
from components.shared.runtime.artifact.weights import INDEX
from components.shared.runtime.errors import ArtifactError, ConfigError, ForgeError, InputError
from components.shared.runtime.tracking.progress import Progress
from pipelines.cli import app
from tests.unit.shared.merging.mergekit_cases import write_models


@pytest.fixture
def family(tmp_path: Path) -> Path:
    write_models(tmp_path / "models", half=False)
    return tmp_path / "models"


def recipe(folder: Path, method: str, **numbers: Any) -> Recipe:
    declared = streamed_methods()[method]
    models = tuple(RecipeModel(folder / name) for name in ("one", "two", "three")[: declared.most])
    parameters = {name: value for name, value in numbers.items() if declared.parameter(name)}
    if declared.base == "optional":
        parameters.pop("lambda", None)
    return Recipe(method, models, folder / "base" if declared.needs_base else None, parameters)


def run(recipe: Recipe, target: Path, **options: int) -> dict[str, torch.Tensor]:
    StreamingMerge(recipe, **options).write(target, progress=Progress("merge"))
    merged: dict[str, torch.Tensor] = {}
    for file in sorted(target.glob("*.safetensors")):
        merged |= load_file(file)
    return merged


NUMBERS = {"density": 0.4, "epsilon": 0.1, "gamma": 0.1, "lambda": 1.2, "select_topk": 0.5}


def rewritten(folder: Path) -> None:
    """The same models with their tensors in another order, in two shards."""
    for model in folder.iterdir():
        tensors = dict(reversed(load_file(model / "model.safetensors").items()))
        (model / "model.safetensors").unlink()
        half = len(tensors) // 2
        parts = {"a.safetensors": list(tensors)[:half], "b.safetensors": list(tensors)[half:]}
        for file, names in parts.items():
            save_file({name: tensors[name] for name in names}, model / file)
        where = {name: file for file, names in parts.items() for name in names}
        (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))


@pytest.mark.parametrize("method", streamed_methods())
def test_pieces_threads_order_and_shards_change_nothing(method: str, family: Path) -> None:
    whole = run(recipe(family, method, **NUMBERS), family.parent / "whole", threads=1)
    rewritten(family)
    cut = run(recipe(family, method, **NUMBERS), family.parent / "cut", threads=3, piece=40)
    alone = run(recipe(family, method, **NUMBERS), family.parent / "alone", threads=1, piece=40)
    assert whole.keys() == cut.keys()
    assert all(torch.equal(cut[name], alone[name]) for name in cut)
    exact = method.startswith(("linear", "task", "ties", "dare", "della", "breadcrumbs"))
    for name in whole:
        if exact:
            assert torch.equal(whole[name], cut[name]), name
        else:  # sums over a tensor are added up piece by piece
            torch.testing.assert_close(whole[name], cut[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [name for name, own in streamed_methods().items() if own.most is None])
def test_a_model_merged_with_itself_is_itself(method: str, family: Path) -> None:
    merge = recipe(family, method)
    merge = replace(merge, models=(RecipeModel(family / "one"), RecipeModel(family / "one")))
    merged, own = run(merge, family.parent / "out"), load_file(family / "one" / "model.safetensors")
    for name, tensor in own.items():
        torch.testing.assert_close(merged[name], tensor, rtol=1e-5, atol=1e-5)


def test_ties_trims_over_the_whole_model_or_over_each_tensor(family: Path) -> None:
    states = [load_file(family / name / "model.safetensors") for name in ("base", "one", "two", "three")]
    names = sorted(states[0])
    tasks = [torch.cat([(state[n] - states[0][n]).flatten() for n in names]) for state in states[1:]]
    limits = [float(t.abs().sort(descending=True).values[-(-len(t) * 2 // 5) - 1]) for t in tasks]
    expected = torch.cat([states[0][n].flatten() for n in names]) + ties(tasks, [1.0] * 3, limits)
    merge = recipe(family, "ties", density=0.4)
    merged = run(merge, family.parent / "whole")
    torch.testing.assert_close(torch.cat([merged[n].flatten() for n in names]), expected)
    other = run(replace(merge, trim="tensor"), family.parent / "tensor")
    assert any(not torch.equal(merged[n], other[n]) for n in names)


MEMORY = """
import sys
import components.shared.runtime
import torch
from pathlib import Path
from components.shared.merging.inputs import MergeInputs
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.merging.streaming.recipe import Recipe, RecipeModel
from components.shared.runtime.tracking.progress import Progress
from tests.unit.shared.merging.tensors import merge
folder = Path(sys.argv[1])
def anonymous():
    for line in open("/proc/self/status"):
        if line.startswith("RssAnon"):
            return int(line.split()[1]) << 10
class Watch(Progress):
    most = 0
    def step(self, n=1, **metrics):
        self.most = max(self.most, anonymous())
models = tuple(RecipeModel(folder / name) for name in ("one", "two"))
recipe = Recipe(sys.argv[2], models, folder / "base", {"density": 0.5})
job = StreamingMerge(recipe)
merge(sys.argv[2], MergeInputs([torch.ones(9)] * 2, torch.zeros(9)))  # what is compiled is a library, too
before = anonymous()
watch = Watch("merge")
job.write(folder / "out", progress=watch)
print(watch.most - before)
"""


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Two models and a base of 32 MiB each, merged in less anonymous memory than one of them."""
    generator = torch.Generator().manual_seed(0)
    base = {f"layers.{i}.w": torch.randn(1024, 2048, generator=generator) for i in range(4)}
    for name in ("base", "one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama"}))
        save_file({k: t + 0.1 * (name != "base") * torch.randn(t.shape, generator=generator) for k, t in base.items()},
                  tmp_path / name / "model.safetensors")  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), "ties"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert int(result.stdout) < 32 << 20


def test_half_of_two_bfloat16_models_is_the_rounded_half(tmp_path: Path) -> None:
    write_models(tmp_path, half=True)
    merge = replace(
        recipe(tmp_path, "linear"), models=(RecipeModel(tmp_path / "one"), RecipeModel(tmp_path / "two"))
    )
    merged = run(merge, tmp_path / "out")
    a, b = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name in a:
        assert torch.equal(merged[name], ((a[name].float() + b[name].float()) / 2).bfloat16())
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_recipe_that_fails_leaves_nothing_behind(family: Path) -> None:
    tensors = load_file(family / "two" / "model.safetensors")
    tensors["model.norm.weight"][3] = float("inf")
    save_file(tensors, family / "two" / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.norm\.weight is not finite"):
        run(recipe(family, "linear"), family / "out")
    assert sorted(path.name for path in family.iterdir()) == ["base", "one", "three", "two"]
    (family / "full").mkdir()
    (family / "full" / "a").touch()
    with pytest.raises(ArtifactError, match="there already"):
        run(recipe(family, "karcher"), family / "full")


def change(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))


def test_models_that_do_not_fit_are_refused_with_the_reason(family: Path) -> None:
    two, linear = family / "two", recipe(family, "linear")
    keep = {file: (two / file).read_bytes() for file in ("config.json", "model.safetensors")}

    def refused(match: str) -> None:
        with pytest.raises(ForgeError, match=match):
            StreamingMerge(linear)
        for file, content in keep.items():
            (two / file).write_bytes(content)

    change(two, model_type="mistral")
    refused("different architectures")
    change(two, quantization_config={"bits": 4})
    refused("stored as codes")
    tensors = load_file(two / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if "norm" not in k}, two / "model.safetensors")
    refused("lacks tensors")
    save_file(tensors | {"model.norm.weight": torch.zeros(9)}, two / "model.safetensors")
    refused("another shape")
    save_file(tensors | {"model.norm.weight": torch.zeros(8, dtype=torch.int8)}, two / "model.safetensors")
    refused("I8 cannot be merged")
    StreamingMerge(linear)


def test_numbers_and_names_that_mean_nothing_are_refused(family: Path) -> None:
    for merge, match in (
        (recipe(family, "ties", density=1.5), "density is 1.5"),
        (recipe(family, "dare_ties", density=0.0), "density is 0.0"),
        (replace(recipe(family, "linear"), parameters={"density": 0.5}), "no parameter density"),
        (replace(recipe(family, "ties"), base=None), "needs the base"),
        (replace(recipe(family, "linear"), method="tie"), "no method 'tie'"),
        (replace(recipe(family, "slerp"), models=(RecipeModel(family / "one"),)), "merges 2 or more models"),
        (
            replace(recipe(family, "nearswap"), models=recipe(family, "linear").models),
            "merges 1 model, and 3",
        ),
        (replace(recipe(family, "linear"), dtype="int4"), "no type 'int4'"),
    ):
        with pytest.raises(InputError, match=match):
            StreamingMerge(merge)


def test_strangers_are_warned_of_before_the_work_and_relatives_are_not(family: Path) -> None:
    assert StreamingMerge(recipe(family, "linear")).notes == []
    tensors = load_file(family / "two" / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    save_file(
        {k: torch.randn(t.shape, generator=generator) for k, t in tensors.items()},
        family / "two" / "model.safetensors",
    )
    notes = StreamingMerge(recipe(family, "linear")).notes
    assert len(notes) == 2 and all("different initialisations" in note and "two" in note for note in notes)


def test_a_configuration_that_differs_is_told(family: Path) -> None:
    change(family / "one", rope_theta=10000.0)
    change(family / "two", rope_theta=500000.0)
    assert any(
        "rope_theta is 500000.0 in two" in note for note in StreamingMerge(recipe(family, "linear")).notes
    )


WORDS = [f"w{i}" for i in range(24)]


def tokenized(folder: Path, words: list[str], special: tuple[str, ...] = ()) -> None:
    """Gives a model of the family a tokenizer, and rows in the order of its words; a word's rows hold its number."""
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[0]))
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    tensors = load_file(folder / "model.safetensors")
    known = [*words, *special]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        rows = [float(word.lstrip("w<extra>") or 0) for word in known]
        tensors[name] = torch.tensor(rows)[:, None].expand(-1, 8).contiguous()
    save_file(tensors, folder / "model.safetensors")
    change(folder, vocab_size=len(known))


def test_vocabularies_are_aligned_by_string(family: Path) -> None:
    for name in ("base", "one", "three"):
        tokenized(family / name, WORDS)
    tokenized(family / "two", WORDS[::-1][4:], ("<extra>99",))
    with pytest.raises(InputError, match="different vocabularies"):
        StreamingMerge(recipe(family, "linear"))
    merge = replace(recipe(family, "linear"), tokenizer=TokenizerRecipe("base"))
    merged = run(merge, family / "base_tokens", piece=40)["model.embed_tokens.weight"]
    assert merged[:, 0].tolist() == [
        float(i) for i in range(24)
    ]  # every model says i of w{i}, where it knows it
    merged = run(replace(merge, tokenizer=TokenizerRecipe("union")), family / "union", piece=40)[
        "lm_head.weight"
    ]
    assert merged[:, 0].tolist() == [*map(float, range(24)), 99.0]
    merged = Tokenizer.from_file(str(family / "union" / "tokenizer.json"))
    assert merged.token_to_id("<extra>99") == 24 and merged.token_to_id("w7") == 7
    assert json.loads((family / "union" / "config.json").read_text())["vocab_size"] == 25
    tokenized(family / "three", [*WORDS[:-1], "w77"])
    notes = StreamingMerge(replace(merge, tokenizer=TokenizerRecipe("union"))).notes
    assert any("1 ordinary tokens are new to one ('w77')" in note for note in notes)


def test_a_token_that_the_base_lacks_is_the_mean_of_the_models_that_have_it(family: Path) -> None:
    tokenized(family / "base", WORDS)
    for name, number in (("one", "<extra>10"), ("two", "<extra>10"), ("three", "")):
        tokenized(family / name, WORDS, (number,) if number else ())
    tensors = load_file(family / "two" / "model.safetensors")
    tensors["lm_head.weight"][24] = 20.0
    save_file(tensors, family / "two" / "model.safetensors")
    merge = replace(recipe(family, "task_arithmetic"), tokenizer=TokenizerRecipe("union"))
    row = run(merge, family / "out")["lm_head.weight"][24]
    # base and three get the mean of 10 and 20, one and two keep their own
    torch.testing.assert_close(row, torch.full((8,), 15.0))


def test_settings_run_along_the_layers_and_filters_choose() -> None:
    assert [evaluate([0, 1, 0.5], "w", t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0, 0.5, 1, 0.75, 0.5]
    chosen = [Filtered("mlp", 0.2), Filtered("", [0.0, 1.0])]
    assert evaluate(chosen, "layers.0.mlp.w", 0.5) == 0.2
    assert evaluate(chosen, "layers.0.attn.w", 0.5) == 0.5
    assert evaluate([Filtered("mlp", 0.2)], "norm", 0.5) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("merge_method: passthrough\nmodels: []\n", "models must be a list"),
        ("merge_method: linear\nweights: x\nmodels: []\n", "key weights is not supported"),
        ("merge_method: linear\nchat_template: x\nmodels: [{model: one, parameters: {weight: 1}}]\n",
         "template x is not known"),
        ("merge_method: linear\nmodels:\n  - {model: a+b+c, parameters: {weight: 1}}\n", "a model must be a folder"),
        ("merge_method: linear\nmodels:\n  - {model: one, parameters: {wieght: 1}}\n", "no parameter wieght"),
        ("merge_method: linear\nmodels:\n" + 2 * "  - {model: one, parameters: {weight: 1}}\n", "one is there twice"),
        ("merge_method: linear\nslices:\n  - sources:\n" + 2 * "    - {model: one, layer_range: [0, 2]}\n",
         "one is there twice"),
        ("merge_method: linear\nname: a\n---\nname: a\n", "two documents have the name a"),
        ("name: a\nmodels: [{model: b}]\n---\nname: b\nmodels: [{model: a}]\n", "the documents need each other"),
        ("merge_method: linear\nmodels:\n  - {model: one}\n  - {model: two}\n", "one has no weight"),
        ("merge_method: linear\nmodels:\n  - {model: nowhere}\n", "no folder nowhere"),
        ("merge_method: ties\nbase_model: base\nmodels:\n  - {model: one, parameters: {weight: x}}\n", "must be a number"),
        ("merge_method: ties\nparameters: {rescale: true}\nmodels: [{model: one}]\n", "rescale"),
        ("merge_method: linear\nslices:\n  - sources:\n    - {model: one, layer_range: [0, 2]}\n"
         "    - {model: two, layer_range: [1, 4]}\n", "as many layers each"),
        ("[1]", "must be a mapping"),
    ],
)  # fmt: skip
def test_a_mergekit_configuration_with_something_else_is_refused_by_name(
    family: Path, text: str, match: str
) -> None:
    (family / "m.yml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        parse(family / "m.yml")


def test_forge_merge_makes_a_model_that_transformers_loads(family: Path) -> None:
    from transformers import AutoModelForCausalLM

    models = [str(word) for name in ("one", "two") for word in ("-m", family / name)]
    out = family / "out"
    arguments = ["merge", "--method", "ties", *models, "--base", str(family / "base"), "--density", "0.3", "--weight", "1",
             "--weight", "3", "-o", str(out)]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    model = AutoModelForCausalLM.from_pretrained(out)
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2, 3]])).logits).all()
    card = (out / "README.md").read_text()
    assert "merge_method: ties" in card and "density: 0.3" in card and str(family) not in card
    shutil.rmtree(out)
    for wrong, text in (
        (["--weight", "2"], "3 of --weight"),
        (["--trim", "row"], "--trim is"),
        (["--sum"], ""),
    ):
        result = CliRunner().invoke(app, [*arguments, *wrong])
        assert (result.exit_code == 0) == (not text) and text in result.output
    for extra in (["-m", "a"], ["--lambda", "0"], ["--dtype", "float32"], ["--trim", "tensor"]):
        result = CliRunner().invoke(app, ["merge", "--config", "x.yml", "-o", "b", *extra])
        assert result.exit_code == 2 and "whole recipe" in result.output
