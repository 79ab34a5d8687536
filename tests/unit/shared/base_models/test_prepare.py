"""A base model made ready: its files, its licence, its number format, and what is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from components.shared.base_models.address import address
from components.shared.base_models.prepare import prepare
from components.shared.models.loading import load
from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.artifact.base_models import carry_licences, in_card, inherited
from components.shared.runtime.errors import ArtifactError, ConfigError
from components.shared.runtime.tracking.progress import Progress
from tests import shapes
from tests.unit.shared.base_models.hub_server import Hub


def ready(text: str, tmp_path: Path, name: str = "out", **more: str) -> tuple[Path, dict]:
    facts = prepare(address(text), tmp_path / name, tmp_path / "work", progress=Progress("test"), **more)
    return tmp_path / name, facts


def test_a_model_of_the_hub_is_ready_with_its_revision_and_licence(hub: Hub, tmp_path: Path) -> None:
    source = shapes.make("qwen2", tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_mine.Mine"}
    (source / "config.json").write_text(json.dumps(config))
    (source / "LICENSE").write_text("the whole text")
    commit = hub.add("owner/tiny", source)
    folder, facts = ready("owner/tiny", tmp_path)
    assert (facts["source"], facts["revision"], facts["licence"]) == ("owner/tiny", commit, "apache-2.0")
    assert len(facts["digest"]) == 64 and not list(folder.glob("*.py"))
    assert "auto_map" not in json.loads((folder / "config.json").read_text())
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)  # no code is looked for
    assert torch.equal(model.get_input_embeddings().weight, load(source)[0].get_input_embeddings().weight)


def test_files_that_are_none_of_the_models_are_left_behind(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source")
    for name in ("train.log", "model.fp16.safetensors", "modeling.py", "onnx/model.onnx"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(
            b"x" if not name.endswith("safetensors") else (source / "model.safetensors").read_bytes()
        )
    folder, _ = ready(str(source), tmp_path)
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja",
    }  # fmt: skip


def test_weights_are_converted_where_that_is_asked_for(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source", shards="100KB")
    folder, facts = ready(str(source), tmp_path, dtype="bfloat16")
    assert facts["dtype"] == "bfloat16" and len(list(folder.glob("model-*.safetensors"))) > 1
    assert {t.dtype for path in folder.glob("*.safetensors") for t in load_file(path).values()} == {
        torch.bfloat16
    }
    assert load(folder)[0].dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="no dtype 'int3'"):
        ready(str(source), tmp_path, "other", dtype="int3")


def test_a_tokenizer_that_is_set_up_is_saved_so(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source")
    settings = json.loads((source / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    folder, facts = ready(str(source), tmp_path)
    assert "it is <pad>" in facts["notes"][0] and load(folder)[1].pad_token == "<pad>"


def test_an_artifact_as_a_base_keeps_whose_work_it_is(tmp_path: Path) -> None:
    source = shapes.make("llama", tmp_path / "source")
    seal(source, kind="model", phase="test", extra={"base_models": [{"source": "a/b", "licence": "mit"}]})
    _, facts = ready(str(source), tmp_path)
    assert facts["licence"] == "mit"
    (source / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"config\.json"):
        ready(str(source), tmp_path, "again")


def test_licences_go_on_to_what_is_made_of_a_model(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "LICENSE.md").write_text(folder.name)
    first = {"base_models": [{"source": "a/b", "licence": "mit", "revision": "r1"}]}
    second = {
        "base_models": [
            {"source": "c/d", "licence": "llama3", "digest": "0123456789abcdef"},
            *first["base_models"],
        ]
    }
    bases = inherited([first, second, {}])
    assert [base["source"] for base in bases] == ["a/b", "c/d"]
    carry_licences([(one, first), (two, second)], tmp_path / "out")
    carry_licences([(tmp_path / "out", second)], tmp_path / "later")
    texts = {path.relative_to(tmp_path / "later").as_posix() for path in (tmp_path / "later").rglob("*.md")}
    assert texts == {"licences/a--b/LICENSE.md", "licences/c--d/LICENSE.md"}
    card = in_card("---\ntags: [x]\n---\n\n# M\n", bases)
    assert card.startswith("---\nlicense: other\ntags: [x]\n---\n")
    assert "| a/b | r1 | mit |\n| c/d | 0123456789ab | llama3 |\n" in card
    assert in_card("# M\n", []) == "# M\n" and "license: mit" in in_card(
        "---\nx: 1\n---\n", first["base_models"]
    )
