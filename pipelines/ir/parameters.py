"""The parameters of a run: what was given for it, checked by name and type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import ConfigError, InputError
from components.shared.runtime.wording import did_you_mean

from ..phases import PHASES, several
from .spec import Parameter
from .values import complete, from_text


def given_parameters(arguments: Mapping[str, Any], declared: Mapping[str, Parameter]) -> dict[str, Any]:
    """All parameters of a pipeline: those given, as texts or values, and the defaults of the rest.

    :raises ConfigError: an unknown name, a value of another type, one that has no default is missing.
    """
    values = {}
    for name, value in arguments.items():
        if name not in declared:
            fix = did_you_mean(name, sorted(declared))
            raise ConfigError(f"the pipeline has no parameter {name!r}", fix=fix)
        kind = declared[name].type
        values[name] = from_text(value, kind, f"parameter {name}") if isinstance(value, str) else value
    return complete(values, declared, "the pipeline's parameters")


def starting_points(first: str, base_models: Sequence[str], artifacts: Sequence[str]) -> dict[str, str]:
    """The parameters that say what a pipeline which starts at phase `first` starts from.

    Each has its number where there are several: `base_model_1` …, `artifact_uri_1` … for evomerge, `artifact_uri`.

    :raises InputError: base models or artifacts that this phase does not start from.
    """
    if base_models and first != PHASES[0]:
        raise InputError(
            f"phase {first} starts from artifacts",
            where="--base-model",
            fix="use --artifact, or leave out --from",
        )
    if artifacts and first == PHASES[0]:
        raise InputError(
            f"phase {first} starts from base models",
            where="--artifact",
            fix="use --base-model, or give --from",
        )
    if len(artifacts) > 1 and not several(first):
        fix = f"only {', '.join(filter(several, PHASES))} takes several"
        raise InputError(f"phase {first} takes one model", where="--artifact", fix=fix)
    if base_models:
        return {f"base_model_{number}": name for number, name in enumerate(base_models, 1)}
    addresses = [address if "://" in address else str(Path(address).resolve()) for address in artifacts]
    if several(first):
        return {f"artifact_uri_{number}": address for number, address in enumerate(addresses, 1)}
    return {"artifact_uri": addresses[0]} if addresses else {}


def settings(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` texts by name.

    :raises ConfigError: a text without a name or a value.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError("a parameter has no value", where=text, fix="write name=value")
        values[name] = value
    return values
