"""Small parents for phase evomerge, and the phase called on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.evomerge.phase import EvoMerge
from components.shared.models.card import model_card
from components.shared.models.gram import capture_grams, save_grams
from components.shared.models.loading import build, extend, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact import artifact
from components.shared.runtime.artifact.artifact import Manifest
from components.shared.runtime.executor import main
from components.shared.tasks.batches import encode, mixture
from components.shared.tasks.tokenizer import byte_tokenizer

SMALL = [
    *("evaluation.items=16", "evomerge.threads=1", "evomerge.items=8"),
    *("evomerge.select_items=8", "evomerge.population=4"),
    *("evomerge.generations=8", "evomerge.rounds=2", "evomerge.islands=2", "evomerge.layer_groups=2"),
    "evomerge.suites=[efficiency, reasoning]",
]
GEOMETRY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
COURSES: dict[str, tuple[dict[str, float], dict[str, bool]]] = {
    "standard": ({"max": 1, "copy": 1}, {}),
    "memory": ({"recall": 1, "next": 1}, {"memory": True}),
    "reasoning": ({"letter": 1, "next": 1}, {"refinement": True}),
}


def train(model: torch.nn.Module, tasks: dict[str, float], steps: int) -> torch.nn.Module:
    rule = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        batch = encode(mixture(tasks, [1], "train", 0, step, 16), byte_tokenizer())
        loss = model(input_ids=batch.input_ids, labels=batch.labels).loss
        rule.zero_grad()
        loss.backward()
        rule.step()
    return model.eval()


@pytest.fixture(scope="module", name="cognates")
def three_cognates(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three variants of a trunk, as phase cognate leaves them."""
    root = tmp_path_factory.mktemp("cognates")
    config = CognateConfig(**GEOMETRY, memory_size=16, refinement_size=32)
    trunk = train(build(config, seed=0), {"copy": 1, "next": 1, "recall": 1}, 30)
    base = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    for name, (tasks, modules) in COURSES.items():
        model = train(extend(trunk, **modules).train(), tasks, 15)
        folder = root / name
        save(model, byte_tokenizer(), folder, card=model_card(name, "A variant."))
        batch = encode(mixture(tasks, [1], "train", 0, 0, 32), byte_tokenizer())
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        save_grams(capture_grams(model, [inputs]), folder)
        save_file(base, folder / "trunk.safetensors")
        artifact.seal(folder, kind="model", phase="cognate", extra={"variant": name})
    return [root / name for name in COURSES]


def run(output: Path, *arguments: str | Path) -> Manifest:
    assert main(EvoMerge, ["--output", str(output), *SMALL, *map(str, arguments)]) == 0
    return artifact.read(output).manifest


def models(folders: list[Path], name: str = "input_model") -> list[str]:
    return [word for folder in folders for word in ("--input", f"{name}={folder}")]


def refused(capsys: pytest.CaptureFixture[str], output: Path, *arguments: str | Path, code: int = 6) -> str:
    assert main(EvoMerge, ["--output", str(output), *SMALL, *map(str, arguments)]) == code
    assert not output.exists()
    return capsys.readouterr().err


def worker(index: int, number: int, rounds: int, state: list[str]) -> list[str]:
    """The command line of one worker of two."""
    parameters = {"index": index, "round": number, "rounds": rounds, "workers": 2}
    return [
        "--step",
        "worker",
        *state,
        *(word for name in parameters for word in ("--set", f"{name}={parameters[name]}")),
    ]


def results(folder: Path, number: int) -> list[str]:
    return [word for index in range(2) for word in ("--input", f"results={folder}/results-{number}-{index}")]


def spread(cognates: list[Path], folder: Path, rounds: int, *settings: str) -> Manifest:
    """The pipeline's steps, each with nothing but its inputs: two workers a round; no selection after the last round."""
    parents, state = models(cognates, "input_models"), list[str]()
    for number in range(rounds):
        for index in range(2):
            output = folder / f"results-{number}-{index}"
            manifest = run(output, *parents, *worker(index, number, rounds, state), *settings)
            assert manifest.kind == "population" and not list(output.glob("*.safetensors"))
        inputs = results(folder, number)
        if number < rounds - 1:
            run(folder / f"state-{number}", "--step", "select", *parents, *inputs, *settings)
            state = ["--input", f"state={folder}/state-{number}"]
    return run(folder / "champion", *parents, *inputs, *settings)
