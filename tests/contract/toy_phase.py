"""The smallest phase that trains, resumably: a linear map learns a matrix. A script for contract tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors.torch import load_file, save_file

from components.shared.phase_spec import PhaseSpec
from components.shared.runtime.checkpoint.snapshot import Snapshot
from components.shared.runtime.config.settings import PhaseSettings
from components.shared.runtime.errors import InputError
from components.shared.runtime.executor import main
from components.shared.runtime.phase import Phase

CONFIGS = Path(__file__).parent / "toy_configs"


class Settings(PhaseSettings):
    steps: int = Field(60, ge=1, le=100_000, description="training steps")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="who updates the matrix")
    rate: float = Field(0.01, gt=0, description="learning rate")
    pause: float = Field(
        0.0, ge=0, description="seconds to sleep in each step, so that a test can kill in between"
    )


class Toy(Phase[Settings], spec=PhaseSpec("toy", "The smallest phase that trains.")):
    """Learns a fixed 16×16 matrix from noisy examples.

    The noise comes from a generator and from torch's global one: a resumed run is equal only if both return.
    """

    def validate_input(self) -> None:
        if self.run.inputs and "weight" not in self.run.artifact.manifest.tensors:
            raise InputError("the input has no tensor 'weight'", where=str(self.run.artifact.path))

    def execute(self) -> None:
        run, settings = self.run, self.run.settings
        model = torch.nn.Linear(16, 16, bias=False)
        if run.inputs:
            model.load_state_dict(load_file(run.artifact.path / "model.safetensors"))
        kind = torch.optim.Muon if settings.optimizer == "muon" else torch.optim.AdamW
        optimizer = kind(model.parameters(), lr=settings.rate)
        noise = run.generator("noise")
        truth = torch.eye(16)
        snapshot = Snapshot({"model": model}, {"optimizer": optimizer}, {"noise": noise}, {"losses": []})
        snapshot.restore(run.checkpoints)
        losses = snapshot.state["losses"]
        run.progress.start("fit", settings.steps, at=snapshot.step)
        for step in range(snapshot.step, settings.steps):
            x = torch.randn(32, 16, generator=noise)
            y = x @ truth + 0.01 * torch.randn(32, 16)
            loss = (model(x) - y).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            run.progress.step(loss=losses[-1])
            run.tracker.metrics({"loss": losses[-1]}, step=step)
            time.sleep(settings.pause)
            if run.checkpoints.due():
                snapshot.save(run.checkpoints, step + 1)
                run.checkpoints.stop_if_asked()
        run.progress.done()
        self.loss = sum(losses[-5:]) / len(losses[-5:])
        run.extra["curves"] = {"fit": {"x": list(range(len(losses))), "series": {"train": losses}}}
        run.scores["reasoning"] = {"score": 1.0 - self.loss, "n": 16}
        save_file(
            {key: value.contiguous() for key, value in model.state_dict().items()},
            run.output / "model.safetensors",
        )
        (run.output / "config.json").write_text(json.dumps({"model_type": "toy", "losses": losses}))

    def get_metrics(self) -> dict[str, float]:
        return {"loss": self.loss}


if __name__ == "__main__":
    raise SystemExit(main(Toy, configs=CONFIGS))
