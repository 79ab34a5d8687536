"""What is merged: `models` or `slices` of a configuration as the models, blocks and numbers of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..method import MergeMethod
from ..streaming.recipe import LayerBlock, ParameterValue, RecipeModel
from .model_names import ModelNames, NamedModel
from .reader import Reader, one_minus

Values = dict[str, ParameterValue]


@dataclass
class Source:
    """A model that a slice is merged from, the layers that are taken of it, and its own numbers."""

    model: NamedModel
    layers: tuple[int, int] | None
    parameters: Values


@dataclass
class Slice:
    """A run of layers. base: which of the models is the base here; shared: the numbers of all its sources."""

    sources: list[Source]
    base: NamedModel | None
    shared: Values = field(default_factory=dict)


class Sources:
    """Reads what is merged by one method.

    :param reader: of the file.
    :param names: its models.
    :param method: of the merge.
    :param base: its base_model.
    """

    def __init__(
        self, reader: Reader, names: ModelNames, method: MergeMethod, base: NamedModel | None
    ) -> None:
        self.reader, self.names, self.method, self.base = reader, names, method, base
        # mergekit's slerp has a base and t, the way from it to the other: here two models of weights 1 − t and t.
        self.by_way = any(
            parameter.mergekit == "t" and parameter.per_model for parameter in method.parameters
        )

    def read(
        self, content: dict[str, Any], shared: Values
    ) -> tuple[tuple[RecipeModel, ...], tuple[LayerBlock, ...], Values]:
        """Models, blocks and what all of them share.

        :param content: with `models` or `slices`.
        :param shared: the parameters of the whole merge.
        :raises ConfigError: something is missing, twice there, or not supported.
        """
        if "models" in content:
            slices = [self._whole(content["models"])]
        else:
            slices = [self._slice(row) for row in self.reader.rows(content["slices"], "slices")]
        for piece in slices:
            self._check(piece)
            self._require(piece, shared)
        parents = [self._parents(piece) for piece in slices]
        named = list(dict.fromkeys(source.model for own in parents for source in own))
        blocks: list[LayerBlock] = []
        if "models" in content:
            return tuple(
                RecipeModel(s.model.folder, self._own(s, slices[0], shared), s.model.lora) for s in parents[0]
            ), (), {} if self.by_way else shared  # fmt: skip
        end = 0
        for piece, own in zip(slices, parents, strict=True):
            starts = tuple((source.layers or (0, 0))[0] for source in own)
            count = (own[0].layers or (0, 0))[1] - starts[0]
            blocks.append(
                LayerBlock(
                    end, end + count, tuple(self._own(source, piece, shared) for source in own),
                    {} if self.by_way else piece.shared, tuple(named.index(source.model) for source in own), starts,
                    self._base_start(piece, starts[0]),
                )
            )  # fmt: skip
            end += count
        models = [RecipeModel(model.folder, {}, model.lora) for model in named]
        return tuple(models), tuple(blocks), {} if self.by_way else shared

    def _whole(self, value: Any) -> Slice:
        """`models` as one slice of all layers; mergekit adds a base that is not listed."""
        sources = []
        for entry in self.reader.rows(value, "models"):
            content = self.reader.mapping(entry, "a model", ("model", "parameters"))
            sources.append(self._source(content, None))
        if self.base is not None and self.base not in [source.model for source in sources]:
            sources.append(Source(self.base, None, {}))
        return Slice(sources, self.base)

    def _slice(self, row: Any) -> Slice:
        piece = self.reader.mapping(row, "a slice", ("sources", "parameters", "base_model"))
        base = self.base
        if piece.get("base_model") is not None:
            base = self.names.model(piece["base_model"])
            if base != self.base and not self.by_way:
                raise self.reader.refuse(
                    "another base_model in a slice is not supported", "one base for the whole merge"
                )
        sources = []
        for entry in self.reader.rows(piece.get("sources"), "sources"):
            content = self.reader.mapping(entry, "a source", ("model", "layer_range", "parameters"))
            sources.append(self._source(content, self.reader.layers(content.get("layer_range"))))
        counts = {last - first for first, last in (source.layers or (0, 0) for source in sources)}
        if len(counts) != 1:
            raise self.reader.refuse(
                "the sources of a slice must have as many layers each", why=str(sorted(counts))
            )
        return Slice(sources, base, self.reader.parameters(piece.get("parameters"), self.method))

    def _source(self, content: dict[str, Any], layers: tuple[int, int] | None) -> Source:
        parameters = self.reader.parameters(content.get("parameters"), self.method, own=True)
        if self.by_way and parameters:
            raise self.reader.refuse(
                "t is no parameter of a model", "put it under the parameters of the whole merge"
            )
        return Source(self.names.model(content.get("model")), layers, parameters)

    def _check(self, piece: Slice) -> None:
        models = [source.model for source in piece.sources]
        if twice := next((model for model in models if models.count(model) > 1), None):
            raise self.reader.refuse(
                f"{twice.folder.name} is there twice", "name every model once, and give it the sum of the weights",
                "duplicate merge inputs",
            )  # fmt: skip
        if self.by_way and (len(models) != 2 or piece.base not in models):
            raise self.reader.refuse(
                f"{self.method.name} takes a base_model and one other model",
                why=f"there are {len(models)} models",
            )
        if not self._parents(piece):
            raise self.reader.refuse(
                "there is no model beside the base", "passthrough takes a model as it is", self.method.name
            )
        if self.method.needs_base and piece.base is None:
            raise self.reader.refuse(f"{self.method.name} needs a base_model")

    def _require(self, piece: Slice, shared: Values) -> None:
        for parameter in self.method.parameters:
            if not parameter.mergekit_required and not self.by_way:
                continue
            for source in self._parents(piece):
                if parameter.name not in {*shared, *piece.shared, *source.parameters}:
                    own = parameter.mergekit
                    raise self.reader.refuse(
                        f"{source.model.folder.name} has no {own}", f"give it parameters: {{{own}: …}}"
                    )

    def _parents(self, piece: Slice) -> list[Source]:
        """The sources that are merged: all but the base, which a method without one counts among them."""
        if self.by_way:
            return sorted(piece.sources, key=lambda source: source.model != piece.base)
        if self.method.base == "unused":
            return piece.sources
        return [source for source in piece.sources if source.model != piece.base]

    def _base_start(self, piece: Slice, otherwise: int) -> int:
        return next(
            (source.layers[0] for source in piece.sources if source.model == piece.base and source.layers),
            otherwise,
        )

    def _own(self, source: Source, piece: Slice, shared: Values) -> Values:
        """A source's own numbers."""
        if not self.by_way:
            return source.parameters
        way = {**shared, **piece.shared}["weight"]
        return {"weight": way if source.model != piece.base else one_minus(way)}
