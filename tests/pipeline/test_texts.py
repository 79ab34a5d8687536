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
from pipelines.settings import as_parameters, composed, from_parameters
from pipelines.texts import KEYS, found

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
    assert found(none) == none and "text" in json.loads(none["compression_settings"])["evaluation"]


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
