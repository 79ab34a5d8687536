"""Vocabularies that differ: the rows of embedding and output layer brought together by the tokens' strings.

As mergekit does it (Goddard et al., arXiv 2403.13257, §3.3): a token that a model lacks gets the row that the base has
for it; where the base lacks it too, or there is none, the mean of the rows of the models that have it. So a token that
one model alone knows keeps that model's row. A rule for a single token goes before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from components.shared.runtime.errors import InputError

from ..checkpoint.mapped_model import MappedModel
from .compatibility import few
from .recipe import TokenizerRecipe, TokenRow

FILE = "tokenizer.json"
Tokens = Mapping[str, int]


@dataclass(frozen=True)
class Vocabulary:
    """The merged vocabulary.

    :param rows: of the merged embedding.
    :param source_rows: of each model, (rows,) int64: its row of each token, −1 where it has none.
    :param donors: (model, row) of all whose mean a model gets where it has no row; without any: zeros.
    :param folder: whose tokenizer is taken.
    :param added: tokens that are new to it, in the order of their ids.
    :param filled: the first of the rows that belong to no token and are the mean of the others; `rows` where there are
        none.
    :param notes: what to know, in words.
    """

    rows: int
    source_rows: list[Tensor]
    donors: Mapping[int, Sequence[tuple[int, int]]]
    folder: Path
    added: tuple[dict[str, Any], ...] = ()
    filled: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class AlignedTensor:
    """A model's matrix with its rows in the merged order; an operand of a piece.

    :param matrices: of all models, (rows, width) as stored.
    :param own: this model's number.
    :param whole: a piece is the tensor as one row.
    """

    matrices: Sequence[Tensor]
    vocabulary: Vocabulary
    own: int
    whole: bool = False

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 of the merged order, float32."""
        if self.whole:
            return self._rows(0, self.vocabulary.rows).reshape(1, -1)
        return self._rows(first, last)

    def _rows(self, first: int, last: int) -> Tensor:
        source = self.vocabulary.source_rows[self.own][first:last]
        rows = self.matrices[self.own][source.clamp_min(0)].float()
        for offset in (source < 0).nonzero().flatten().tolist():
            row = first + offset
            rows[offset] = self.mean if row >= self.vocabulary.filled else self._default(row)
        return rows

    def _default(self, row: int) -> Tensor:
        donors = self.vocabulary.donors.get(row, ())
        if not donors:
            return torch.zeros(self.matrices[self.own].shape[1])
        return torch.stack([self.matrices[model][of].float() for model, of in donors]).mean(0)

    @cached_property
    def mean(self) -> Tensor:
        """Of the rows that are tokens'."""
        filled, step = self.vocabulary.filled, 1024
        sums = [self._rows(at, min(at + step, filled)).double().sum(0) for at in range(0, filled, step)]
        return (torch.stack(sums).sum(0) / filled).float()


def tokens(folder: Path) -> dict[str, int] | None:
    """Every token's id, or None where the folder holds no tokenizer.json."""
    path = folder / FILE
    return dict(Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True)) if path.is_file() else None


