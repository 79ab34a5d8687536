"""Each profile that begins with nothing carries all eight phases on a small network."""

from __future__ import annotations

import pytest

from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.profiles import made, settings_of, shrunk, the_other_phases_pass


@pytest.mark.parametrize(
    "profile",
    ["small", *(pytest.param(name, marks=pytest.mark.end_to_end) for name in ("full", "documents"))],
)
def test_all_phases_of_a_profile_pass_on_shrunk_cognates(profile, tmp_path):
    configs = {phase: shrunk(config) for phase, config in settings_of(profile).items()}
    trunk = made(configs["cognate"], tmp_path / "trunk", "trunk")
    variants = [
        made(configs["cognate"], tmp_path / name, inputs=(trunk,), variant=name)
        for name in ("standard", "memory", "reasoning")
    ]
    the_other_phases_pass(configs, variants, tmp_path)
