"""The parameters of a run: what was given for it, checked by name and type, and what KFP's cache has to know."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.image import VERSION
from components.shared.runtime.config import validate_all
from components.shared.runtime.errors import ConfigError, InputError

from .identity import code_digest
from .ir import Parameter
from .phases import PHASES
from .values import complete, from_text


def given_parameters(given: Mapping[str, Any], declared: Mapping[str, Parameter]) -> dict[str, Any]:
    """All parameters of a pipeline: those given, as texts or values, and the defaults of the rest.

    :raises ConfigError: an unknown name, a value of another type, one that has no default is missing.
    """
    values = {}
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, 1)
            fix = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"the pipeline has no parameter {name!r}", fix=f"{fix}It has {', '.join(sorted(declared))}"
            )
        kind = declared[name].type
        values[name] = from_text(value, kind, f"parameter {name}") if isinstance(value, str) else value
    return complete(values, declared, "the pipeline's parameters")


def artifact_parameters(first: str, artifacts: Sequence[str]) -> dict[str, Any]:
    """The parameters by which a pipeline that starts at phase `first` gets the artifacts to start from."""
    if not artifacts:
        return {}
    if first == PHASES[0]:
        raise InputError(
            f"phase {first} starts from base models",
            where="--artifact",
            fix="use --base-model, or give --from",
        )
    if len(artifacts) > 1 and first != "evomerge":
        raise InputError(
            f"phase {first} takes one model", where="--artifact", fix="only evomerge takes several"
        )
    places = [place if "://" in place else str(Path(place).resolve()) for place in artifacts]
    return {"artifact_uris": places} if first == "evomerge" else {"artifact_uri": places[0]}


def settings(texts: Sequence[str]) -> dict[str, str]:
    """`name=value` texts by name. Raises ConfigError for one without a value."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError("a parameter has no value", where=text, fix="write name=value")
        found[name] = value
    return found


def for_the_cache(profile: str, overrides: Sequence[str], seed: int) -> dict[str, str]:
    """`config_digest` and `code_version` of a run on a cluster, where KFP knows only image names and parameters.

    :raises ConfigError: the configuration is wrong, so that it is known before anything is submitted.
    """
    configs = {one.phase: one.digest for one in validate_all(profile, overrides, seed=seed)}
    text = json.dumps(configs, sort_keys=True).encode()
    code = code_digest(("shared", *PHASES))[:12]
    return {"config_digest": hashlib.sha256(text).hexdigest(), "code_version": f"{VERSION}+{code}"}
