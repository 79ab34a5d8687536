"""Texts that settings name: whole paths where a run is planned, and refused there where no task could read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.shared.evaluation.report_split import local_copy
from components.shared.runtime.errors import InputError
from pipelines.kubeflow.compiled import prepared
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from pipelines.phases import COMPILED
from pipelines.settings import as_parameters, composed, from_parameters
from pipelines.texts import KEYS, digests, found, refuse_local, whole_name

HF = ("compression.recovery.steps=0",)


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A text in the current folder, by its name alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held.txt").write_text("a text")
    return "held.txt"


def test_a_relative_path_of_a_text_is_whole_in_every_phases_settings(text, tmp_path):
    overrides = (*HF, *(f"{key}={text}" for key in KEYS))
    plan = prepare(RunRequest(runs=tmp_path / "runs", overrides=overrides))
    configs = from_parameters(plan.status.parameters)
    assert {config.evaluation.text for config in configs.values()} == {str(tmp_path / text)}
    assert configs["compression"].settings.calibration.text == str(tmp_path / text)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("key", KEYS)
def test_a_text_that_is_not_there_is_refused_before_anything_is_written(key, text, tmp_path):
    asked = RunRequest(runs=tmp_path / "runs", overrides=(*HF, f"{key}=nofile.txt"))
    with pytest.raises(InputError, match=rf"{key}=nofile\.txt"):
        prepare(asked)
    assert not (tmp_path / "runs").exists()


def test_settings_that_name_no_file_of_this_machine_stay_as_they_are():
    given = as_parameters(composed(["adas", "compression"], overrides=["evaluation.text=s3://b/held/t.txt"]))
    assert found(given) == given
    none = as_parameters(composed(["compression"]))
    assert found(none) == none


@pytest.mark.parametrize("profile", ["hf-small", "hf-7b"])
def test_a_profile_for_given_models_takes_a_text_to_calibrate_by_without_more_words(profile):
    configs = composed(["compression"], profile=profile, overrides=["compression.calibration.text=t.txt"])
    assert configs["compression"].settings.calibration.text == "t.txt"


@pytest.mark.parametrize("key", KEYS)
def test_a_pod_gets_no_text_of_this_machine_and_one_of_a_store(key, text):
    def submitted(place):
        overrides = (*HF, f"{key}={place}")
        artifacts = ["s3://b/model"]
        return prepared(
            "compression", "compression", [], artifacts, {}, profile="tiny", overrides=overrides, seed=None
        )

    with pytest.raises(InputError, match="a pod cannot read"):
        submitted(text)
    assert "s3://b/texts/held.txt" in str(submitted("s3://b/texts/held.txt")[1])


def test_a_text_of_a_store_is_fetched_and_a_path_is_itself(s3_uri, tmp_path, monkeypatch):
    from components.shared.runtime.store.uri import open_store

    monkeypatch.setattr(local_copy, "inputs", lambda: tmp_path / "inputs")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "held.txt").write_text("a text")
    open_store(f"{s3_uri}/texts").upload(tmp_path / "texts", "")
    assert local_copy.local_file(f"{s3_uri}/texts/held.txt").read_text() == "a text"
    assert local_copy.local_file("held.txt") == Path("held.txt")


def test_a_corpus_by_its_path_is_whole_in_a_run_and_not_for_a_pod(text, tmp_path):
    for given in (
        f'{{chain: 3, "corpus:./{text}?column=body": 1}}',
        f"{{chain: 3, corpus:./{text}?column=body: 1}}",
    ):
        asked = RunRequest(runs=tmp_path / "runs", overrides=(f"cognate.standard.tasks={given}",))
        configs = from_parameters(prepare(asked).status.parameters)
        whole = f"corpus:{tmp_path / text}?column=body"
        handed = [configs[phase].settings.tasks for phase in ("training", "bitnet")]
        assert all(whole in tasks for tasks in [configs["cognate"].settings.standard.tasks, *handed])
        anchors = configs["baking"].settings.anchor_tasks
        assert "chain" in anchors and whole not in anchors
        with pytest.raises(InputError, match="a pod cannot read"):
            prepared("cognate", "training", [], [], {}, profile="tiny", overrides=asked.overrides, seed=None)
    with pytest.raises(InputError, match="no such corpus"):
        prepare(
            RunRequest(runs=tmp_path / "runs", overrides=('training.tasks={chain: 1, "corpus:./none": 1}',))
        )


@pytest.fixture
def questions(tmp_path, monkeypatch):
    """A file of questions in the current folder, whose name has a space."""
    (tmp_path / "my own").mkdir()
    monkeypatch.chdir(tmp_path / "my own")
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1), "split": "report"} for n in range(4)]
    Path("q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "my own" / "q.jsonl"


def asking(*overrides):
    """Settings that name the file in a suite, a mixture, a fitness, a target, levels, and gates."""
    return (
        "evaluation.suites=[reasoning, file:q.jsonl]",
        "evomerge.suites=[file:q.jsonl]",
        "training.target=[file:q.jsonl]",
        "baking.anchor_tasks={file:q.jsonl: 1}",
        "baking.anchor_levels={file:q.jsonl: [1]}",
        "bitnet.gates=[{metric: score/file:q.jsonl, value: start/score/file:q.jsonl - 2%}]",
        *overrides,
    )


def test_a_file_of_questions_by_its_path_is_whole_wherever_it_is_named(questions, tmp_path, monkeypatch):
    plan = prepare(RunRequest(runs=tmp_path / "runs", overrides=asking()))
    configs, whole = from_parameters(plan.status.parameters), f"file:{questions}"
    assert all(config.evaluation.suites == ["reasoning", whole] for config in configs.values())
    assert configs["training"].settings.target == [whole] and configs["evomerge"].settings.suites == (whole,)
    baking = configs["baking"].settings
    assert list(baking.anchor_tasks) == [whole] == list(baking.anchor_levels)
    [gate] = configs["bitnet"].settings.gates
    assert gate.names == (f"score/{whole}", f"start/score/{whole}")
    assert gate.bound({f"start/score/{whole}": 0.5}) == pytest.approx(0.49)
    plan.folder.write(plan.status)
    plan.folder.pipeline.write_text(COMPILED.read_text())
    monkeypatch.chdir(tmp_path)
    again = prepare(RunRequest(runs=tmp_path / "runs", resume=plan.folder.name))
    assert again.status.parameters == plan.status.parameters, "what goes on from elsewhere finds it"


def test_a_task_over_a_file_that_is_not_there_is_refused_and_a_pod_gets_none_of_this_machine(questions):
    for name in ("file:none.jsonl", "arc:none", "long/needle:none.txt"):
        with pytest.raises(InputError, match=rf"no such file or folder[\s\S]*{name}"):
            whole_name(name)
    here, stored = (
        as_parameters(composed(["training"], overrides=[f"training.target=['file:{place}']"]))
        for place in ("q.jsonl", "s3://b/questions/q.jsonl")
    )
    with pytest.raises(InputError, match="a pod cannot read"):
        refuse_local(here)
    refuse_local(stored)


def test_a_file_that_has_two_names_is_refused(questions):
    twice = ("baking.anchor_tasks={file:q.jsonl: 1, file:./q.jsonl: 2}", "baking.anchor_levels=[1]")
    with pytest.raises(InputError, match="names the same file twice"):
        found(as_parameters(composed(["baking"], overrides=twice)))


def test_what_a_named_file_holds_is_part_of_what_decides_a_result(questions, tmp_path):
    def held(*overrides):
        given = found(as_parameters(composed(["training"], overrides=overrides)))
        return digests(given["training_settings"])

    (tmp_path / "wiki").mkdir()
    (tmp_path / "wiki" / "a.txt").write_text("a text")
    (questions.parent / "judge.py").write_text("def f(item, text): return 1.0")
    asked = (
        "evaluation.suites=[file:q.jsonl]", f"evaluation.text={tmp_path / 'wiki' / 'a.txt'}",
        f"training.tasks={{chain: 1, 'corpus:{tmp_path / 'wiki'}': 1, 'corpus:owner/name@main': 1}}",
    )  # fmt: skip
    before = held(*asked)
    assert held() == {} and held(*asked) == before and before.pop("corpus:owner/name@main") == ""
    assert len(before) == 3 and all(before.values())
    questions.write_text('{"prompt": "a", "answer": "b", "grader": "judge.py:f", "split": "report"}')
    second = held(*asked)
    assert {name for name in before if before[name] != second[name]} == {f"file:{questions}"}
    (questions.parent / "judge.py").write_text("def f(item, text): return 0.5")
    third = held(*asked)
    assert {name for name in before if second[name] != third[name]} == {f"file:{questions}"}
    (tmp_path / "wiki" / "a.txt").write_text("other text")
    last = held(*asked)
    changed = {f"corpus:{tmp_path / 'wiki'}", "evaluation.text"}
    assert {name for name in before if third[name] != last[name]} == changed