def align(models: Sequence[MappedModel], base: int | None, wanted: TokenizerRecipe) -> Vocabulary | None:
    """The merged vocabulary, or None where all are the same and nothing is to be changed.

    :param models: the base among them, if there is one.
    :param base: its number.
    :param wanted: the recipe's word on it.
    :raises InputError: they differ and the recipe does not say what to do; a model without a tokenizer among models of
        other sizes; a rule for a token that there is not.
    """
    listed = [tokens(model.folder) for model in models]
    known = [ids for ids in listed if ids is not None]
    sizes = {model.vocabulary_rows for model in models}
    alike = len(sizes) == 1 and all(ids == known[0] for ids in known)
    changes = bool(wanted.tokens or wanted.multiple)
    folder = wanted.source if isinstance(wanted.source, Path) else models[base or 0].folder
    target = tokens(folder)
    changes |= bool(known) and target is not None and target != known[0]
    if alike and not changes:
        return None  # nothing says that they differ
    if target is None or len(known) < len(models):
        bare = folder if target is None else models[listed.index(None)].folder
        raise InputError(
            f"a model has no {FILE}, and the vocabularies may differ",
            where=str(bare),
            fix="save its tokenizer beside it",
        )
    if silent := next((model for model in models if not model.vocabulary_rows), None):
        raise InputError(
            "a model does not say how many tokens it has",
            where=str(silent.folder),
            fix="write vocab_size into its config.json",
        )
    if wanted.source == "same" and not alike:
        _refuse(models, known, base or 0)
    owner = next((number for number, model in enumerate(models) if model.folder == folder), None)
    added = _new(models, known, target, folder) if wanted.source == "union" else []
    known_by_now = {*target, *(token["content"] for token in added)}
    added += [{"content": token} for token in wanted.tokens if token not in known_by_now]
    first_new = max(target.values()) + 1
    order = {**target, **{token["content"]: first_new + offset for offset, token in enumerate(added)}}
    used = rows = max(order.values()) + 1
    if wanted.multiple:
        rows = -(-used // wanted.multiple) * wanted.multiple
    elif owner is not None:  # rows that pad the matrix stay where they are
        used = rows = max(rows, models[owner].vocabulary_rows or 0)
    source_rows = [_source_rows(own, order, rows, models[number], keep=number == owner and not wanted.multiple)
                   for number, own in enumerate(known)]  # fmt: skip
    donors = _donors(models, known, order, source_rows, base, wanted.tokens)
    return Vocabulary(rows, source_rows, donors, folder, tuple(added), used, _ordinary(added, folder))


def _source_rows(own: Tokens, order: Tokens, rows: int, model: MappedModel, *, keep: bool) -> Tensor:
    source = torch.full((rows,), -1, dtype=torch.int64)
    limit = model.vocabulary_rows or 0
    if keep:
        source[:limit] = torch.arange(limit)
    for token, row in order.items():
        own_row = own.get(token, -1)
        source[row] = own_row if own_row < limit else -1
    return source


def _donors(
    models: Sequence[MappedModel],
    known: Sequence[Tokens],
    order: Tokens,
    source_rows: Sequence[Tensor],
    base: int | None,
    rules: Mapping[str, TokenRow],
) -> dict[int, list[tuple[int, int]]]:
    """Whose mean stands in for every row that a model lacks. Rules that force a row take it from all models."""
    some_lack = (torch.stack(list(source_rows)) < 0).any(0)
    donors: dict[int, list[tuple[int, int]]] = {}
    for row in some_lack.nonzero().flatten().tolist():
        owners = [(number, int(rows[row])) for number, rows in enumerate(source_rows) if rows[row] >= 0]
        of_base = [(number, own) for number, own in owners if number == base]
        donors[row] = of_base or owners
    for token, rule in rules.items():
        row = order[token]
        if rule.model is None:
            donors[row] = []
        else:
            number = next((i for i, model in enumerate(models) if model.folder == rule.model), None)
            if number is None:
                raise InputError(
                    "the row of a token comes from a model that is not merged",
                    where=f"tokens: {token}",
                    fix="name one of the models or the base",
                )
            of = rule.token if isinstance(rule.token, int) else known[number].get(rule.token or token, -1)
            if not 0 <= of < (models[number].vocabulary_rows or 0):
                raise InputError(
                    f"{models[number].folder.name} has no token {rule.token or token!r}",
                    where=f"tokens: {token}",
                    fix="name a model that has it, or another of its tokens",
                )
            donors[row] = [(number, of)]
        if rule.force:
            for rows in source_rows:
                rows[row] = -1
    return donors


def _refuse(models: Sequence[MappedModel], known: Sequence[Tokens], reference: int) -> None:
    for model, own in zip(models, known, strict=True):
        if own == known[reference]:
            continue
        odd = sorted({token for token, _ in own.items() ^ known[reference].items()})
        raise InputError(
            "the models have different vocabularies",
            where=str(model.folder),
            why=f"{len(odd)} tokens differ from those of {models[reference].folder.name}: {few([repr(t) for t in odd])}",
            fix="--tokenizer base takes the base's vocabulary, --tokenizer union adds the other models' tokens",
        )
    raise InputError(
        "the models have one tokenizer and embeddings of different sizes",
        where="vocab_size",
        fix="--tokenizer base takes the base's (or the first model's) rows",
    )


def _new(
    models: Sequence[MappedModel], known: Sequence[Tokens], target: Tokens, folder: Path
) -> list[dict[str, Any]]:
    """The tokens that other models have and the target has not, each as an added token."""
    added: dict[str, dict[str, Any]] = {}
    for model, own in zip(models, known, strict=True):
        listed = json.loads((model.folder / FILE).read_text(encoding="utf-8")).get("added_tokens") or []
        special = {token["content"]: token for token in listed}
        limit = model.vocabulary_rows or 0
        for token in sorted(own, key=own.__getitem__):
            if token not in target and own[token] < limit:
                added.setdefault(token, special.get(token, {"content": token, "normalized": False}))
    return list(added.values())


def _ordinary(added: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """What to know of tokens that were ordinary ones: a tokenizer comes to them by its merges, and has none for them."""
    ordinary = [repr(token["content"]) for token in added if "id" not in token and "normalized" in token]
    return [
        f"{len(ordinary)} ordinary tokens are new to {folder.name} ({few(ordinary)}): they are added as whole words, and "
        "text that holds them is split differently from now on"
    ] if ordinary else []  # fmt: skip


def save(vocabulary: Vocabulary, target: Path) -> None:
    """Write the tokenizer with the added tokens.

    :param vocabulary: that has added tokens.
    :param target: the merged model's folder.
    :raises InputError: the tokens do not get the ids that they should.
    """
    source = vocabulary.folder / FILE
    tokenizer = Tokenizer.from_file(str(source))
    expected = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    for offset, token in enumerate(vocabulary.added):
        options = {key: value for key, value in token.items() if key not in ("id", "content")}
        tokenizer.add_tokens([AddedToken(token["content"], **options)])
        if tokenizer.token_to_id(token["content"]) != expected + offset:
            raise InputError(
                "the tokenizer gives a new token an id that is not the next one",
                where=f"{source}: {token['content']!r}",
                fix="--tokenizer base leaves it out",
            )
    tokenizer.save(str(target / FILE))
