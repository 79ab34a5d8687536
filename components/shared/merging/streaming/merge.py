"""A merge from files to a file: memory for a few pieces, however large the models are.

read     the parents' safetensors are mapped; a piece of 131,072 entries is read in float32
survey   where a method asks for it, a first pass over a tensor: thresholds, angles, energies
merge    piece by piece on a few threads; results are rounded once, into their place in the new file
publish  the finished folder is renamed to its name: there is all of it or none
"""

from __future__ import annotations

import math
import os
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.runtime.tracking.progress import Progress

from ..checkpoint.mapped_model import CARRIED, DTYPES, MappedModel
from ..checkpoint.operand import Operand
from ..checkpoint.writing import WeightsWriter
from ..inputs import MergeInputs
from . import basin, compatibility, files
from .pieces import PIECE, Line, Pieces, one_thread, rows_of
from .plan import Plan, Target
from .recipe import Recipe
from .vocabulary import AlignedTensor, align


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
        self.parents = [MappedModel(model.folder, model.lora) for model in recipe.models]
        self.base = None if recipe.base is None else MappedModel(recipe.base)
        self.models = [*self.parents, *([self.base] if self.base else [])]
        named = recipe.base or recipe.tokenizer.base
        base = next((number for number, model in enumerate(self.models) if model.folder == named), None)
        self.vocabulary = align(self.models, base, recipe.tokenizer)
        self.plan = Plan(recipe, self.models, self.vocabulary)
        self.dtypes = {target.name: self._dtype(target) for target in self.plan.targets}
        self.notes = [
            *recipe.notes,
            *compatibility.differences(self.models),
            *self._changes(),
            *basin.warnings(self.parents, self.plan.targets),
        ]

    def _dtype(self, target: Target) -> torch.dtype:
        stored = self.parents[target.models[0]].tensors[target.names[0]].dtype
        if target.carried:
            return CARRIED[stored]
        if not self.recipe.dtype:
            return DTYPES[stored]
        known = {_word(dtype): dtype for dtype in DTYPES.values()}
        if self.recipe.dtype not in known:
            raise InputError(
                f"there is no type {self.recipe.dtype!r}", where="dtype", fix=f"use {', '.join(known)}"
            )
        return known[self.recipe.dtype]

    def _changes(self) -> list[str]:
        """What the merged file has otherwise than a model's, and was not asked for, in words."""
        notes = list(self.vocabulary.notes) if self.vocabulary else []
        if self.plan.unties:
            notes.append(
                "an output layer of its own is in the merged model, and its configuration says so: "
                "tie_word_embeddings is true for a model, but lm_head.weight is not the embedding in all of them"
            )
        stack = self.plan.stacks[0]
        if self.plan.layers != stack.count:
            notes.append(f"the merged model has {self.plan.layers} layers, the first model {stack.count}")
        if self.recipe.dtype:
            return notes
        for number, model in enumerate(self.parents[1:], 1):
            other = {
                (_word(DTYPES[model.tensors[name].dtype]), _word(self.dtypes[target.name]))
                for target in self.plan.targets
                if not target.carried
                for owner, name in zip(target.models, target.names, strict=True)
                if owner == number and DTYPES[model.tensors[name].dtype] != self.dtypes[target.name]
            }
            notes += [
                f"{model.folder.name} has weights in {own} that are {merged} in the merged model, as in "
                f"{self.parents[0].folder.name}: --dtype chooses"
                for own, merged in sorted(other)
            ]
        return notes

    def _pieces(self, target: Target, pool: ThreadPoolExecutor) -> Pieces:
        method = self.recipe.merge_method
        whole = method.whole_rows
        numbers = [*target.models, *([len(self.parents)] if target.base is not None else [])]
        names = [*target.names, *([target.base] if target.base is not None else [])]
        operands: list[Operand]
        if target.by_token and self.vocabulary:
            operands = self._aligned(target, numbers, whole=whole and len(target.shape) == 1)
        else:
            width = rows_of(target.shape, whole=whole)[1]
            operands = [
                self.models[number].operand(name, width) for number, name in zip(numbers, names, strict=True)
            ]
        count = len(target.models)
        reads_base = target.base is not None and method.base != "unused"
        return Pieces(
            target.shape, operands[:count], operands[count] if reads_base else None, pool,
            threads=self.threads, whole=whole, size=self.size,
        )  # fmt: skip

    def _aligned(self, target: Target, numbers: list[int], *, whole: bool) -> list[Operand]:
        """The operands of a tensor whose rows are tokens. Any model may lend a row."""
        assert self.vocabulary is not None
        matrices = []
        for number, model in enumerate(self.models):
            name = self.plan.name_in(number, target)
            if model.lora is not None and model.lora.adds_to(name):
                raise InputError(
                    "a LoRA changes the rows of tokens that are to be brought together",
                    where=f"{model.lora.folder}: {name}",
                    fix="merge it into its model first",
                )
            matrices.append(model.flat(name).view(model.tensors[name].shape[0], -1))
        return [AlignedTensor(matrices, self.vocabulary, number, whole) for number in numbers]

    def write(self, target: Path, *, progress: Progress, sync: bool = True) -> MergeResult:
        """Merge into a folder.

        :param target: must not exist, or be empty.
        :param progress: told of every tensor.
        :param sync: wait for the disk.
        :raises InputError: numbers are not finite after the merge.
        :raises ArtifactError: the target cannot be written.
        """
        started = time.perf_counter()
        shapes = {target.name: target.shape for target in self.plan.targets}
        parameters = sum(math.prod(shape) for shape in shapes.values())
        with _staging(target) as staging, one_thread(), ThreadPoolExecutor(self.threads) as pool:
            weights = WeightsWriter(staging, shapes, self.dtypes)
            try:
                thresholds = self._thresholds(pool, progress)
                progress.start("merge", parameters)
                with Line(pool, self.threads) as line:
                    for tensor in self.plan.targets:
                        self._tensor(tensor, thresholds, weights, line)
                        progress.step(math.prod(tensor.shape))
                progress.done()
                merged = time.perf_counter()
            finally:
                weights.close(sync=sync)
            files.write(
                staging, self.plan, dtype=self._most_common_dtype(), parameters=parameters, notes=self.notes
            )
        ended = time.perf_counter()
        return MergeResult(parameters, merged - started, ended - merged, self.notes)

    def _most_common_dtype(self) -> str:
        sizes: Counter[torch.dtype] = Counter()
        for target in self.plan.targets:
            if not target.carried:
                sizes[self.dtypes[target.name]] += 1 + math.prod(target.shape)
        return _word(sizes.most_common(1)[0][0])

    def _tensor(
        self, target: Target, thresholds: list[float] | None, weights: WeightsWriter, line: Line
    ) -> None:
        if target.carried:
            weights.write(target.name, 0, self.parents[target.models[0]].flat(target.names[0]))
            return
        if not math.prod(target.shape):
            return
        method, pieces = self.recipe.merge_method, self._pieces(target, line.pool)
        numbers = replace(target.numbers, thresholds=thresholds)
        surveyed = method.survey(pieces, numbers)

        def work(piece: MergeInputs) -> None:
            if weights.write(target.name, piece.start, method.merge(piece, numbers, surveyed)):
                return
            raise InputError(
                f"{target.name} is not finite after {self.recipe.method}",
                where=str(self.parents[0].folder),
                why=f"as {_word(self.dtypes[target.name])} it holds inf or nan",
                fix="--dtype bfloat16 or float32 hold numbers above 65504; or look for inf and nan in the models, or for "
                "weights that cancel each other out",
            )

        line.add(pieces, work, lambda: self._release(target))

    def _release(self, target: Target) -> None:
        for number, model in enumerate(self.models):
            for owner, name in zip(target.models, target.names, strict=True):
                if owner == number or target.by_token:
                    model.release(self.plan.name_in(number, target) if target.by_token else name)
        if self.base is not None and target.base is not None:
            self.base.release(target.base)

    def _thresholds(self, pool: ThreadPoolExecutor, progress: Progress) -> list[float] | None:
        """TIES's, over each parent's whole task vector, as in the paper."""
        if not self.recipe.merge_method.trims_model or self.recipe.trim == "tensor":
            return None
        targets = [target for target in self.plan.targets if not target.carried and 0 not in target.shape]
        densities = [
            {target.numbers.own[i]["density"] for target in targets} for i in range(len(self.parents))
        ]
        if any(len(own) > 1 for own in densities):
            raise InputError(
                "the density differs from tensor to tensor, and is to be of the whole model",
                where="density",
                fix="--trim tensor, or one density",
            )

        from ..magnitude import threshold  # its loops bring numba in, which most methods do without

        def task_vector(parent: int) -> Iterator[Tensor]:
            for target in targets:
                yield from self._pieces(target, pool).task_vector(parent)

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
        for target in targets:
            self._release(target)
        return thresholds


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


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
