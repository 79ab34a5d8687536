"""From linear form (remote_code/projections.py) back to the names and shapes of the architecture's own files.

What a family's file calls its tensors, transformers knows: it renames, stacks and splits when it loads, and can revert
that. Here it reverts it on tensors of a few numbers that stand for the weights; where each number comes out
alone, the weight itself gets that name, and no weight is copied. (transformers' own reversal stacks all experts first.)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.pytorch_utils import Conv1D

from .remote_code.projections import Experts, is_fused

GATE_UP = ("gate", "up")


def of_architecture(model: PreTrainedModel) -> PreTrainedModel:
    """The network as transformers builds it from the model's config, without weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(copy.deepcopy(model.config), trust_remote_code=False)


def in_linear_form(model: PreTrainedModel) -> bool:
    """Whether a model of transformers differs from its architecture by its linear form."""
    if any(isinstance(module, Experts) for module in model.modules()):
        return True
    if type(model).__module__.partition(".")[0] != "transformers":
        return False
    return any(isinstance(module, Conv1D) for module in of_architecture(model).modules())


def original_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a plain model of transformers, as its architecture's files name and shape them.

    :param tensors: its state, by the names in linear form.
    :returns: the same weights; those of Conv1D are transposed copies, all others lie where they lay.
    """
    transposed, fused = [], []
    for path, module in of_architecture(model).named_modules():
        if isinstance(module, Conv1D) and isinstance(model.get_submodule(path), nn.Linear):
            transposed.append(f"{path}.weight")
        elif is_fused(module) and isinstance(model.get_submodule(path), Experts):
            fused.append(path)
    weights = dict(tensors)
    weights |= {name: weights[name].t().contiguous() for name in transposed}
    marks: dict[str, Tensor] = {}
    order: list[str] = []  # a mark is the place of a name in here

    def mark(names: list[str]) -> Tensor:
        order.extend(names)
        return torch.arange(len(order) - len(names), len(order))

    for path in fused:
        experts = range(len(model.get_submodule(path)))  # type: ignore[arg-type]
        gate_up = [f"{path}.{number}.{part}.weight" for number in experts for part in GATE_UP]
        down = [f"{path}.{number}.down.weight" for number in experts]
        marks[f"{path}.gate_up_proj"] = mark(gate_up).view(-1, 2, 1)
        marks[f"{path}.down_proj"] = mark(down).view(-1, 1, 1)
    of_experts = set(order)
    for name in weights:
        if name not in of_experts:
            marks[name] = mark([name])
    originals: dict[str, Tensor] = {}
    for name, numbers in revert_weight_conversion(model, marks).items():
        names = [order[number] for number in numbers.flatten().tolist()]
        if len(names) == 1:
            originals[name] = weights[names[0]]
        else:  # files of this architecture hold its experts fused
            rows = torch.stack([weights[each] for each in names])
            originals[name] = rows.view(numbers.shape[0], -1, rows.shape[-1])
    return originals
