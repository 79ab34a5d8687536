"""Phase cognate as the pipelines see it: one trunk, then one variant of it per pod."""

from __future__ import annotations

from components.shared.phase_spec import MODEL, Interface, PhaseSpec, Step, numbered

PHASE = PhaseSpec(
    name="cognate",
    summary="Base models, trained from scratch: a trunk, and one variant of it per pod.",
    takes="base models",
    gpu=True,
    steps=(Step("trunk"), Step()),
    timeout_seconds=86_400,
)

AS_IT_IS = "given"
"""The variant of a given base model that is this model itself."""


def trunk(variants: int) -> Interface:
    """The early training that all variants share, without which they could not be merged.

    :param variants: how many `base_model_<n>` it is told of: those that will be trained from it, or the addresses of
        models taken in their place.
    """
    return Interface(
        "cognate_trunk",
        "The early training that all variants share, without which they could not be merged.",
        phase=PHASE,
        step="trunk",
        parameters=numbered("base_model", variants, str),
    )


VARIANT = Interface(
    "cognate",
    "One variant, of the trunk or of a base model that is given; or such a model as it is.",
    phase=PHASE,
    inputs={"trunk": MODEL},
    parameters={"variant": str},
)
