"""A model is measured once: what is known of its digest, the items and the code is taken from the cache."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import Architecture, Route
from components.shared.assessment import measure, score_cache
from components.shared.assessment.measure import assess
from components.shared.assessment.score_cache import ScoreCache
from components.shared.assessment.subject import Subject
from components.shared.evaluation.pass_at_k import Sampling
from components.shared.evaluation.suites import suite_items
from components.shared.evaluation.thinking import answers_with_thoughts
from components.shared.models.loading import build, load, save
from components.shared.models.remote_code.configuration_cognate import CognateConfig
from components.shared.runtime.artifact.artifact import seal
from components.shared.runtime.errors import ArtifactError, ConfigError
from components.shared.runtime.store.folder import FolderStore
from components.shared.tasks.tokenizer import byte_tokenizer
from pipelines.report import formatting

SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
ASKED = {"items": 8, "seed": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two artifacts of networks that know nothing."""
    folders = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("models") / f"model-{seed}"
        save(build(CognateConfig(**SHAPE), seed=seed), byte_tokenizer(), folder, card="")
        seal(folder, kind="model", phase="cognate")
        folders.append(folder)
    return folders


@pytest.fixture
def cache(tmp_path):
    said = []
    made = ScoreCache(FolderStore(tmp_path / "store"), said.append)
    made.said, made.folder = said, tmp_path / "store" / score_cache.PLACE
    return made


@pytest.fixture
def loaded(monkeypatch):
    """The names of the models that were loaded."""
    names, load = [], Subject.load

    def counted(self):
        names.append(self.folder.name)
        return load(self)

    monkeypatch.setattr(Subject, "load", counted)
    return names


def test_a_model_is_seen_beside_chance_lookup_and_the_one_it_is_compared_with(models):
    found = assess(models[0], ["reasoning", "safety"], **ASKED, against=models[1])
    assert [baseline.kind for baseline in found.baselines] == ["chance", "lookup", "against"]
    assert list(found.scores) == ["reasoning", "safety"] and found.scores["safety"]["n"] == 8
    against = found.baseline("against")
    assert set(against.differences) == {"reasoning", "safety", "overall"}
    assert against.digest == Subject.at(models[1]).digest != found.model["digest"]
    assert json.loads(json.dumps(found.as_dict()))["baselines"][2]["label"] == str(models[1])


def test_a_second_evaluation_of_the_same_digest_is_served_from_the_cache(models, cache, loaded, monkeypatch):
    first = assess(models[0], ["reasoning"], **ASKED, against=models[1], cache=cache)
    assert loaded == ["model-0", "model-1"] and len(list(cache.folder.iterdir())) == 3
    monkeypatch.setattr(measure, "evaluate", None)  # what would measure
    assert (
        assess(models[0], ["reasoning"], **ASKED, against=models[1], cache=cache).as_dict() == first.as_dict()
    )
    assert loaded == ["model-0", "model-1"] and cache.said == []


@pytest.mark.parametrize("other", [{"items": 9}, {"seed": 1}])
def test_other_items_are_measured(models, cache, loaded, other):
    for asked in (ASKED, ASKED | other):
        assess(models[0], ["reasoning"], **asked, cache=cache)
    assert loaded == ["model-0"] * 2


def test_other_code_is_measured_and_what_is_to_be_measured_again(models, cache, loaded, monkeypatch):
    assess(models[0], ["reasoning"], **ASKED, cache=cache)
    assess(models[0], ["reasoning"], **ASKED, cache=ScoreCache(cache.store, cache.say, reads=False))
    monkeypatch.setattr(score_cache, "code_version", lambda _: "other")
    assess(models[0], ["reasoning"], **ASKED, cache=cache)
    assert loaded == ["model-0"] * 3


def test_examples_and_the_rows_that_are_looked_up_are_part_of_what_a_score_is_kept_under(
    models, cache, loaded, tmp_path
):
    file, choices = tmp_path / "mine.jsonl", {"choices": ["a", "b"]}

    def asked(trained, shots):
        rows = [{"prompt": f"{n}?", "answer": "a", "split": "report", **choices} for n in range(4)]
        rows += [{"prompt": f"{n}!", "answer": trained, "split": "train", **choices} for n in range(4)]
        file.write_text("\n".join(map(json.dumps, rows)))
        found = assess(models[0], [f"file:{file}"], items=4, seed=0, shots=shots, cache=cache)
        [looked_up] = found.baseline("lookup").scores.values()
        return looked_up["score"], found.baseline("lookup").differences["overall"].n

    assert asked("a", 0) == asked("a", 0) == (1.0, 4) and len(loaded) == 1
    assert asked("a", 2) == (1.0, 4) and len(loaded) == 2, "lookup is shown no examples, and is paired"
    assert asked("b", 0) == (0.0, 4) and len(loaded) == 3, "the same report rows, other rows to look up"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace(b'"score": 0', b'"score": 1'),
        lambda text: b"",
        lambda text: b"\xff",
    ],
)
def test_a_damaged_entry_is_measured_again_and_replaced(models, cache, loaded, damage):
    first = assess(models[0], ["reasoning"], **ASKED, cache=cache).as_dict()
    whole = {path: path.read_bytes() for path in cache.folder.iterdir()}
    for path, text in whole.items():
        path.write_bytes(damage(text))
    assert assess(models[0], ["reasoning"], **ASKED, cache=cache).as_dict() == first
    assert len(loaded) == 2 and len(cache.said) == 2 and "damaged" in cache.said[0]
    assert {path: path.read_bytes() for path in cache.folder.iterdir()} == whole


