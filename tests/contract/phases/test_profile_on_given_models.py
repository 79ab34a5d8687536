"""Each profile that begins with given models carries all eight phases on a tiny one of transformers."""

from __future__ import annotations

import pytest

from tests.contract.in_process import torch_as_before, tracking  # noqa: F401
from tests.profiles import made, settings_of, shrunk, the_other_phases_pass
from tests.shapes import make


@pytest.mark.parametrize("profile", ["hf-small", pytest.param("hf-7b", marks=pytest.mark.end_to_end)])
def test_all_phases_of_a_profile_pass_on_two_given_models(profile, tmp_path):
    configs = {phase: shrunk(config) for phase, config in settings_of(profile).items()}
    bases = [make("llama", tmp_path / f"base{seed}", seed=seed) for seed in range(2)]
    variants = [
        made(configs["cognate"], tmp_path / f"cognate{seed}", variant=str(base))
        for seed, base in enumerate(bases)
    ]
    the_other_phases_pass(configs, variants, tmp_path)


@pytest.mark.end_to_end
@pytest.mark.parametrize("profile", ["hf-small", "hf-7b"])
def test_all_phases_of_a_profile_pass_on_the_three_variants_of_one_given_model(profile, tmp_path):
    configs = {phase: shrunk(config) for phase, config in settings_of(profile).items()}
    base = make("llama", tmp_path / "base")
    variants = [
        made(configs["cognate"], tmp_path / name, inputs=(base,), variant=name)
        for name in ("standard", "memory", "reasoning")
    ]
    the_other_phases_pass(configs, variants, tmp_path)
