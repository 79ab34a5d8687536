"""A merge from files to a file: memory for a few pieces, however large the models are.

read     the parents' safetensors are mapped; a piece of 65,536 entries is read in float32
survey   where a method asks for it, a first pass over a tensor: thresholds, angles, energies
merge    piece by piece on a few threads; results are rounded once, into their place in the new file
publish  the finished folder is renamed to its name: there is all of it or none
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.runtime.tracking.progress import Progress

from ..inputs import MergeInputs, MergeParameters
from ..layer_groups import LayerStack
from ..magnitude import threshold
from . import basin, compatibility, files
from .mapped_model import DTYPES, MappedModel
from .pieces import PIECE, Operand, Pieces, StoredTensor, one_thread, rows_of
from .recipe import Recipe
from .vocabulary import AlignedTensor, Vocabulary, align
from .writing import WeightsWriter


@dataclass(frozen=True)
class MergeResult:
    """What a merge made.

    :param parameters: how many numbers were merged.
    :param seconds: of the merge.
    :param disk_seconds: of the wait for the disk at its end.
    :param notes: what to know, in words.
    """

    parameters: int
    seconds: float
    disk_seconds: float
    notes: list[str]


class StreamingMerge:
    """Opens and checks the models; `write` does the work.

    :param recipe: what to merge, and how.
    :param threads: how many pieces are worked on at once.
    :param piece: entries of a piece.
    :raises InputError: the models do not fit the recipe or each other.
    :raises ArtifactError: a model cannot be read.
    """

    def __init__(self, recipe: Recipe, *, threads: int = 2, piece: int = PIECE) -> None:
        recipe.check()
        self.recipe, self.threads, self.size = recipe, threads, piece
        self.parents = [MappedModel(model.folder) for model in recipe.models]
        self.base = None if recipe.base is None else MappedModel(recipe.base)
        models = self.models = [*self.parents, *([self.base] if self.base else [])]
        self.names = compatibility.common_tensors(models)
        self.reference = len(models) - 1 if self.base else 0
        self.vocabulary: Vocabulary | None = align(models, self.reference, recipe.tokenizer)
        self.stack: LayerStack = compatibility.check_shapes(
            self.names, models, aligned=self.vocabulary is not None
        )
        if recipe.blocks and recipe.blocks[-1].last != self.stack.count:
            raise InputError(
                f"the slices end at layer {recipe.blocks[-1].last}, and the models have {self.stack.count} layers",
                where="slices",
                fix="this merge keeps the depth: give every layer once",
            )
        self.numbers = {name: self._numbers(name) for name in self.names}  # bad ones are refused here
        self.notes = compatibility.differences(models) + basin.warnings(self.parents, self.names)
        self.dtype = self._dtype()

    def _numbers(self, name: str) -> MergeParameters:
        location = self.stack.locate(name)
        return self.recipe.parameters_of(name, None if location is None else location[0], self.stack.count)

    def _dtype(self) -> torch.dtype:
        if not self.recipe.dtype:
            return DTYPES[self.parents[0].tensors[self.names[0]].dtype]
        known = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}
        if self.recipe.dtype not in known:
            raise InputError(
                f"there is no type {self.recipe.dtype!r}", where="dtype", fix=f"use {', '.join(known)}"
            )
        return known[self.recipe.dtype]

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the merged tensor."""
        shape = self.parents[0].tensors[name].shape
        return (self.vocabulary.rows, *shape[1:]) if self._by_token(name) and self.vocabulary else shape

    def _by_token(self, name: str) -> bool:
        return self.vocabulary is not None and compatibility.is_vocabulary(name, self.models, self.stack)

    def _pieces(self, name: str, pool: ThreadPoolExecutor) -> Pieces:
        method, shape = self.recipe.merge_method, self.shape(name)
        whole, reads_base = method.whole_rows, method.base != "unused"
        operands: list[Operand]
        if self._by_token(name) and self.vocabulary:
            matrices = [model.flat(name).view(model.tensors[name].shape) for model in self.models]
            operands = [AlignedTensor(matrices, self.vocabulary, own) for own in range(len(matrices))]
        else:
            width = rows_of(shape, whole=whole)[1]
            operands = [StoredTensor(model.flat(name), width) for model in self.models]
        count = len(self.parents)
        return Pieces(
            shape, operands[:count], operands[count] if self.base and reads_base else None, pool,
            threads=self.threads, whole=whole, size=self.size,
        )  # fmt: skip

    def write(self, target: Path, *, progress: Progress, sync: bool = True) -> MergeResult:
        """Merge into a folder.

        :param target: must not exist, or be empty.
        :param progress: told of every tensor.
        :param sync: wait for the disk.
        :raises InputError: numbers are not finite after the merge.
        :raises ArtifactError: the target cannot be written.
        """
        started = time.perf_counter()
        shapes = {name: self.shape(name) for name in self.names}
        parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
        with _staging(target) as staging, one_thread(), ThreadPoolExecutor(self.threads) as pool:
            weights = WeightsWriter(staging, shapes, self.dtype)
            try:
                thresholds = self._thresholds(pool, progress, parameters)
                progress.start("merge", parameters)
                for name in self.names:
                    self._tensor(name, replace(self.numbers[name], thresholds=thresholds), weights, pool)
                    progress.step(torch.Size(shapes[name]).numel())
                progress.done()
                merged = time.perf_counter()
            finally:
                weights.close(sync=sync)
            dtype = str(self.dtype).removeprefix("torch.")
            files.write(
                staging, self.recipe, self.parents[0], self.models[self.reference], self.vocabulary,
                dtype=dtype, parameters=parameters, notes=self.notes,
            )  # fmt: skip
        ended = time.perf_counter()
        return MergeResult(parameters, merged - started, ended - merged, self.notes)

    def _tensor(
        self, name: str, numbers: MergeParameters, weights: WeightsWriter, pool: ThreadPoolExecutor
    ) -> None:
        method, pieces = self.recipe.merge_method, self._pieces(name, pool)
        surveyed = method.survey(pieces, numbers)

        def work(piece: MergeInputs) -> bool:
            merged = method.merge(piece, numbers, surveyed)
            weights.write(name, piece.start, merged)
            return bool(torch.isfinite(merged.sum()))

        if not all(list(pieces.map(work))):
            raise InputError(
                f"{name} is not finite after {self.recipe.method}",
                where=str(self.parents[0].folder),
                fix="look for inf or nan in the models, or for weights that cancel each other out",
            )
        for model in self.models:
            model.release(name)

    def _thresholds(
        self, pool: ThreadPoolExecutor, progress: Progress, parameters: int
    ) -> list[float] | None:
        """TIES's, over each parent's whole task vector, as in the paper."""
        if not self.recipe.merge_method.trims_model or self.recipe.trim == "tensor":
            return None
        densities = [
            {numbers.own[i]["density"] for numbers in self.numbers.values()} for i in range(len(self.parents))
        ]
        if any(len(own) > 1 for own in densities):
            raise InputError(
                "the density differs from tensor to tensor, and is to be of the whole model",
                where="density",
                fix="--trim tensor, or one density",
            )

        def task_vector(parent: int) -> Iterator[Tensor]:
            for name in self.names:
                yield from self._pieces(name, pool).task_vector(parent)

        progress.start("thresholds", len(self.parents))
        limits = pool.map(
            lambda parent: threshold(lambda: task_vector(parent), next(iter(densities[parent]))),
            range(len(self.parents)),
        )
        thresholds = []
        for limit in limits:
            thresholds.append(limit)
            progress.step()
        progress.done()
        for model in self.models:
            for name in self.names:
                model.release(name)
        return thresholds


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside the target that becomes the target when all went well, and nothing otherwise."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArtifactError(
            "the output is there already",
            where=str(target),
            fix="give a folder that is empty or does not exist",
        )
    staging = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}"
    try:
        staging.mkdir(parents=True)
        yield staging
        if target.exists():
            target.rmdir()
        os.rename(staging, target)
    except OSError as error:
        raise ArtifactError(
            "the merged model cannot be written", where=str(target), why=error.strerror or str(error),
            fix="give a folder on a disk with room for it",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(staging, ignore_errors=True)