def test_an_entry_of_another_key_stands_for_nothing(models, cache, loaded):
    assess(models[0], ["reasoning"], **ASKED, cache=cache)
    one, two = sorted(cache.folder.iterdir())
    one.write_bytes(two.read_bytes())
    assess(models[0], ["reasoning"], **ASKED, cache=cache)
    assert "another key" in cache.said[0]


def test_of_a_relative_the_scores_in_its_manifest_are_taken_where_they_are_of_the_same_items(models, loaded):
    scores = assess(models[1], ["reasoning"], **ASKED).scores
    loaded.clear()
    before = Subject.at(models[1], "cognate")
    before = dataclasses.replace(before, manifest=dataclasses.replace(before.manifest, scores=scores))
    found = assess(models[0], ["reasoning"], **ASKED, relatives={"before": before})
    assert (
        loaded == ["model-0"]
        and found.baseline("before").scores["reasoning"]["score"] == scores["reasoning"]["score"]
    )
    assess(models[0], ["reasoning"], items=9, seed=0, relatives={"before": before})
    assert loaded == ["model-0", "model-0", "model-1"]


def test_what_cannot_be_assessed_is_refused(models, tmp_path):
    with pytest.raises(ConfigError, match="no suite"):
        assess(models[0], [], **ASKED)
    with pytest.raises(ConfigError, match="reasonning") as refused:
        assess(models[0], ["reasonning"], **ASKED)
    assert "reasoning" in refused.value.fix
    with pytest.raises(ArtifactError):
        assess(tmp_path, ["reasoning"], **ASKED)


def test_a_right_answer_of_a_model_and_of_an_agent_has_its_costs(models, tmp_path):
    plain = assess(models[0], ["efficiency"], **ASKED).scores["efficiency"]
    shutil.copytree(models[0], tmp_path / "agent")
    (tmp_path / "agent" / "forge.json").unlink()
    model, tokenizer = load(models[0])
    Agent(model, tokenizer, Architecture(default=Route()), answer_tokens=4).save(tmp_path / "agent")
    seal(tmp_path / "agent", kind="model", phase="adas")
    agent = assess(tmp_path / "agent", ["efficiency"], **ASKED).scores["efficiency"]
    for score in (plain, agent):
        assert all(score["detail"][f"{name}_per_right"] > 0 for name in ("tokens", "flops", "bytes"))
        assert score["timing"]["latency_seconds"] > 0 and "tokens" in formatting.beside(score)
    longest = max(len(item.prompt) for item in suite_items("efficiency", split="report", **ASKED)) + 1 + 4
    assert 8 < agent["detail"]["tokens_per_right"] <= 8 * longest, "none is right: those of all items"


def test_a_model_that_was_taught_to_think_can_be_asked_so_and_no_other(models, tmp_path, cache):
    with pytest.raises(ConfigError, match="no thoughts to be switched on"):
        Subject.at(models[0]).thinking()
    config = CognateConfig(**SHAPE, thoughts={"length": 1, "start": 259, "end": 260, "mixing": True})
    save(build(config, seed=0), byte_tokenizer(), tmp_path / "thoughtful", card="")
    seal(tmp_path / "thoughtful", kind="model", phase="quietstar")
    plain = Subject.at(tmp_path / "thoughtful")
    found = assess(plain.thinking(), ["reasoning"], items=2, seed=0, against=plain, cache=cache)
    assert found.model["name"] == f"{plain.name}, thinking" and found.baseline("against").label == plain.name
    assert len(list(cache.folder.iterdir())) == 3, "what thinks, what does not, and lookup"
    assert plain.thinking().load().agent.func is answers_with_thoughts


def test_samples_are_kept_apart_from_answers_and_from_other_samples(models, cache, loaded, tmp_path):
    row = {
        "prompt": "def one():",
        "answer": "return 1",
        "tests": "assert one() == 1",
        "split": "report",
        "limit": 2,
    }
    file = tmp_path / "code.jsonl"
    file.write_text("\n".join(json.dumps(row | {"prompt": f"def {name}():"}) for name in ("one", "two")))
    asked = {"suites": [f"file:{file}"], "items": 2, "seed": 0, "cache": cache}
    for sampling in (None, Sampling(2, (1, 2), 0.8), Sampling(2, (1, 2), 0.5)):
        for _ in range(2):
            [score] = assess(models[0], **asked, sampling=sampling).scores.values()
        assert ("pass_at_2" in score["detail"]) == (sampling is not None)
    assert len(loaded) == 3
    with pytest.raises(ConfigError, match="for programs"):
        assess(models[0], ["safety"], **ASKED, sampling=Sampling())
