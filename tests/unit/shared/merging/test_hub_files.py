"""Model files as the hub has them: output layers, tied or not; buffers; prefixes; types; vocabularies; tensors of no
rows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from typer.testing import CliRunner

from components.shared.merging.mergekit.model_names import ModelNames
from components.shared.merging.mergekit.reader import Reader
from components.shared.merging.registry import streamed_methods
from components.shared.merging.streaming.merge import StreamingMerge
from components.shared.merging.streaming.recipe import Recipe, RecipeModel, TokenizerRecipe
from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.errors import ArtifactError, ConfigError, InputError
from components.shared.runtime.tracking.progress import Progress
from pipelines.cli import app

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 6}
EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
UP = "model.layers.0.mlp.up_proj.weight"


def weights(seed: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {EMBEDDING: (6, 4), UP: (5, 4)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} | more


def save(folder: Path, tensors: dict[str, torch.Tensor], config: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or {**LLAMA, "tie_word_embeddings": False}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def linear(*folders: Path, **options: Any) -> Recipe:
    return Recipe("linear", tuple(RecipeModel(folder) for folder in folders), **options)


def run(recipe: Recipe, out: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], list[str]]:
    merge = StreamingMerge(recipe)
    merge.write(out, progress=Progress("merge"), sync=False)
    return load_file(out / "model.safetensors"), json.loads((out / "config.json").read_text()), merge.notes


def test_a_number_that_the_files_type_cannot_hold_is_refused(tmp_path: Path) -> None:
    tensors = weights(0)
    tensors[UP][2, 1] = -70_000.0
    one = save(tmp_path / "one", tensors)
    with pytest.raises(InputError, match=r"as float16 it holds inf or nan.*bfloat16"):
        run(linear(one, one, dtype="float16"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tensors[UP][2, 1] = 65_519.0  # rounded to 65504
    save(one, tensors)
    merged, _, _ = run(linear(one, one, dtype="float16"), tmp_path / "out")
    assert float(merged[UP][2, 1]) == 65_504
    tensors[UP][2, 1] = 3.4e38
    save(one, tensors)
    with pytest.raises(InputError, match="as bfloat16"):
        run(linear(one, one, dtype="bfloat16"), tmp_path / "big")
    merged, _, _ = run(linear(one, dtype="float32"), tmp_path / "wide")
    assert torch.equal(merged[UP], tensors[UP])


def test_a_head_that_is_not_the_embedding_is_kept_and_the_model_untied(tmp_path: Path) -> None:
    tied = {**LLAMA, "tie_word_embeddings": True}
    head = torch.randn(
        6, 4, generator=torch.Generator().manual_seed(7)
    )  # drawn apart: the embedding's seed is 0
    one = save(tmp_path / "one", weights(0, **{HEAD: head}), tied)
    merged, config, notes = run(linear(one, one), tmp_path / "out")
    assert torch.equal(merged[HEAD], load_file(one / "model.safetensors")[HEAD])
    assert config["tie_word_embeddings"] is False and any("output layer" in note for note in notes)
    tensors = weights(1)
    two = save(tmp_path / "two", tensors, tied)  # its output layer is its embedding
    merged, config, _ = run(linear(one, two), tmp_path / "mixed")
    expected = (load_file(one / "model.safetensors")[HEAD] + tensors[EMBEDDING]) / 2
    torch.testing.assert_close(merged[HEAD], expected)
    assert config["tie_word_embeddings"] is False


def test_a_head_that_is_the_embedding_goes_as_save_pretrained_has_it(tmp_path: Path) -> None:
    tensors = weights(0)
    stored = save(
        tmp_path / "one", tensors | {HEAD: tensors[EMBEDDING].clone()}, {**LLAMA, "tie_word_embeddings": True}
    )
    bare = save(tmp_path / "two", weights(1), {**LLAMA, "tie_word_embeddings": True})
    merged, config, notes = run(linear(stored, bare), tmp_path / "out")
    assert HEAD not in merged and config["tie_word_embeddings"] is True
    assert not any("output layer" in note for note in notes)


def test_a_family_whose_configuration_is_silent_ties_as_transformers_has_it(tmp_path: Path) -> None:
    tensors = weights(0)
    gemma = {**LLAMA, "model_type": "gemma", "architectures": ["GemmaForCausalLM"]}
    stored = save(tmp_path / "one", tensors | {HEAD: tensors[EMBEDDING].clone()}, gemma)
    bare = save(tmp_path / "two", weights(1), gemma)
    merged, config, _ = run(linear(stored, bare), tmp_path / "out")
    assert HEAD not in merged and "tie_word_embeddings" not in config


def test_buffers_that_are_computed_anew_are_left_out_and_other_whole_numbers_carried_over(
    tmp_path: Path,
) -> None:
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.rand(2),
        "model.layers.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "model.layers.0.attn.masked_bias": torch.tensor(-1e4),
        "model.embeddings.position_ids": torch.arange(4)[None],
    }
    kept = {"model.layers.0.attn.c_attn.bias": torch.randn(4), "model.experts_map": torch.arange(3)}
    one, two = (
        save(tmp_path / "one", weights(0, **buffers, **kept)),
        save(tmp_path / "two", weights(1, **kept)),
    )
    merged, _, _ = run(linear(one, two), tmp_path / "out")
    assert set(merged) == {EMBEDDING, UP, *kept}
    assert torch.equal(merged["model.experts_map"], torch.arange(3))
    save(two, weights(1, **{**kept, "model.experts_map": torch.tensor([2, 1, 0])}))
    with pytest.raises(InputError, match="I64 cannot be merged"):
        StreamingMerge(linear(one, two))


def test_gpt2_stored_without_its_prefix_is_merged_with_one_that_has_it(tmp_path: Path) -> None:
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": 6,
        "n_layer": 1,
        "tie_word_embeddings": True,
    }
    names = {"wte.weight": (6, 4), "wpe.weight": (8, 4), "h.0.mlp.c_fc.weight": (4, 8), "ln_f.weight": (4,)}
    bare = {name: torch.randn(shape) for name, shape in names.items()}
    mask = {"h.0.attn.bias": torch.ones(1, 1, 8, 8)}
    one = save(tmp_path / "one", bare | mask, config)
    two = save(tmp_path / "two", {f"transformer.{name}": tensor for name, tensor in bare.items()}, config)
    for recipe in (linear(one, two), linear(one, one)):
        merged, _, _ = run(recipe, tmp_path / f"out{len(list(tmp_path.iterdir()))}")
        assert set(merged) == {f"transformer.{name}" for name in names}
        assert torch.equal(merged["transformer.wte.weight"], bare["wte.weight"])


def test_each_weight_keeps_its_type_and_a_change_is_told(tmp_path: Path) -> None:
    tensors = weights(0)
    mixed = {name: tensor.bfloat16() if name == UP else tensor for name, tensor in tensors.items()}
    one, two = save(tmp_path / "one", mixed), save(tmp_path / "two", tensors)
    merged, config, notes = run(linear(one, two), tmp_path / "out")
    assert (merged[UP].dtype, merged[EMBEDDING].dtype) == (torch.bfloat16, torch.float32)
    assert config["dtype"] == "float32"
    assert [note for note in notes if "two has weights in float32 that are bfloat16" in note]
    merged, config, notes = run(linear(one, two, dtype="float16"), tmp_path / "half")
    assert {tensor.dtype for tensor in merged.values()} == {torch.float16}
    assert not any("weights in" in note for note in notes)


@pytest.mark.parametrize("method", streamed_methods())
def test_a_tensor_without_rows_stays_without_rows_in_every_method(method: str, tmp_path: Path) -> None:
    empty = {"model.layers.0.nothing": torch.empty(0, 4), "model.scale": torch.tensor(2.0)}
    folders = [save(tmp_path / name, weights(seed, **empty)) for seed, name in enumerate("abc")]
    own = streamed_methods()[method]
    models = tuple(RecipeModel(folder) for folder in folders[: own.most])
    merged, _, _ = run(Recipe(method, models, folders[0] if own.needs_base else None), tmp_path / "out")
    assert merged["model.layers.0.nothing"].shape == (0, 4) and float(merged["model.scale"]) == pytest.approx(
        2
    )


def tokenizer(folder: Path, *more: str) -> None:
    own = Tokenizer(WordLevel({f"w{i}": i for i in range(6)}, unk_token="w0"))
    own.add_tokens([AddedToken(token, special=True) for token in more])
    own.save(str(folder / "tokenizer.json"))


def test_a_vocabulary_inside_text_config_and_the_bias_of_the_head_follow_their_tokens(tmp_path: Path) -> None:
    def config(rows: int) -> dict[str, Any]:
        return {
            "model_type": "gemma3",
            "tie_word_embeddings": False,
            "text_config": {"vocab_size": rows, "num_hidden_layers": 1},
        }

    small = weights(0, **{HEAD: torch.ones(6, 4), "lm_head.bias": torch.arange(6.0)})
    large = {**small, EMBEDDING: torch.ones(7, 4), HEAD: torch.ones(7, 4), "lm_head.bias": torch.arange(7.0)}
    one, two = save(tmp_path / "one", small, config(6)), save(tmp_path / "two", large, config(7))
    tokenizer(one)
    tokenizer(two, "<more>")
    base, _, _ = run(linear(one, two, tokenizer=TokenizerRecipe("base")), tmp_path / "base")
    assert base["lm_head.bias"].tolist() == [0, 1, 2, 3, 4, 5] and base[EMBEDDING].shape == (6, 4)
    union, merged_config, _ = run(linear(one, two, tokenizer=TokenizerRecipe("union")), tmp_path / "union")
    assert union["lm_head.bias"].tolist() == [0, 1, 2, 3, 4, 5, 6] and union[HEAD].shape == (7, 4)
    assert merged_config["text_config"]["vocab_size"] == 7 and "vocab_size" not in merged_config


def test_a_method_of_whole_vectors_takes_the_bias_of_a_head_too(tmp_path: Path) -> None:
    one = save(tmp_path / "one", weights(0, **{HEAD: torch.ones(6, 4), "lm_head.bias": torch.arange(6.0)}))
    two = save(tmp_path / "two", weights(0, **{HEAD: torch.ones(6, 4), "lm_head.bias": torch.arange(6.0)}))
    tokenizer(one)
    tokenizer(two)
    recipe = replace(linear(one, two), method="nuslerp", tokenizer=TokenizerRecipe("base", multiple=8))
    merged, config, _ = run(recipe, tmp_path / "out")
    assert merged["lm_head.bias"].tolist() == [0, 1, 2, 3, 4, 5, 2.5, 2.5] and config["vocab_size"] == 8


def test_a_sealed_model_whose_bytes_have_changed_is_not_merged(tmp_path: Path) -> None:
    one = save(tmp_path / "one", weights(0))
    seal(one, kind="model", phase="test")
    arguments = ["merge", "--method", "linear", "-m", str(one), "-m", str(one), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    data = bytearray((one / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (one / "model.safetensors").write_bytes(data)
    result = CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "other")])
    assert result.exit_code == 3 and not (tmp_path / "other").exists()


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000])
def test_a_file_beside_the_weights_that_is_no_json_object_is_named(text: str, tmp_path: Path) -> None:
    one, lora = save(tmp_path / "one", weights(0)), tmp_path / "lora"
    lora.mkdir()
    (lora / "adapter_config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"no LoRA.*adapter_config"):
        StreamingMerge(Recipe("linear", (RecipeModel(one, lora=lora), RecipeModel(one))))
    (one / "tokenizer_config.json").write_text(text)
    wanted = TokenizerRecipe(chat_template="auto")
    with pytest.raises(ArtifactError, match=r"not a JSON .*tokenizer_config\.json.*fetch the model again"):
        run(linear(one, one, tokenizer=wanted), tmp_path / "out")
    (one / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"no Hugging Face model.*config\.json"):
        StreamingMerge(linear(one, one))


def test_weights_that_sum_to_less_than_nothing_turn_no_step_around(tmp_path: Path) -> None:
    base, one = save(tmp_path / "base", weights(0)), save(tmp_path / "one", weights(1))
    taken = Recipe("task_arithmetic", (RecipeModel(one, {"weight": -1.0}),), base)
    with pytest.raises(InputError, match="the weights sum to -1"):
        StreamingMerge(taken)
    merged, _, _ = run(replace(taken, parameters={"normalize": 0.0}), tmp_path / "out")
    torch.testing.assert_close(merged[UP], 2 * weights(0)[UP] - weights(1)[UP])


def test_a_name_of_the_hub_is_its_newest_snapshot_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--owner--model"
    save(repository / "snapshots" / "abc", weights(0))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    names = ModelNames(Reader(tmp_path / "m.yml"), {})
    assert names.model("owner/model").folder.samefile(repository / "snapshots" / "abc")
    with pytest.raises(ConfigError, match="no folder owner/other, and the hub does not give it"):
        names.model("owner/other")
    with pytest.raises(ArtifactError, match=r"cache of the hub, the model is .*snapshots/abc"):
        StreamingMerge(linear(repository))


def test_the_card_of_a_merge_lists_the_licences_of_its_parents(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", weights(0)), save(tmp_path / "two", weights(1))
    (one / "README.md").write_text("---\nlicense: mit\n---\n# One\n")
    (one / "LICENSE").write_text("the text")
    seal(
        two,
        kind="model",
        phase="test",
        extra={"base_models": [{"source": "a/b", "licence": "llama3", "revision": "c0"}]},
    )
    run(linear(one, two), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: other" in card and "| a/b | c0 | llama3 |" in card and "| one |  | mit |" in card
    assert (tmp_path / "out" / "licences" / "one" / "LICENSE").read_text() == "the text"
