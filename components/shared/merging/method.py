"""How a merge method is declared: one function under `@merge_method`, in one file.

The declaration carries all that anybody asks of a method before it merges: names, paper, parameters with their defaults,
bounds and help, which genes the search may turn, what mergekit calls it. registry.py reads declarations without running
the files, so that help and settings need no torch; only literals, the names of this module and constants made of them may
stand in one.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor

    from .inputs import MergeInputs, MergeParameters, WholeTensor

Gene = Literal["weights", "scales", "density", "alpha", "path", "hops"]
Kind = Literal["tensors", "features", "layers"]


@dataclass(frozen=True)
class Parameter:
    """A number that a recipe may set.

    :param name: in recipes, model cards and the command line.
    :param default: its value where a recipe says nothing.
    :param help: a line for the command line, without the methods' names.
    :param low: its least value; `above_low` excludes the bound itself.
    :param high: its greatest value.
    :param per_model: each model may have its own; otherwise all models share one.
    :param gene: the gene of a genome that is this number in the search; none: the default stays.
    :param start: where generation 0 of the search has it; none: at the default.
    :param start_per_model: `start` counts once for every model that is merged.
    :param mergekit: its name in a mergekit configuration; none: mergekit has no such parameter.
    :param mergekit_default: its value where a mergekit configuration says nothing, if other than `default`.
    :param mergekit_required: mergekit refuses a configuration without it.
    :param option: on the command line, if other than `--name`.
    :param flag: the value that the bare option stands for, where it takes no number.
    """

    name: str
    default: float
    help: str
    low: float = -math.inf
    high: float = math.inf
    above_low: bool = False
    per_model: bool = False
    gene: Gene | None = None
    start: float | None = None
    start_per_model: bool = False
    mergekit: str = ""
    mergekit_default: float | None = None
    mergekit_required: bool = False
    option: str = ""
    flag: float | None = None

    def but(self, **changes: Any) -> Parameter:
        """The same parameter with some fields changed."""
        return replace(self, **changes)

    def allows(self, value: float) -> bool:
        """Whether the value is finite and within the bounds."""
        above = value > self.low if self.above_low else value >= self.low
        return math.isfinite(value) and above and value <= self.high

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        lower = "" if self.low == -math.inf else f"{'above' if self.above_low else 'at least'} {self.low:g}"
        upper = "" if self.high == math.inf else f"at most {self.high:g}"
        return " and ".join(filter(None, (lower, upper))) or "finite"

    @property
    def spelling(self) -> str:
        """The option on the command line."""
        return self.option or f"--{self.name.replace('_', '-')}"


WEIGHT = Parameter(
    "weight", 1.0, "a model's share", per_model=True, gene="weights", mergekit="weight", mergekit_required=True
)  # fmt: skip
LAMBDA = Parameter(
    "lambda", 1.0, "the length of the step away from the base; 1 is the step itself", gene="scales", mergekit="lambda"
)  # fmt: skip
DENSITY = Parameter(
    "density", 1.0, "the share of a task vector that is kept",
    low=0.0, high=1.0, above_low=True, per_model=True, gene="density", mergekit="density",
)  # fmt: skip
NORMALIZE = Parameter(
    "normalize", 1.0, "weights as they are: do not divide by their sum", mergekit="normalize", option="--sum", flag=0.0
)  # fmt: skip
NORMALIZE_NOT_IN_MERGEKIT = NORMALIZE.but(mergekit_default=0.0)
"""mergekit does not divide the sums of this method by their weights unless it is told to."""


@dataclass(frozen=True)
class MergeMethod:
    """A declared merge method; its functions are imported when they are first called.

    :param kind: "tensors" merges one tensor of all models at a time; "features" fits a layer to what goes into it in a
        forward of the merged model; "layers" takes whole layers along a path and scales what they write.
    :param base: whether the method needs the model that the parents were trained from, can use it, or never reads it.
    :param summary: when to take it, in a line.
    :param needs_grams: it reads the inputs' Gram matrices, which lie beside the models; it is not streamed.
    :param whole_rows: a vector is one row, and no row is cut.
    :param trims_model: it reads each model's magnitude threshold over the whole task vector (`MergeParameters.thresholds`).
    :param extra_genes: genes that are no parameter of a recipe (a layer path and its scales).
    :param searched: whether the search uses it unless its settings say otherwise.
    :param mergekit_flags: booleans that mergekit writes beside the parameters, and the only values that hold here.
    :param mergekit_differs: why a mergekit configuration of this name is refused; empty: it is read.
    :param fewest: how many models it takes at least, the base not counted.
    :param most: how many at most; None: any number.
    :param source: the file that declares it.
    :param function: the name of its function there.
    :param module: what to import; empty: the file itself.
    """

    name: str
    pretty_name: str
    paper: str
    summary: str
    parameters: tuple[Parameter, ...] = ()
    kind: Kind = "tensors"
    base: Literal["required", "optional", "unused"] = "required"
    needs_grams: bool = False
    whole_rows: bool = False
    trims_model: bool = False
    extra_genes: tuple[Gene, ...] = ()
    searched: bool = True
    mergekit_flags: Mapping[str, bool] = field(default_factory=dict)
    mergekit_differs: str = ""
    fewest: int = 1
    most: int | None = None
    source: Path = Path()
    function: str = ""
    module: str = ""

    @property
    def genes(self) -> frozenset[Gene]:
        """The genes that the search may turn."""
        return frozenset(parameter.gene for parameter in self.parameters if parameter.gene) | {
            *self.extra_genes
        }

    @property
    def streamed(self) -> bool:
        """Whether `forge merge` can do it from file to file."""
        return self.kind == "tensors" and not self.needs_grams

    @property
    def needs_base(self) -> bool:
        """Whether it cannot do without a base."""
        return self.base == "required"

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of this name, or None."""
        return next((own for own in self.parameters if own.name == name), None)

    @cached_property
    def implementation(self) -> Implementation:
        """The functions, imported.

        :raises ImportError: the file cannot be imported.
        """
        module = importlib.import_module(self.module) if self.module else _import_file(self.source)
        implementation: Implementation = getattr(module, self.function)
        return implementation

    def survey(self, tensor: WholeTensor, parameters: MergeParameters) -> Any:
        """What has to be known of a tensor as a whole before its pieces are merged; None where nothing has."""
        survey = self.implementation.survey
        return None if survey is None else survey(tensor, parameters)

    def merge(self, inputs: MergeInputs, parameters: MergeParameters, surveyed: Any = None) -> Tensor:
        """Merge a piece of whole rows, or a whole tensor.

        :param surveyed: what `survey` returned for the whole tensor.
        :returns: float32, of the shape of a parent's piece.
        """
        implementation = self.implementation
        if implementation.survey is None:
            return implementation.function(inputs, parameters)
        return implementation.function(inputs, parameters, surveyed)


