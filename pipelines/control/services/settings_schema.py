"""The settings of the phases as forms can use them: their JSON schema, each field with what it means and what it may be."""

from __future__ import annotations

from functools import cache
from typing import Any

from components.shared.runtime.config.settings import EvaluationSettings, model_of

from ...phases import PHASES


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """The JSON schema of each phase's settings, and of `evaluation`, which all of them share.

    A field has `description`, `default` and its range, where it has such, in the words of JSON Schema.
    """
    return {
        "evaluation": EvaluationSettings.model_json_schema(),
        **{phase: model_of(phase).model_json_schema() for phase in PHASES},
    }
