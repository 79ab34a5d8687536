"""Vocabularies that differ: the rows of embedding and output layer brought together by the tokens' strings.

As mergekit does it (Goddard et al., arXiv 2403.13257, §3.3): a token that a model lacks gets the row that the base has for
it; where the base lacks it too, the mean of the rows of the models that have it. So a token that one model alone knows
keeps that model's row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from components.shared.runtime.errors import InputError

from .compatibility import few
from .mapped_model import MappedModel

FILE = "tokenizer.json"


@dataclass(frozen=True)
class Vocabulary:
    """The merged vocabulary.

    :param rows: of the merged embedding.
    :param source_rows: of each model, (rows,) int64: its row of each token, −1 where it has none.
    :param reference: the number of the model whose tokenizer is taken.
    :param added: tokens that are new to it, in the order of their ids.
    """

    rows: int
    source_rows: list[Tensor]
    reference: int
    added: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class AlignedTensor:
    """A model's matrix with its rows in the merged order; an operand of a piece.

    :param matrices: of all models, (rows, width) as stored.
    :param own: this model's number.
    """

    matrices: Sequence[Tensor]
    vocabulary: Vocabulary
    own: int

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 of the merged order, float32."""
        sources = [rows[first:last] for rows in self.vocabulary.source_rows]
        rows = self.matrices[self.own][sources[self.own].clamp_min(0)].float()
        for row in (sources[self.own] < 0).nonzero().flatten().tolist():
            reference = self.vocabulary.reference
            owners = [i for i, source in enumerate(sources) if source[row] >= 0]
            owners = [reference] if reference in owners else owners
            rows[row] = torch.stack([self.matrices[i][sources[i][row]].float() for i in owners]).mean(0)
        return rows


def tokens(folder: Path) -> dict[str, int] | None:
    """Every token's id, or None where the folder holds no tokenizer.json."""
    path = folder / FILE
    return dict(Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)) if path.is_file() else None


def align(models: Sequence[MappedModel], reference: int, tokenizer: str) -> Vocabulary | None:
    """The merged vocabulary, or None where all are the same.

    :param models: the base among them, if there is one.
    :param reference: the number of the model whose tokenizer is taken.
    :param tokenizer: "same", "base" or "union", as in a recipe.
    :raises InputError: they differ and the recipe does not say what to do; a model without a tokenizer among models of
        other sizes; a union with tokens that no added token can stand for.
    """
    listed = [tokens(model.folder) for model in models]
    known = [ids for ids in listed if ids is not None]
    sizes = {model.config.get("vocab_size") for model in models}
    if len(known) < len(models):
        if len(sizes) == 1 and all(ids == known[0] for ids in known):
            return None  # nothing says that they differ
        bare = models[listed.index(None)]
        raise InputError(
            f"a model has no {FILE}, and the vocabularies may differ",
            where=str(bare.folder),
            fix="save its tokenizer beside it",
        )
    if len(sizes) == 1 and all(ids == known[0] for ids in known):
        return None
    if tokenizer == "same":
        _refuse(models, known, reference)
    order = dict(known[reference])
    rows = max(int(models[reference].config["vocab_size"]), max(order.values()) + 1)
    added: list[dict[str, Any]] = []
    if tokenizer == "union":
        added = _new(models, known, reference)
        for offset, token in enumerate(added):
            order[token["content"]] = max(known[reference].values()) + 1 + offset
        rows = max(rows, max(order.values()) + 1)
    return Vocabulary(rows, [_source_rows(own, order, rows, i == reference, models[i]) for i, own in enumerate(known)],
                      reference, tuple(added))  # fmt: skip


def _source_rows(
    own: Mapping[str, int], order: Mapping[str, int], rows: int, is_reference: bool, model: MappedModel
) -> Tensor:
    source = torch.full((rows,), -1, dtype=torch.int64)
    if is_reference:  # rows that pad the matrix stay where they are
        count = int(model.config["vocab_size"])
        source[:count] = torch.arange(count)
        for token, row in order.items():
            if token not in own:
                source[row] = -1
    limit = int(model.config["vocab_size"])
    for token, row in order.items():
        own_row = own.get(token, -1)
        if 0 <= own_row < limit:
            source[row] = own_row
    return source


def _refuse(models: Sequence[MappedModel], known: Sequence[Mapping[str, int]], reference: int) -> None:
    for model, own in zip(models, known, strict=True):
        if own == known[reference]:
            continue
        odd = sorted({token for token, _ in own.items() ^ known[reference].items()})
        raise InputError(
            "the models have different vocabularies",
            where=str(model.folder),
            why=f"{len(odd)} tokens differ from those of {models[reference].folder.name}: {few([repr(t) for t in odd])}",
            fix="--tokenizer base takes the base's vocabulary, --tokenizer union adds the other models' special tokens",
        )
    raise InputError(
        "the models have one tokenizer and embeddings of different sizes",
        where="vocab_size",
        fix="--tokenizer base takes the base's (or the first model's) rows",
    )


def _new(
    models: Sequence[MappedModel], known: Sequence[Mapping[str, int]], reference: int
) -> list[dict[str, Any]]:
    """The added tokens that other models have and the reference has not."""
    added: dict[str, dict[str, Any]] = {}
    for model, own in zip(models, known, strict=True):
        listed = json.loads((model.folder / FILE).read_text(encoding="utf-8")).get("added_tokens") or []
        special = {token["content"]: token for token in listed}
        missing = [token for token in sorted(own, key=own.__getitem__) if token not in known[reference]]
        if ordinary := [token for token in missing if token not in special]:
            raise InputError(
                f"{len(ordinary)} ordinary tokens of a model are new to {models[reference].folder.name}",
                where=str(model.folder),
                why=f"{few([repr(token) for token in ordinary])}; a tokenizer has no way to come to them",
                fix="--tokenizer base leaves them out",
            )
        for token in missing:
            added.setdefault(token, special[token])
    return list(added.values())


def save(vocabulary: Vocabulary, source: Path, target: Path) -> None:
    """Write the reference's tokenizer with the added tokens.

    :param vocabulary: that has added tokens.
    :param source: the reference model's folder.
    :param target: the merged model's folder.
    :raises InputError: the tokens do not get the ids that they should.
    """
    tokenizer = Tokenizer.from_file(str(source / FILE))
    expected = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    for offset, token in enumerate(vocabulary.added):
        options = {key: value for key, value in token.items() if key not in ("id", "content")}
        tokenizer.add_tokens([AddedToken(token["content"], **options)])
        if tokenizer.token_to_id(token["content"]) != expected + offset:
            raise InputError(
                "the tokenizer gives a new token an id that is not the next one",
                where=f"{source / FILE}: {token['content']!r}",
                fix="--tokenizer base leaves it out",
            )
    tokenizer.save(str(target / FILE))
