"""Parents that are variants of a given model of another family: brought together, merged in place, in their own dtype."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from components.evomerge.evaluation import genome_merger
from components.evomerge.evaluation.compatibility import check
from components.evomerge.evaluation.genome_merger import GenomeMerger
from components.evomerge.evaluation.merged_model import MergedModel
from components.evomerge.evaluation.parents import Parents, load_parents
from components.evomerge.search.genome import Genome
from components.evomerge.search.space import SearchSpace
from components.shared.merging.methods.layers.dfs import indicator
from components.shared.models.grafting import graft, memory_shape, refinement_shape
from components.shared.models.loading import load, save
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.artifact import Artifact
from components.shared.runtime.errors import InputError
from tests import shapes

METHODS = (
    "linear",
    "slerp",
    "karcher",
    "task_arithmetic",
    "ties",
    "dare_linear",
    "regmean",
    "frankenmerge",
    "dfs",
)
IDS = torch.arange(3, 43).view(2, 20)
REFINEMENT = refinement_shape(width=16, size=24, heads=2, steps=2, prior=0.5, beta=0.01)


def variants(family: str, root: Path, dtype: str = "bfloat16") -> list[Artifact]:
    """A base, and two variants of it with a module of their own, as artifacts; sharded."""
    base = shapes.make(family, root / "base", dtype=dtype, shards="60KB")
    folders = [base]
    for seed, name in enumerate(("memory", "reasoning"), 1):
        model, tokenizer = load(base)
        if name == "memory":
            shape = memory_shape(model, layer=None, size=16, heads=2, chunk=4)
            model = graft(model, memory=shape)
        else:
            model = graft(model, refinement=REFINEMENT)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter + 0.02 * torch.randn(parameter.shape, generator=generator))
        save(model, tokenizer, root / name, card="# A variant\n")
        folders.append(root / name)
    for folder in folders:
        artifact.seal(folder, kind="model", phase="cognate", extra={"variant": folder.name})
    return [artifact.read(folder) for folder in folders]


def merged_model(parents: Parents) -> MergedModel:
    stack = parents.tensors.stack
    space = SearchSpace(
        parents=3, groups=3, methods=METHODS, layers=stack.count, repeats=1, deepest=stack.count + 2
    )
    return MergedModel(parents.template, GenomeMerger(parents.tensors, space, layer_groups=2, seed=0), list)


@torch.no_grad()
def logits(model: Any) -> Tensor:
    out: Tensor = model(input_ids=IDS, use_cache=False).logits
    return out


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "mixtral"])
def test_variants_of_a_model_are_united_and_every_parent_is_a_genome_bit_for_bit(family, tmp_path):
    artifacts = variants(family, tmp_path)
    check(artifacts)
    parents = load_parents(artifacts, base=artifacts[0].path, device="cpu", work=tmp_path / "work")
    merged = merged_model(parents)
    for number, own in enumerate(artifacts):
        model = merged.load(merged.merger.space.parent(number))
        assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        assert torch.equal(logits(model), logits(load(own.path)[0]))
    for method in METHODS[:-3]:
        assert logits(merged.load(Genome(method, ((1, 2, 1),) * 3, (8,) * 3))).isfinite().all()
    genome = Genome("frankenmerge", ((1, 1, 1),) * 3, path=indicator(((0, 0), (1, 1), (2, 1)), 3, 2, 1))
    assert len(merged.merger.space.layer_path(genome)) == 3
    assert logits(merged.load(genome)).isfinite().all()
    again = merged.load(merged.merger.space.parent(1))  # what was shared is written over
    assert torch.equal(logits(again), logits(load(artifacts[1].path)[0]))
    save(again, parents.tokenizer, tmp_path / "out", card="# M\n")
    assert torch.equal(logits(load(tmp_path / "out")[0]), logits(again))


def test_a_large_tensor_merged_in_pieces_is_the_tensor_merged_whole(tmp_path, monkeypatch):
    artifacts = variants("llama", tmp_path)
    parents = load_parents(artifacts, base=artifacts[0].path, device="cpu", work=tmp_path / "work")
    space = merged_model(parents).merger.space
    for method in ("linear", "slerp", "ties", "dare_linear", "task_arithmetic"):
        genome, results = Genome(method, ((1, 2, 1),) * 3, (9,) * 3, density=9), []
        for limit in (1 << 22, 1000):
            monkeypatch.setattr(genome_merger, "WHOLE", limit)
            results.append(dict(GenomeMerger(parents.tensors, space, layer_groups=2, seed=0).merged(genome)))
        for name, whole in results[0].items():
            torch.testing.assert_close(results[1][name].view(whole.shape), whole, rtol=1e-5, atol=1e-6)


def anonymous() -> int:
    """Bytes of this process's memory that are no file's."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * int(re.search(r"Pss_Anon:\s+(\d+)", text)[1])  # type: ignore[index]


