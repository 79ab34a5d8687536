"""A LoRA added to its model while that is read: W + scale·B·A, a few rows of W at a time.

Source: Hu et al., LoRA: low-rank adaptation of large language models, arXiv 2106.09685, §4.1; the files are PEFT's
(adapter_config.json, adapter_model.safetensors). A and B are small and held in float32.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from components.shared.runtime.errors import ArtifactError, InputError

from .operand import Operand

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OUTER = "base_model.model."  # before every name
UNSUPPORTED = ("use_dora", "lora_bias", "alora_invocation_tokens", "trainable_token_indices")


@dataclass(frozen=True)
class LoraTensor:
    """A matrix and what is added to it, an operand of a piece. left, right: (rows, r) and (r, width), scaled."""

    stored: Operand
    left: Tensor
    right: Tensor

    def read(self, first: int, last: int) -> Tensor:
        """Rows first … last − 1 in float32."""
        return self.stored.read(first, last) + self.left[first:last] @ self.right


class Adapter:
    """The folder of a LoRA.

    :param folder: as PEFT saves it.
    :raises ArtifactError: it is none.
    :raises InputError: it does something else than adding B·A.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.weights = folder, folder / WEIGHTS
        try:
            self.config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if not isinstance(self.config, dict):
                raise ValueError(f"{CONFIG} is no JSON object")
            with safe_open(self.weights, framework="pt") as file:
                names = list(file.keys())
                self._factors = {
                    name: file.get_tensor(name).float()
                    for name in names
                    if ".lora_A." in name or ".lora_B." in name
                }
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            raise ArtifactError(
                "this is no LoRA",
                where=str(folder),
                why=str(error),
                fix=f"give a folder with {CONFIG} and {WEIGHTS}",
            ) from error
        strange = [key for key in UNSUPPORTED if self.config.get(key)]
        if (
            self.config.get("peft_type", "LORA") != "LORA"
            or strange
            or any("lora_embedding" in name for name in names)
        ):
            raise InputError(
                "this adapter is more than a LoRA of linear layers",
                where=str(folder / CONFIG),
                why=", ".join(strange) or str(self.config.get("peft_type")),
                fix="merge it into its model with peft first",
            )
        self.whole_tensors = {
            name: self._plain(name) for name in names if name not in self._factors
        }  # trained as a whole: modules_to_save, biases

    def _plain(self, name: str) -> str:
        return name.removeprefix(OUTER).replace(".modules_to_save.default.", ".").replace(".base_layer.", ".")

    def _factor(self, name: str, letter: str) -> Tensor | None:
        module = OUTER + name.removesuffix(".weight")
        return self._factors.get(f"{module}.lora_{letter}.weight")

    def _scale(self, name: str, rank: int) -> float:
        module = name.removesuffix(".weight")
        patterns: Mapping[str, float] = self.config.get("alpha_pattern") or {}
        alpha = next(
            (own for key, own in patterns.items() if re.match(rf"(.*\.)?({key})$", module)),
            self.config.get("lora_alpha", 8),
        )
        return float(alpha) / (math.sqrt(rank) if self.config.get("use_rslora") else rank)

    def check(self, tensors: Mapping[str, Any]) -> None:
        """Refuse factors of tensors that the model does not have.

        :raises InputError: there are such.
        """
        for name in self._factors:
            module = name.removeprefix(OUTER).split(".lora_")[0]
            if f"{module}.weight" not in tensors:
                raise InputError(
                    "a LoRA does not fit its model",
                    where=str(self.weights),
                    why=f"the model has no {module}.weight",
                    fix="give the model that it was trained on",
                )

    def adds_to(self, name: str) -> bool:
        """Whether a tensor is changed."""
        return self._factor(name, "A") is not None

    def added(self, name: str, stored: Operand) -> Operand:
        """The tensor with what the LoRA adds; itself where it adds nothing."""
        a, b = self._factor(name, "A"), self._factor(name, "B")
        if a is None or b is None:
            return stored
        scaled = b * self._scale(name, len(a))  # a (r, in), b (out, r)
        if self.config.get("fan_in_fan_out"):  # stored as (in, out)
            return LoraTensor(stored, a.T.contiguous(), scaled.T.contiguous())
        return LoraTensor(stored, scaled, a)
