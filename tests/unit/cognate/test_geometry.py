"""The profiles build the networks that they promise."""

import pytest
import torch

from components.cognate.settings import VARIANTS, Settings
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.runtime.config.compose import compose
from components.shared.tasks.batches import check_mixture


def parameters(profile: str, **modules: bool) -> int:
    geometry = compose("cognate", Settings, profile=profile).settings.model.model_dump()
    with torch.device("meta"):
        return CognateForCausalLM(CognateConfig(vocab_size=272, **geometry, **modules)).num_parameters()


def test_the_full_profile_is_the_25_million_parameter_cognate_with_all_modules():
    """Every variant is published with all of them (`cognate.equal_size`)."""
    assert parameters("full", memory=True, refinement=True) == pytest.approx(25.08e6, rel=1e-3)


def test_the_tiny_profile_stays_between_half_a_million_and_a_million_with_all_modules():
    assert 0.5e6 < parameters("tiny") < parameters("tiny", memory=True, refinement=True) < 1e6


@pytest.mark.parametrize("profile", ["tiny", "small", "full"])
def test_every_course_of_every_profile_draws_from_tasks_that_exist(profile):
    settings = compose("cognate", Settings, profile=profile).settings
    for name in ("trunk", *VARIANTS):
        course = getattr(settings, name)
        check_mixture(course.tasks, course.levels)
