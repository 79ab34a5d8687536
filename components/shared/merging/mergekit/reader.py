"""Values of a YAML file, each checked when it is read; every refusal names the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import did_you_mean

from ..method import MergeMethod
from ..registry import merge_methods
from ..streaming.recipe import Filtered, ParameterValue

# Parameters of mergekit's that no method here reads under that name.
THEIRS = (
    "int8_mask",
    "rescale",
    "filter_wise",
    "max_iter",
    "tol",
    "eps",
    "t",
    "normalize_weights",
    "alpha",
    "r",
)


class Reader:
    """Reads the values of one file.

    :param path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []

    def refuse(self, what: str, fix: str = "", why: str = "") -> ConfigError:
        """The error to raise."""
        return ConfigError(what, where=str(self.path), why=why, fix=fix)

    def mapping(self, value: Any, what: str, keys: Sequence[str] = ()) -> dict[str, Any]:
        """The value as a mapping, {} where there is none; keys: those that it may have, if not any.

        :raises ConfigError: it is no mapping, or has another key.
        """
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.refuse(f"{what} must be a mapping", why=f"it is {value!r}")
        if keys and (unknown := sorted(str(key) for key in value if key not in keys)):
            raise self.refuse(f"{unknown[0]} of {what} is not supported", f"supported are {', '.join(keys)}")
        return value

    def rows(self, value: Any, what: str) -> list[Any]:
        """The value as a list that is not empty.

        :raises ConfigError: it is no such list.
        """
        if not isinstance(value, list) or not value:
            raise self.refuse(f"{what} must be a list that is not empty")
        return value

    def layers(self, value: Any) -> tuple[int, int]:
        """A layer_range.

        :raises ConfigError: it is none.
        """
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(isinstance(end, int) for end in value)
            or not 0 <= value[0] < value[1]
        ):
            raise self.refuse(
                "layer_range must be [first, end], with first below end", why=f"it is {value!r}"
            )
        return value[0], value[1]

    def parameters(self, value: Any, method: MergeMethod, *, own: bool = False) -> dict[str, ParameterValue]:
        """A method's parameters under our names. own: they stand beside a single model.

        What mergekit has for other methods it passes over for this one, and so do we, with a note.

        :raises ConfigError: no method has such a parameter, it is one of the whole merge, or a value is no number.
        """
        content = dict(self.mapping(value, "parameters"))
        self._flags(content, method)
        known = {parameter.mergekit: parameter for parameter in method.parameters if parameter.mergekit}
        read: dict[str, ParameterValue] = {}
        for key, setting in content.items():
            parameter = known.get(key)
            if parameter is None:
                self._pass_over(str(key), method)
            elif own and not parameter.per_model:
                raise self.refuse(
                    f"{key} is no parameter of a model", "put it under the parameters of the whole merge"
                )
            else:
                read[parameter.name] = self.value(key, setting)
        return read

    def _pass_over(self, key: str, method: MergeMethod) -> None:
        anywhere = {
            parameter.mergekit for other in merge_methods().values() for parameter in other.parameters
        }
        if key not in {*anywhere, *THEIRS}:
            own = [parameter.mergekit for parameter in method.parameters if parameter.mergekit]
            raise self.refuse(f"there is no parameter {key}", did_you_mean(key, own) or "leave it out")
        note = f"{method.name} does not read {key}: mergekit passes it over, and so does this merge"
        if note not in self.notes:
            self.notes.append(note)

    def _flags(self, content: dict[str, Any], method: MergeMethod) -> None:
        """int8_mask changes no result; rescale is what the paper says; filter-wise merges are refused.

        :raises ConfigError: int8_mask is no boolean, or a flag asks for what the method does not do.
        """
        mask = content.pop("int8_mask", False)
        if not isinstance(mask, bool):
            raise self.refuse("int8_mask must be true or false", why=str(mask))
        if method.parameter("density") and "rescale" in content:
            rescales = method.mergekit_flags.get("rescale", False)
            if bool(content.pop("rescale")) != rescales:
                raise self.refuse(f"rescale, other than {method.name} has it by itself, is not supported")
        if method.name == "model_stock" and content.pop("filter_wise", False):
            raise self.refuse("filter_wise is not supported", "leave it out: the angle is that of the tensor")

    def value(self, key: str, value: Any) -> ParameterValue:
        """A number, a row of numbers, or filtered ones.

        :raises ConfigError: it is none of these.
        """
        if isinstance(value, dict):
            value = [value]
        if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
            return self.numbers(key, value)
        for entry in value:
            if set(entry) - {"filter", "value"} or "value" not in entry:
                raise self.refuse(f"{key} must be a list of {{filter, value}}", why=str(entry))
        return [
            Filtered(
                "" if entry.get("filter") in (None, "*") else str(entry["filter"]),
                self.numbers(key, entry["value"]),
            )
            for entry in value
        ]

    def numbers(self, key: str, value: Any) -> float | list[float]:
        """A number or a row of them.

        :raises ConfigError: it is neither.
        """
        if isinstance(value, list) and value:
            return [self.number(key, number) for number in value]
        return self.number(key, value)

    def number(self, key: str, value: Any) -> float:
        """A single number.

        :raises ConfigError: it is no number.
        """
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise self.refuse(f"{key} must be a number", why=f"it is {value!r}") from error


def one_minus(value: ParameterValue) -> ParameterValue:
    """1 − t, for a number, a row or filtered ones."""
    if isinstance(value, (int, float)):
        return 1 - value
    reversed_values: list[Any] = []
    for entry in value:
        if isinstance(entry, Filtered):
            own = entry.value
            flipped = 1 - own if isinstance(own, (int, float)) else [1 - number for number in own]
            reversed_values.append(Filtered(entry.text, flipped))
        else:
            reversed_values.append(1 - entry)
    return reversed_values


def with_defaults(values: Mapping[str, ParameterValue], method: MergeMethod) -> dict[str, ParameterValue]:
    """The parameters, and where nothing is said what mergekit takes."""
    theirs = {
        parameter.name: parameter.mergekit_default
        for parameter in method.parameters
        if parameter.mergekit_default is not None
    }
    return {**theirs, **values}