@dataclass(frozen=True)
class Implementation:
    """A declared function, callable as it was written, and what it wants to know of a whole tensor beforehand."""

    function: Callable[..., Any]
    survey: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function."""
        return self.function(*arguments, **options)


def merge_method(
    name: str,
    *,
    pretty_name: str,
    paper: str,
    summary: str,
    parameters: Sequence[Parameter] = (),
    survey: Callable[..., Any] | None = None,
    **options: Any,
) -> Callable[[Callable[..., Any]], Implementation]:
    """Declare the function below as a merge method.

    A method of kind "tensors" is `merge(inputs: MergeInputs, parameters: MergeParameters) -> Tensor`, called with one
    tensor of all models, whole or a run of its rows. Where it depends on the tensor as a whole (a threshold, an angle),
    `survey(tensor: WholeTensor, parameters: MergeParameters)` finds that first, and `merge` gets it as a third argument.

    :param name: by which recipes, genomes and the command line know it.
    :param pretty_name: for people.
    :param paper: the address of its source.
    :param summary: when to take it, in a line.
    :param parameters: the numbers that it reads.
    :param survey: a function of this file.
    :param options: further fields of `MergeMethod`.
    :returns: a decorator.
    :raises TypeError: `options` has a field that there is not.
    """
    MergeMethod(
        name, pretty_name, paper, summary, tuple(parameters), **options
    )  # unknown options are refused here
    return lambda function: Implementation(function, survey)


def _import_file(file: Path) -> ModuleType:
    name = f"merge_method_{file.stem}_{abs(hash(file)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
