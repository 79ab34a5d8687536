"""Foreign models in linear form: the same function, nn.Linear throughout, and their own files when they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from components.bitnet.conversion import convert
from components.shared.models.loading import load, save, wrap
from components.shared.models.remote_code.projections import Experts
from tests import plain_transformers, shapes
from tests.plain_transformers import IDS

TEXT = torch.tensor([[*range(20, 60)], [*range(150, 110, -1)]])
FUSED = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v3")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    return {family: shapes.make(family, root / family) for family in (*shapes.FAMILIES, *shapes.MORE)}


def plain(folder: Path) -> Any:
    """The model as transformers has it."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("family", [*shapes.FAMILIES, *shapes.MORE])
def test_the_function_is_that_of_transformers(family: str, folders: dict[str, Path]) -> None:
    model, theirs = load(folders[family])[0], plain(folders[family])
    torch.testing.assert_close(model(TEXT).logits, theirs(TEXT).logits, rtol=1e-4, atol=1e-5)
    options = {"max_new_tokens": 6, "do_sample": False}
    assert torch.equal(model.generate(TEXT, **options), theirs.generate(TEXT, **options))


@pytest.mark.parametrize("family", [*shapes.FAMILIES, *shapes.MORE])
def test_saving_writes_the_names_shapes_and_bits_of_the_original_file(
    family: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    save(*load(folders[family]), tmp_path, card="")
    before, after = (load_file(folder / "model.safetensors") for folder in (folders[family], tmp_path))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("family", ["gpt2", *FUSED])
def test_no_matrix_of_a_block_is_anything_but_a_linear(family: str, folders: dict[str, Path]) -> None:
    model, theirs = load(folders[family])[0], plain(folders[family])
    assert not any(isinstance(module, Conv1D) for module in model.modules())
    assert not any(parameter.ndim == 3 for parameter in model.parameters())
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in theirs.parameters())
    if family in FUSED:
        experts: list[Any] = [module for module in model.modules() if isinstance(module, Experts)]
        assert {type(each.gate) for layer in experts for each in layer} == {nn.Linear}
        assert {len(layer) for layer in experts} == {4}


def gradients(model: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradient of every weight."""
    loss = model.train()(TEXT, labels=TEXT).loss
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("family", ["gpt2", "mixtral"])
def test_it_is_trained_as_the_original_is(family: str, folders: dict[str, Path]) -> None:
    models = load(folders[family])[0], plain(folders[family])
    for model in models:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        for name in ("attn_pdrop", "attention_dropout"):
            if hasattr(model.config, name):
                setattr(model.config, name, 0.0)
    (loss, ours), (expected, theirs) = map(gradients, models)
    torch.testing.assert_close(loss, expected)
    for name, gradient in theirs.items():
        if gradient.ndim == 3:
            parts = ("gate", "up") if name.endswith("gate_up_proj") else ("down",)
            path = name.rpartition(".")[0]
            joined = [torch.cat([ours[f"{path}.{n}.{part}.weight"] for part in parts]) for n in range(4)]
            mine = torch.stack(joined)
        else:
            matrix_of_conv1d = family == "gpt2" and ".c_" in name and gradient.ndim == 2
            mine = ours[name].t() if matrix_of_conv1d else ours[name]
        torch.testing.assert_close(mine, gradient, rtol=1e-3, atol=1e-5)


def test_an_expert_that_no_token_reaches_gets_a_gradient_of_zeros(folders: dict[str, Path]) -> None:
    model = load(folders["mixtral"])[0]
    layer: Any = next(module for module in model.modules() if isinstance(module, Experts))
    token = torch.randn(3, 64)
    layer(token, torch.zeros(3, 1, dtype=torch.long), torch.ones(3, 1)).sum().backward()
    assert layer[0].gate.weight.grad.any() and not layer[1].gate.weight.grad.any()


def test_bfloat16_shards_are_loaded_as_they_are_and_in_the_dtype_asked_for(tmp_path: Path) -> None:
    folder = shapes.make("mixtral", tmp_path / "sharded", shards="100KB", dtype="bfloat16")
    assert len(list(folder.glob("*.safetensors"))) > 2
    half, tokenizer = load(folder)
    full, _ = load(folder, dtype=torch.float32)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in full.parameters()} == {torch.float32}
    save(half, tokenizer, tmp_path / "again", card="")
    assert torch.equal(load(tmp_path / "again")[0](TEXT).logits, half(TEXT).logits)


@pytest.mark.parametrize("family", ["gpt2", "mixtral"])
def test_a_wrapped_model_keeps_its_weights_and_its_function(family: str, folders: dict[str, Path]) -> None:
    model = load(folders[family])[0]
    before = model(TEXT).logits
    assert torch.equal(wrap(model)(TEXT).logits, before)


def test_ternary_models_of_the_families_load_in_plain_transformers(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    families = ("gpt2", "mixtral", "phi3", "gemma")
    for family in families:
        model, tokenizer = load(folders[family])
        ternary = wrap(model)
        convert(ternary, {})
        save(ternary.eval(), tokenizer, tmp_path / family, card="")
    script = f"""
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
out = {{}}
for family in {families}:
    model = AutoModelForCausalLM.from_pretrained(f"{{sys.argv[1]}}/{{family}}", trust_remote_code=True)
    out[family] = model(torch.tensor({IDS.tolist()})).logits.detach()
save_file(out, f"{{sys.argv[1]}}/out.safetensors")
"""
    plain_transformers.run(script, tmp_path, cwd=tmp_path)
    logits = load_file(tmp_path / "out.safetensors")
    for family in families:
        assert torch.equal(logits[family], load(tmp_path / family)[0](IDS).logits), family
