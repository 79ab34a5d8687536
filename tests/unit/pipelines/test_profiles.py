"""Each profile composes, and has the items that it asks for in every split."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from components.adas.families import held_out
from components.baking.questions import irrelevant, relevant
from components.shared.evaluation.cells import suites_of
from components.shared.evaluation.suites import CELLS, draw, suite_items
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.models.remote_code.modeling_cognate import CognateForCausalLM
from components.shared.runtime.code import CONFIGS
from components.shared.runtime.errors import InputError
from components.shared.tasks.batches import mixture
from components.shared.tasks.item import LEVELS, Split
from components.shared.tasks.registry import sample
from tests.profiles import settings_of

PROFILES = sorted(path.stem for path in (CONFIGS / "profile").glob("*.yaml"))
VARIANTS: tuple[dict[str, bool], ...] = ({}, {"memory": True}, {"refinement": True})


@functools.cache
def suite_size(suite: str, split: Split, items: int) -> int:
    return len(suite_items(suite, split=split, items=items, seed=0))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_suite_of_a_profile_has_as_many_items_as_it_asks_for_in_each_split(profile):
    evomerge, adas, compression = (
        settings_of(profile)[n].settings for n in ("evomerge", "adas", "compression")
    )
    asked: set[tuple[Split, int]] = {
        ("report", settings_of(profile)["evomerge"].evaluation.items),
        *(("train", items) for items in (compression.calibration_items, compression.recovery.items)),
        *(("search", items) for items in (evomerge.items, adas.search.items, adas.cem.items, compression.search_items)),
        *(("select", s) for s in (evomerge.select_items, adas.search.select_items, compression.select_items)),
    }  # fmt: skip
    for split, items in asked:
        suites = suites_of(split)
        assert [suite_size(suite, split, items) for suite in suites] == [items] * len(suites)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_phase_of_a_profile_has_the_items_that_it_compares_by(profile):
    configs = settings_of(profile)
    quietstar, baking, adas = (configs[name].settings for name in ("quietstar", "baking", "adas"))
    questions = quietstar.questions
    levels = (
        questions.levels
        if isinstance(questions.levels, dict)
        else dict.fromkeys(questions.tasks, questions.levels)
    )
    cells = [(task, level) for task in questions.tasks for level in sorted(set(levels[task]))]
    share = -(-quietstar.items // len(cells))
    assert [len(draw(task, "search", level, share, 0)) for task, level in cells] == [share] * len(cells)
    for bake in baking.bakes:
        name = bake.behaviour
        assert len(relevant(name, "search", baking.levels, baking.held_out, 0)) == baking.held_out
        assert len(irrelevant(name, "report", baking.levels, baking.held_out, 0)) == baking.held_out
    for family in adas.families:
        for level in sorted(set(family.levels)):
            assert held_out(family.tasks, "search", [level], adas.svf.gate_items, 0)


@functools.cache
def has_items(task: str, level: int) -> bool:
    """Of reasoning-gym's tasks, some of which take a tenth of a second an item, one split at the easiest level."""
    splits: tuple[Split, ...] = ("train", "search", "report")
    if task.startswith("gym/"):
        splits = splits[len(task) % 3 :][: level == 1]
    return all(mixture({task: 1.0}, [level], split, 0, 0, 1) for split in splits)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_task_of_a_profile_has_items_at_all_of_its_levels_in_each_split_that_is_drawn_from(profile):
    configs = settings_of(profile)
    cognate, training = configs["cognate"].settings, configs["training"].settings
    courses = [getattr(cognate, name) for name in ("trunk", "standard", "memory", "reasoning")]
    mixtures = [(course.tasks | course.opening.tasks, course.levels) for course in courses]
    mixtures += [(stage.tasks or training.tasks, stage.levels) for stage in training.stages]
    mixtures += [(configs["bitnet"].settings.tasks, configs["bitnet"].settings.levels)]
    mixtures += [(configs["baking"].settings.anchor_tasks, configs["baking"].settings.anchor_levels)]
    cells = {
        (task, level)
        for tasks, levels in mixtures
        for task in tasks
        for level in (levels[task] if isinstance(levels, dict) else levels)
    }
    assert all(has_items(task, level) for task, level in sorted(cells))


def words_of(tree: Any) -> set[str]:
    """Every key and every text of a tree of settings."""
    if isinstance(tree, dict):
        return set(map(str, tree)).union(*map(words_of, tree.values()))
    if isinstance(tree, list):
        return set().union(*map(words_of, tree))
    return {tree} if isinstance(tree, str) else set()


@pytest.mark.parametrize("profile", PROFILES)
def test_no_profile_trains_on_a_family_or_a_level_that_generalization_asks(profile):
    trees = [config.settings.model_dump(mode="json") for config in settings_of(profile).values()]
    named = words_of(trees)
    assert "chain" in named
    for cell in CELLS["generalization"]:
        assert cell.task not in named or cell.level > LEVELS[-1], (
            cell
        )  # no setting may name a level above LEVELS
        with pytest.raises(InputError, match="no training split"):
            sample(cell.task, "train", cell.level, 0, 0)


def parameters(profile: str, **modules: bool) -> int:
    geometry = settings_of(profile)["cognate"].settings.model.model_dump()
    with torch.device("meta"):
        return CognateForCausalLM(CognateConfig(**geometry, **modules)).num_parameters()


def test_each_variant_of_profile_full_has_25_million_parameters_and_80_thousand():
    assert settings_of("full")["cognate"].settings.equal_size  # each is published with the modules of all
    published = parameters("full", memory=True, refinement=True)
    assert abs(published / 25_083_528 - 1) < 0.001 and abs(published / 25_080_000 - 1) < 0.001
    assert all(parameters("full", **modules) < published for modules in VARIANTS)
