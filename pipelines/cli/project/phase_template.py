"""The files of a new phase: path → text, both with `$name`, `$kind` (its class) and `$after` (the phase before it)."""

from __future__ import annotations

FILES = {
    "components/$name/__init__.py": '"""Phase $name."""\n',
    "components/$name/__main__.py": '''"""Run phase $name: `python -m components.$name --help`."""

from components.shared.runtime.entry import start

raise SystemExit(start("$name", "$kind"))
''',
    "components/$name/component.py": '''"""Phase $name as the pipelines see it: a model in, a model out."""

from components.shared.phase_spec import PhaseSpec

PHASE = PhaseSpec(
    name="$name",
    summary="One sentence that KFP's page shows.",
    after="$after",
)
''',
    "components/$name/settings.py": '''"""What phase $name can be told."""

from __future__ import annotations

from pydantic import Field

from components.shared.runtime.config.settings import PhaseSettings


class Settings(PhaseSettings):
    """Settings of phase $name."""

    steps: int = Field(ge=1, description="how often the weights are nudged")
    rate: float = Field(gt=0, lt=1, description="standard deviation of a nudge, in units of a weight's own")
''',
    "components/$name/nudge.py": '''"""The placeholder for the idea of the paper: weights with a little noise."""

from __future__ import annotations

import torch
from torch import Tensor


def nudge(weight: Tensor, rate: float, generator: torch.Generator) -> Tensor:
    """A weight matrix with noise of `rate` times its standard deviation.

    :param weight: (out, in), floating point.
    :param generator: on the CPU, so that every device draws the same.
    :returns: of the same shape and dtype.
    """
    noise = torch.randn(weight.shape, generator=generator).to(weight)
    return weight + rate * weight.std() * noise
''',
    "components/$name/phase.py": '''"""Phase $name: what it does, in one sentence."""

from __future__ import annotations

import torch

from components.shared.evaluation.report_split import score
from components.shared.models.card import model_card
from components.shared.models.loading import load, save
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.phase import Phase

from .component import PHASE
from .nudge import nudge
from .settings import Settings

__all__ = ["$kind"]


class $kind(Phase[Settings], spec=PHASE):
    """Says here what it does, for `forge phase $name --help`."""

    def validate_input(self) -> None:
        """The input is a causal language model."""
        self.model, self.tokenizer = load(self.run.artifact.path)

    def execute(self) -> None:
        """The story: go on from a checkpoint where there is one, work step by step, publish, measure."""
        run, settings = self.run, self.run.settings
        noise = run.generator("noise")
        loop = Snapshot({"model": self.model}, {}, {"noise": noise}, {"nudged": 0})
        loop.restore(run.checkpoints)
        matrices = [weight for weight in self.model.parameters() if weight.dim() == 2]
        run.progress.start("nudging", settings.steps, at=loop.step)
        for step in range(loop.step, settings.steps):
            with torch.no_grad():
                for weight in matrices:
                    weight.copy_(nudge(weight, settings.rate, noise))
            loop.state["nudged"] += len(matrices)
            run.progress.step()
            if run.checkpoints.due():
                loop.save(run.checkpoints, step + 1)
                run.checkpoints.stop_if_asked()
        run.progress.done()
        self.nudged = loop.state["nudged"]
        card = model_card("Nudged model", __doc__ or "", facts={"steps": str(settings.steps)})
        save(self.model, self.tokenizer, run.output, card=card)
        stored, _ = load(run.output)
        score(run, stored, self.tokenizer)

    def get_metrics(self) -> dict[str, float]:
        """How many matrices were nudged, over all steps."""
        return {"nudged": float(self.nudged)}
''',
    "components/$name/README.md": """# $kind

## What it does

In the words of the paper, and for somebody who has not read it.

## Source

The paper, its address, and what is different here.

## Inputs and outputs

In: `input_model`, one causal language model. Out: `model`, the same architecture.

## Settings

[settings.py](settings.py) says what each key means; the defaults are in `configs/phase/$name.yaml`.

## What we measured

Nothing yet. Figures come from a command in `tests/performance`, named beside them.

## Limits

What it does not do, and where it fails.
""",
    "configs/phase/$name.yaml": """# Defaults of phase $name; components/$name/settings.py says what each key means.
steps: 10
rate: 0.001
""",
    "tests/unit/$name/test_${name}_nudge.py": '''"""The idea of phase $name, on small tensors."""

from __future__ import annotations

import torch

from components.$name.nudge import nudge


def test_the_noise_is_as_large_as_asked_for() -> None:
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    change = nudge(weight, 0.1, torch.Generator().manual_seed(1)) - weight
    assert 0.08 < (change.std() / weight.std()).item() < 0.12


def test_a_rate_of_nothing_changes_nothing() -> None:
    weight = torch.ones(2, 3)
    assert torch.equal(nudge(weight, 0.0, torch.Generator()), weight)
''',
    "tests/contract/phases/test_$name.py": '''"""Phase $name as a process: killed and resumed, other seeds, bad input."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.contract import killing
from tests.contract.phases.tiny_ternary import llama

TINY = ["$name.steps=400", "$name.threads=1", "evaluation.items=16"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, untrained."""
    return Path(llama(tmp_path_factory.mktemp("input") / "llama"))


def test_killed_at_a_random_moment_it_ends_as_if_undisturbed(model: Path, tmp_path: Path) -> None:
    arguments = ["--input", str(model), *TINY]
    digest = killing.run("$name", tmp_path / "undisturbed", arguments)
    slow = [*arguments, "$name.checkpoint_seconds=0"]
    killing.kill("$name", tmp_path / "killed", slow, within=0.5, moment=random.Random())
    assert killing.run("$name", tmp_path / "killed", slow) == digest
    assert killing.run("$name", tmp_path / "other", [*arguments, "--seed", "1"]) != digest


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = ["--input", str(empty), *TINY]
    assert "empty" in killing.refused("$name", tmp_path / "out", arguments)


def test_a_wrong_setting_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    wrong = ["--input", str(model), "$name.rate=2"]
    assert "$name.rate = 2" in killing.refused("$name", tmp_path / "out", wrong)
''',
}
