"""Models with code of their own: refused by name, run where their digest is trusted, and whole again after a phase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from components.shared.base_models import hub as fetching
from components.shared.base_models.address import address
from components.shared.base_models.prepare import prepare
from components.shared.models.loading import load, save, wrap
from components.shared.models.trusted_code import VARIABLE, code_of, digest_of_code
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.runtime.tracking.progress import Progress
from tests import shapes
from tests.unit.shared.base_models.hub_server import hub_server

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class MineConfig(LlamaConfig):
    model_type = "mine_for_the_test"


class MineForCausalLM(LlamaForCausalLM):
    config_class = MineConfig
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model whose architecture is in a file beside it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.delenv(VARIABLE, raising=False)
    folder = shapes.make("llama", tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine_for_the_test", "architectures": ["MineForCausalLM"]}
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModelForCausalLM": "mine.MineForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(CODE)
    return folder


def test_code_is_refused_with_its_names_and_its_digest_and_other_code_too(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of_code(code_of(mine))
    with pytest.raises(ArtifactError, match=rf"would run mine\.py.*--trust {digest}"):
        load(mine)
    monkeypatch.setenv(VARIABLE, digest)
    (mine / "mine.py").write_text(f"{CODE}\nprint('changed')\n")
    with pytest.raises(ArtifactError, match="which is not run"):
        load(mine)
    (mine / "mine.py").write_text(CODE)
    config = json.loads((mine / "config.json").read_text())
    config["auto_map"]["AutoConfig"] = "owner/other--mine.MineConfig"
    (mine / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="leads to another model's folder"):
        load(mine)


def test_trusted_code_runs_travels_and_is_in_the_lineage(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = digest_of_code(code_of(mine))
    monkeypatch.setenv(VARIABLE, f"{'0' * 64},{digest}")
    facts = prepare(address(str(mine)), tmp_path / "base", tmp_path / "work", progress=Progress("test"))
    assert facts["code"] == digest
    model, tokenizer = load(tmp_path / "base")
    assert type(model).__name__ == "MineForCausalLM"
    save(model, tokenizer, tmp_path / "later", card="# later\n")
    again, _ = load(tmp_path / "later")
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert torch.equal(model(ids).logits, again(ids).logits)
    assert digest_of_code(code_of(tmp_path / "later")) == digest
    with pytest.raises(InputError, match="cannot hold coded, ternary or grafted layers"):
        wrap(again)


def test_weights_of_the_hub_are_not_fetched_for_code_that_nobody_trusts(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.add("owner/mine", mine)
        with pytest.raises(ArtifactError, match=r"would run mine\.py") as caught:
            fetching.fetch(address("owner/mine"))
        assert not hub.asked("model.safetensors") and not [
            p for _, p, _ in hub.requests if p.startswith("/store/")
        ]
        monkeypatch.setenv(VARIABLE, caught.value.fix.partition("--trust ")[2][:64])
        assert (fetching.fetch(address("owner/mine")).folder / "mine.py").is_file()


def test_code_beside_an_architecture_that_is_known_is_left_alone(tmp_path: Path) -> None:
    folder = shapes.make("llama", tmp_path / "known")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "mine.Mine"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit(1)\n")
    assert type(load(folder)[0]).__module__.startswith("transformers.models.llama")


def test_a_model_without_the_code_that_it_names_is_refused(mine: Path) -> None:
    (mine / "mine.py").unlink()
    save_file({}, mine / "other.safetensors")
    with pytest.raises(ArtifactError, match="no Python files lie beside it"):
        load(mine)
