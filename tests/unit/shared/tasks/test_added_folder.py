"""A task in one file, outside the project: found, sampled, trained on, scored. It is the example of docs/add-a-task.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from components.shared.evaluation.answers import correct
from components.shared.evaluation.suites import score_of
from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.code import TASK_FOLDERS, code_version
from components.shared.runtime.errors import ConfigError
from components.shared.tasks import registry
from components.shared.tasks.batches import check_mixture, encode, mixture
from components.shared.tasks.registry import add_folder, find, sample
from components.shared.tasks.tokenizer import VOCAB_SIZE, byte_tokenizer

ROOT = Path(__file__).resolve().parents[4]
(EXAMPLE,) = re.findall(
    r"```python\n(# doubling\.py\n.*?)```", (ROOT / "docs/add-a-task.md").read_text(), re.DOTALL
)
TASK = 'from components.shared.tasks.item import Draft, Task\nTASKS = (Task("{}", "reasoning", None, lambda level: 0.0),)\n'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the page's example; what is registered is forgotten again."""
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))
    monkeypatch.setattr(registry, "SOURCES", dict(registry.SOURCES))
    (tmp_path / "doubling.py").write_text(EXAMPLE)
    return tmp_path


def test_a_file_with_tasks_in_an_added_folder_can_be_sampled(folder):
    assert add_folder(folder) == ["double"]
    item = sample("double", "train", 3, 0, 0)
    number = item.prompt.removeprefix("double ").removesuffix("=")
    assert item.answer == str(2 * int(number) % 10) and len(number) == 3
    assert item == sample("double", "train", 3, 0, 0)


def test_a_model_learns_an_added_task_and_is_scored_on_its_held_out_items(folder):
    add_folder(folder)
    check_mixture({"double": 1.0}, [1, 2])
    tokenizer = byte_tokenizer()
    config = CognateConfig(
        vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    model = build(config, seed=0).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(150):
        batch = encode(mixture({"double": 1.0}, [2], "train", 0, step, 32), tokenizer)
        loss = model(**batch._asdict()).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    items = [sample("double", "report", 2, index, 0) for index in range(40)]
    score = score_of(items, correct(model, tokenizer, items), np.arange(40) % 4)
    assert score.chance == pytest.approx(1 / 5) and score.low > score.chance


def test_a_folder_added_twice_changes_nothing(folder):
    add_folder(folder)
    assert add_folder(folder) == []


def test_a_name_that_is_taken_is_refused_with_the_other_file(folder):
    (folder / "again.py").write_text(TASK.format("chain"))
    with pytest.raises(ConfigError, match=r"two tasks 'chain'.*again\.py.*arithmetic\.py"):
        add_folder(folder)


def test_an_unknown_name_is_refused_with_what_was_meant(folder):
    add_folder(folder)
    with pytest.raises(ConfigError, match="did you mean double"):
        find("doubel")


@pytest.mark.parametrize(
    "text, message",
    [
        ("TASKS = ['double']", "no Task"),
        ("import nothing_of_the_kind", r"cannot be imported.*broken\.py.*nothing_of_the_kind"),
        (TASK.format("file:x"), "no task may be called"),
    ],
)
def test_a_file_that_holds_no_tasks_is_refused_by_its_name(folder, text, message):
    (folder / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        add_folder(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        add_folder(tmp_path / "nowhere")


def test_the_environment_adds_folders_to_every_process(folder):
    script = "from components.shared.tasks.registry import sample; print(sample('double', 'report', 1, 0, 0).prompt)"
    environment = {**os.environ, TASK_FOLDERS: str(folder), "PYTHONPATH": str(ROOT)}
    shown = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("double ")


def test_the_files_of_added_folders_are_part_of_the_code_that_a_result_depends_on(folder, monkeypatch):
    versions = {code_version("training")}
    monkeypatch.setenv(TASK_FOLDERS, str(folder))
    versions.add(code_version("training"))
    (folder / "doubling.py").write_text(EXAMPLE + "\n")
    versions.add(code_version("training"))
    assert len(versions) == 3
