"""The containers of phase cognate: one trunk, then one variant of it per pod."""

from __future__ import annotations

from typing import Any

from kfp.dsl import Model

from components.shared.container import component, numbered


def trunk(variants: int) -> Any:
    """The early training that all variants share, without which they could not be merged.

    :param variants: how many `base_model_<n>` it is told of: those that will be trained from it, or the addresses of
        models taken in their place.
    """
    return component(
        "cognate_trunk",
        "The early training that all variants share, without which they could not be merged.",
        phase="cognate",
        step="trunk",
        parameters=numbered("base_model", variants, str),
    )


cognate = component(
    "cognate",
    "One variant of the base model, trained on from the trunk; or a Hugging Face model taken in its place.",
    phase="cognate",
    inputs={"trunk": Model},
    parameters={"variant": str},
)
