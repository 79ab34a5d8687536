"""Parents whose tokenizers differ in added tokens: their embeddings and output layers get the same rows.

As `forge merge` does it with `--tokenizer union` (shared/merging/streaming/vocabulary.py): rows are brought together by the
tokens' strings, and a token that a parent lacks gets the base's row, or the mean of those that have it. Parents whose
ordinary tokens differ are refused (compatibility.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.shared.merging.checkpoint.mapped_model import MappedModel
from components.shared.merging.streaming import vocabulary as vocabularies
from components.shared.merging.streaming.recipe import TokenizerRecipe
from components.shared.merging.streaming.vocabulary import AlignedTensor, Vocabulary
from components.shared.models.loading import load_tokenizer
from components.shared.models.remote_code.modeling_wrapped import ForgeWrapped

from .compatibility import one_tokenizer

ROWS = 4096
"""Rows that are brought to their place at a time."""


def align(
    models: Sequence[PreTrainedModel], folders: Sequence[Path], base: int | None, work: Path
) -> PreTrainedTokenizerBase:
    """Give models the union of their vocabularies, in place; the new matrices lie in files.

    :param models: which differ in tokens that were added, or in rows that no token has.
    :param folders: of each of them.
    :param base: the number of the one whose rows stand in where others have none; None: the mean of those that have.
    :param work: a folder for the matrices.
    :returns: the tokenizer with all their tokens.
    :raises InputError: the tokenizers differ in ordinary tokens.
    """
    for folder in folders[1:]:
        one_tokenizer(folders[0], folder)
    mapped = [MappedModel(folder) for folder in folders]
    recipe = TokenizerRecipe(source="union", base=None if base is None else folders[base])
    vocabulary = vocabularies.align(mapped, base, recipe)
    if vocabulary is None:  # alike after all, in another order of their listing
        return load_tokenizer(folders[0])
    work.mkdir(parents=True, exist_ok=True)
    embeddings = [embedding_of(model) for model in models]
    heads = [model.get_output_embeddings() for model in models]
    tied = [
        head is None or head.weight is model.get_input_embeddings().weight
        for head, model in zip(heads, models, strict=True)
    ]
    outputs = [own if head is None else _weight(head) for head, own in zip(heads, embeddings, strict=True)]
    biases = [head.bias for head in heads if isinstance(head, nn.Linear) and head.bias is not None]
    for number, model in enumerate(models):
        place = work / f"embedding-{number}.bin"
        embedding = nn.Parameter(_aligned(embeddings, vocabulary, number, place), requires_grad=False)
        model.get_input_embeddings().weight = embedding
        setattr(model.get_input_embeddings(), "num_embeddings", vocabulary.rows)  # noqa: B010
        if not tied[number]:
            place = work / f"output-{number}.bin"
            heads[number].weight = nn.Parameter(
                _aligned(outputs, vocabulary, number, place), requires_grad=False
            )
        elif heads[number] is not None:
            heads[number].weight = embedding
        if len(biases) == len(models):
            columns = [bias.detach()[:, None] for bias in biases]
            column = _aligned(columns, vocabulary, number, work / f"bias-{number}.bin")
            heads[number].bias = nn.Parameter(column[:, 0], requires_grad=False)
        _resize(model, vocabulary.rows)
    if not vocabulary.added:
        return load_tokenizer(vocabulary.folder)
    tokenizer = work / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    for file in vocabulary.folder.iterdir():
        if (
            file.is_file()
            and file.suffix in (".json", ".jinja", ".model", ".txt")
            and "safetensors" not in file.name
        ):
            shutil.copyfile(file, tokenizer / file.name)
    vocabularies.save(vocabulary, tokenizer)
    return load_tokenizer(tokenizer)


def embedding_of(model: PreTrainedModel) -> Tensor:
    """The matrix of a model's tokens, (rows, width)."""
    return _weight(model.get_input_embeddings())


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)  # of an embedding, or a linear layer
    return weight.detach()


def _aligned(matrices: Sequence[Tensor], vocabulary: Vocabulary, own: int, place: Path) -> Tensor:
    """A model's matrix with its rows in the merged order: (rows, width) as it was stored, mapped from a file."""
    width, dtype = matrices[own].shape[1], matrices[own].dtype
    source = AlignedTensor(matrices, vocabulary, own)
    target = torch.from_file(str(place), shared=True, size=vocabulary.rows * width, dtype=dtype)
    target = target.view(vocabulary.rows, width)
    for first in range(0, vocabulary.rows, ROWS):
        last = min(first + ROWS, vocabulary.rows)
        target[first:last].copy_(source.read(first, last))
    return target.to(matrices[own].device)


def _resize(model: PreTrainedModel, rows: int) -> None:
    """Say in the configurations how many tokens there are."""
    model.config.get_text_config().vocab_size = rows
    model.vocab_size = rows
    if isinstance(model, ForgeWrapped):
        model.inner.config.get_text_config().vocab_size = rows
        model.inner.vocab_size = rows
        model.config.inner = {**(model.config.inner or {}), "vocab_size": rows}
