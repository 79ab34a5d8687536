"""The settings of phases and of the server: schemas, effective values and who set them, profiles, and no secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from components.shared.runtime.errors import ConfigError
from pipelines.control.context import Control, opened
from pipelines.control.errors import Refused
from pipelines.control.services import profiles
from pipelines.control.services.effective_settings import DEFAULT, effective
from pipelines.control.services.pipeline_state import pipeline_state
from pipelines.control.services.server_settings import server_settings
from pipelines.control.services.settings_schema import schemas
from pipelines.control.settings import ControlSettings
from pipelines.control.store.database import Database
from pipelines.phases import PHASES
from tests.control.catalogue.made import catalogued
from tests.control.log.made import make_run


@pytest.fixture
async def control(tmp_path: Path, sqlite_template: Path) -> object:
    """On SQLite alone: settings are no matter of the database."""
    shutil.copyfile(sqlite_template, tmp_path / "control.db")
    settings = ControlSettings(runs=tmp_path / "runs", database_url=f"sqlite:///{tmp_path / 'control.db'}")
    async with opened(settings) as process:
        yield process


def test_every_phase_has_a_schema_with_descriptions_and_ranges() -> None:
    assert set(schemas()) == {"evaluation", *PHASES}
    steps = schemas()["bitnet"]["properties"]["steps"]
    assert (steps["type"], steps["minimum"], bool(steps["description"])) == ("integer", 1, True)
    assert schemas()["bitnet"]["properties"]["batch"]["default"] == 64


def test_the_api_and_the_schemas_come_without_torch() -> None:
    program = (
        "import sys\nfrom pipelines.control.api.app import application\n"
        "from pipelines.control.services.settings_schema import schemas\nschemas()\n"
        "from pipelines.settings import composed\ncomposed(profile='micro')\n"
        "print([name for name in ('torch', 'transformers', 'mlflow', 'kfp') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(said.replace("'", '"')) == []


async def test_every_value_says_who_set_it_and_what_differs_from_the_profile(control: Control) -> None:
    found = await effective(control, "micro", ["bitnet.steps=11", "evaluation.items=30"], 7)
    assert (found.is_valid, found.issues, found.seed, found.base) == (True, [], 7, "micro")
    bitnet = found.phases["bitnet"]
    assert bitnet.values["steps"] == 11
    assert bitnet.origins["steps"] == "override 'bitnet.steps=11'"
    assert bitnet.origins["lr"].startswith("profile/micro.yaml:")
    assert bitnet.origins["optimizer"].startswith(("phase/bitnet.yaml", DEFAULT))
    assert bitnet.origins["register_as"] == DEFAULT
    assert [difference.model_dump() for difference in found.differences] == [
        {"key": "bitnet.steps", "value": 11, "profile_value": 8},
        {"key": "evaluation.items", "value": 30, "profile_value": 24},
    ]


async def test_what_does_not_fit_is_said_with_what_was_likely_meant(control: Control) -> None:
    found = await effective(control, "micro", ["bitnet.step=1", "adas.threads=0"], None)
    assert not found.is_valid and not found.phases
    assert any("bitnet.step is unknown" in issue and "did you mean steps" in issue for issue in found.issues)
    assert any("adas.threads = 0" in issue for issue in found.issues)
    with pytest.raises(Refused, match="no such profile"):
        await effective(control, "micra", [], None)


async def test_settings_that_ask_for_what_is_outside_are_refused(control: Control) -> None:
    found = await effective(control, "micro", ["bitnet.register_as=${oc.env:HOME}"], None)
    assert not found.is_valid


async def test_a_profile_of_ones_own_is_a_profile_of_the_project_and_what_it_changes(
    control: Control,
) -> None:
    kept = profiles.UserProfile(base="micro", overrides=["bitnet.steps=9"], description="quick")
    profiles.keep(control.settings, "mine", kept)
    assert profiles.expanded(control.settings, "mine", ["bitnet.steps=10"]) == (
        "micro", ["bitnet.steps=9", "bitnet.steps=10"],
    )  # fmt: skip
    assert (await effective(control, "mine", [], None)).phases["bitnet"].values["steps"] == 9
    assert [profile.name for profile in profiles.every(control.settings)][-1] == "mine"
    for name in ("tiny", "../x", "a/b", "", "UPPER", "x" * 60):
        with pytest.raises(ConfigError):
            profiles.keep(control.settings, name, kept)
        if name != "tiny":
            with pytest.raises(Refused):
                profiles.find(control.settings, name)


def test_no_secret_and_no_password_is_shown() -> None:
    settings = ControlSettings(
        jwt_secret="canary-" * 9, webhook_secret="canary", database_url="postgresql://me:can#ary?@host:5432/forge",
        redis_url="rediss://:canary@host/0", mlflow_url="http://u:canary@mlflow:5000/?token=canary",
    )  # fmt: skip
    shown = server_settings(settings)
    text = shown.model_dump_json()
    assert "canary" not in text and "can#ary" not in text and "ary?" not in text
    assert shown.settings["jwt_secret"] == "given"
    assert shown.settings["database_url"] == "postgresql://host:5432/forge"
    assert shown.links.mlflow == "http://mlflow:5000"
    assert server_settings(ControlSettings(kfp_host="javascript:alert(1)")).links.kfp == ""


async def test_the_pipelines_state_is_that_of_the_newest_run_of_each_phase(control: Control) -> None:
    database: Database = control.database
    await make_run(
        database,
        "old",
        created=1.0,
        phases={"bitnet": {"state": "succeeded", "share": 1.0}},
        state="succeeded",
    )
    await make_run(
        database, "new", created=2.0, phases={"cognate": {"state": "running", "share": 0.5}}, profile="micro"
    )
    manifest = await catalogued(control, control.settings.runs / "m", score=0.25)
    state = await pipeline_state(database)
    assert (state.latest, state.profile, state.runs) == ("new", "micro", {"running": 1, "succeeded": 1})
    assert state.phases["bitnet"].model_dump() == {
        "run": "old", "state": "succeeded", "share": 1.0, "digest": manifest.digest, "score": 0.25,
    }  # fmt: skip
    assert (state.phases["cognate"].state, state.phases["adas"].state) == ("running", "never run")
