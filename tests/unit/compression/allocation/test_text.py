"""A text in place of items: its rows, what they say of a model, and what errors in its weights do to it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from components.compression.allocation.evaluator import Evaluator, codable
from components.compression.allocation.fisher import calibrate
from components.compression.allocation.text import TextRows, text_metrics, text_rows
from components.shared.models.loading import wrap
from components.shared.runtime.errors import InputError
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

TEXT = "".join(f"The {number}th line of a text is as long as any other one. " for number in range(60))


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(**shape, vocab_size=VOCAB_SIZE, tie_word_embeddings=request.param)
    inner = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in inner.parameters():
            parameter.mul_(8 if parameter.ndim > 1 else 1)  # away from a uniform guess
    return wrap(inner).requires_grad_(False)


@pytest.fixture
def rows(tmp_path: Path) -> TextRows:
    (tmp_path / "text.txt").write_text(TEXT)
    return text_rows(byte_tokenizer(), tmp_path / "text.txt", 64, [8])[0]


def test_rows_follow_one_another_in_the_text_and_know_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    tokenizer = byte_tokenizer()
    first, second = text_rows(tokenizer, tmp_path / "text.txt", 50, [2, 1])
    assert tokenizer.decode(torch.cat([first.ids, second.ids]).reshape(-1)) == TEXT[:150]
    assert (first.bytes, second.bytes) == (2 * 49, 49)
    assert first.bits_per_byte(math.log(2)) == pytest.approx(1.0)


def test_a_text_that_is_too_short_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("short")
    for file, words in (("text.txt", "5 tokens"), ("none.txt", "cannot be read")):
        with pytest.raises(InputError, match=words):
            text_rows(byte_tokenizer(), tmp_path / file, 16, [2])


def test_the_loss_of_a_text_is_the_models_own(model: PreTrainedModel, rows: TextRows) -> None:
    ours = Evaluator(model, byte_tokenizer(), 4).loss(rows)
    theirs = np.mean([float(model.inner(row[None], labels=row[None]).loss) for row in rows.ids])
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert text_metrics(rows, ours, ours + 0.1)["perplexity_ratio"] == pytest.approx(math.exp(0.1))


def test_what_errors_weigh_says_how_far_the_kl_rises(
    model: PreTrainedModel, rows: TextRows, tmp_path: Path
) -> None:
    """Small random errors in each weight alone. Those of values are alike for all tokens, and add up to more."""
    modules = codable(model, 1)
    hessians, importance, sensitivity = calibrate(
        model, modules, rows, tmp_path / "hessians", Progress("test"), seed=0
    )
    assert set(importance) == set(sensitivity) == set(modules)
    before = reference(model, rows)
    generator = torch.Generator().manual_seed(0)
    for path, module in modules.items():
        assert isinstance(module.weight, nn.Parameter)
        weight = module.weight
        delta = torch.randn(weight.shape, generator=generator) * 0.003 * weight.std()
        weigh, h = torch.from_numpy(np.load(importance[path])), hessians.get(path)
        root = delta * weigh.sqrt()[:, None]
        squares = root.square().sum() if h is None else ((root @ torch.from_numpy(np.load(h))) * root).sum()
        weight += delta
        after = reference(model, rows)
        weight -= delta
        rise = float((before.exp() * (before - after)).sum(-1).mean())
        assert 0.2 < rise / (sensitivity[path] * float(squares)) < 6.0, path


def reference(model: PreTrainedModel, rows: TextRows) -> torch.Tensor:
    """Log-probabilities of all next tokens, (N · T, V) float64."""
    with torch.no_grad():
        return model(input_ids=rows.ids, use_cache=False).logits.double().log_softmax(-1).flatten(0, 1)


def test_rows_that_never_come_keep_a_share_of_the_weight(
    model: PreTrainedModel, rows: TextRows, tmp_path: Path
) -> None:
    _, importance, _ = calibrate(model, codable(model, 1), rows, tmp_path / "h", Progress("test"), seed=0)
    weigh = np.load(next(file for path, file in importance.items() if "embed" in path))
    unseen = np.setdiff1d(np.arange(VOCAB_SIZE), rows.ids.numpy())
    assert weigh[unseen].min() >= 0.19 * weigh.mean() and weigh[unseen].mean() < weigh.mean()
    assert np.log(weigh).mean() == pytest.approx(0.0, abs=1e-3)