def test_three_parents_and_a_base_take_the_memory_of_one_model_and_some_of_its_layers(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.COMMON, "hidden_size", 512)
    monkeypatch.setitem(shapes.COMMON, "intermediate_size", 1024)
    monkeypatch.setitem(shapes.COMMON, "num_hidden_layers", 12)
    folders = [shapes.make("llama", tmp_path / str(seed), seed=seed, dtype="bfloat16") for seed in range(4)]
    for folder in folders[:3]:
        artifact.seal(folder, kind="model", phase="cognate")
    artifacts = [artifact.read(folder) for folder in folders[:3]]
    size = (folders[0] / "model.safetensors").stat().st_size
    genomes = [Genome(method, ((1, 2, 1),) * 3, (8,) * 3) for method in ("linear", "ties", "slerp")]
    genomes.append(
        Genome("frankenmerge", ((1, 1, 1),) * 3, path=indicator(((0, 0), (1, 5), (2, 11)), 3, 12, 1))
    )
    load(folders[3])
    before, peaks = anonymous(), []
    parents = load_parents(artifacts, base=folders[3], device="cpu", work=tmp_path / "work")
    merged = merged_model(parents)
    for genome in genomes:
        for piece in merged.merger.pieces(genome):
            if piece.name.endswith("down_proj.weight"):
                peaks.append(anonymous())
        logits(merged.load(genome))
        peaks.append(anonymous())
    layer = 4 * 3 * 512 * 1024  # in float32
    assert 3 * layer < size / 2
    assert max(peaks) - before < size + 3 * layer


def with_tokens(source: Path, target: Path, *tokens: str, rows: int | None = None) -> Artifact:
    """The same model with further tokens, each with a row of its own."""
    model, tokenizer = load(source)
    tokenizer.add_tokens(list(tokens))
    torch.manual_seed(len(tokens))
    model.resize_token_embeddings(rows or len(tokenizer), mean_resizing=False)
    save(model, tokenizer, target, card="# M\n")
    artifact.seal(target, kind="model", phase="cognate")
    return artifact.read(target)


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # with an output layer of its own, and without one
def test_added_tokens_are_brought_together_and_every_parent_stays_what_it_is(family, tmp_path):
    base = shapes.make(family, tmp_path / "base")
    one = with_tokens(base, tmp_path / "one", "<think>")
    other = with_tokens(base, tmp_path / "other", "<tool>", "<think>", rows=416)
    plain = with_tokens(base, tmp_path / "plain")
    artifacts = [one, other, plain]
    check(artifacts)
    parents = load_parents(artifacts, base=base, device="cpu", work=tmp_path / "work")
    assert any("added tokens" in note for note in parents.notes)
    ids = {token: parents.tokenizer.convert_tokens_to_ids(token) for token in ("<think>", "<tool>")}
    assert len(set(ids.values())) == 2 and all(number >= shapes.VOCABULARY for number in ids.values())
    merged = merged_model(parents)
    for number, own in enumerate(artifacts):
        model, tokenizer = load(own.path)
        expected = logits(model)
        ours = logits(merged.load(merged.merger.space.parent(number)))
        assert torch.equal(ours[..., :400], expected[..., :400])
        for token, row in ids.items():
            if token in tokenizer.get_vocab():
                theirs = tokenizer.convert_tokens_to_ids(token)
                assert torch.equal(ours[..., row], expected[..., theirs])
    save(
        merged.load(merged.merger.space.default("linear")), parents.tokenizer, tmp_path / "out", card="# M\n"
    )
    again, tokenizer = load(tmp_path / "out")
    assert tokenizer.tokenize("a<tool>b<think>") == ["a", "<tool>", "b", "<think>"]
    assert again.get_input_embeddings().weight.shape[0] >= len(tokenizer)


def test_tokenizers_that_differ_in_ordinary_tokens_are_refused_by_name(tmp_path):
    base = shapes.make("llama", tmp_path / "base")
    other = tmp_path / "other"
    shutil.copytree(base, other)
    whole = json.loads((other / "tokenizer.json").read_text())
    vocabulary = whole["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.__getitem__)[100:102]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (other / "tokenizer.json").write_text(json.dumps(whole))
    for folder in (base, other):
        artifact.seal(folder, kind="model", phase="cognate")
    artifacts = [artifact.read(base), artifact.read(other)]
    with pytest.raises(InputError, match="different vocabularies") as refused:
        load_parents(artifacts, base=None, device="cpu", work=tmp_path / "work")
    assert "2 ordinary tokens" in str(refused.value.why)
