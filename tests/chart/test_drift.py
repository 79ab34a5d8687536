"""The chart and the program that it installs say the same: names, keys, images, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from components.shared.runtime.code import VERSION
from pipelines import cluster
from pipelines.phases import PHASES
from tests.chart import command_lines
from tests.chart.rendering import CHART, ROOT, TABLE, containers, of_kind, pod_templates, render

pytestmark = pytest.mark.usefixtures("helm")
FORGE = ["python", "-m", "pipelines.cli"]
"""The forge command in its image."""
ALL_KEYS = ("--set", "mlflow.enabled=true")


def test_the_config_map_has_the_keys_that_the_pods_read() -> None:
    (config,) = of_kind(render("defaults", *ALL_KEYS), "ConfigMap")
    assert set(config["data"]) == set(cluster.CONFIG_MAP_KEYS)


@pytest.mark.parametrize("name", sorted(path.stem for path in cluster.FOLDER.glob("*.yaml")))
def test_the_pods_read_the_config_map_and_the_secret_that_the_chart_makes(name: str) -> None:
    parameters = cluster.load(name).parameters
    (config,) = of_kind(render(), "ConfigMap")
    (secret,) = of_kind(render("air-gapped"), "Secret")
    assert parameters.config_map == config["metadata"]["name"]
    assert parameters.s3_secret == secret["metadata"]["name"]


def test_the_secret_has_the_keys_that_the_pods_read() -> None:
    (secret,) = of_kind(render("air-gapped"), "Secret")
    assert set(secret["data"]) == set(cluster.SECRET_KEYS)


@pytest.mark.parametrize("table", TABLE)
def test_the_charts_own_pods_take_the_secrets_keys_as_the_pipelines_do(table: str) -> None:
    for whose, pod in pod_templates(render(table)):
        for container in containers(pod):
            taken = {
                variable["valueFrom"]["secretKeyRef"]["key"]: variable["name"]
                for variable in container.get("env", [])
                if variable["name"].startswith("AWS_")
            }
            assert taken in ({}, cluster.SECRET_KEYS), whose


def test_the_upload_names_the_image_of_every_phase() -> None:
    (job,) = of_kind(render(), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    named = {v["name"] for v in container["env"] if v["name"].startswith("AGENT_FORGE_IMAGE_")}
    assert named == {f"AGENT_FORGE_IMAGE_{name.upper()}" for name in (*PHASES, "forge")}


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == VERSION


@pytest.mark.parametrize("table", TABLE)
def test_the_uploaded_pipelines_are_compiled_with_settings_that_there_are(table: str) -> None:
    (job,) = of_kind(render(table), "Job")[-1:]
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert (cluster.FOLDER / f"{arguments[arguments.index('--cluster') + 1]}.yaml").is_file()


@pytest.mark.parametrize("table", TABLE)
def test_the_forge_command_takes_what_the_templates_give_it(
    table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_HOST", "http://ml-pipeline:8888")  # as in these pods
    commands = [
        c for _, pod in pod_templates(render(table)) for c in containers(pod) if c.get("command") == FORGE
    ]
    assert len(commands) >= 2
    for container in commands:
        assert not command_lines.refused(container["args"]), container["args"]


@pytest.mark.parametrize("path", ["README.md", "templates/NOTES.txt"])
def test_the_forge_command_takes_what_the_readme_and_the_notes_say(path: str) -> None:
    text = re.sub(r"\{\{[^}]*\}\}", "default", (CHART / path).read_text())
    lines = list(command_lines.in_text(text))
    assert lines
    for arguments in lines:
        assert not command_lines.refused(arguments), arguments


def test_a_command_line_that_is_wrong_is_found() -> None:
    assert "No such option" in command_lines.refused(["doctor", "--hosst", "x"])
    assert "No such command" in command_lines.refused(["sumbit"])
    assert not command_lines.refused(["doctor", "--host", "http://x"])


def test_helm_in_the_readme_names_files_and_values_that_there_are() -> None:
    text = re.sub(r"\\\n\s*", " ", (CHART / "README.md").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for path in re.findall(r"--values (\S+)", text):
        assert Path(ROOT / path).is_file(), path
    for key in re.findall(r"--set(?:-file)? (?:'|\")?([\w.]+)=", text):
        at = values
        for step in key.split("."):
            assert step in at, key
            at = at[step]


def test_what_the_chart_starts_of_the_control_plane_is_there_and_answers_where_it_is_asked() -> None:
    from pipelines.control.api.app import application
    from pipelines.control.auth.guard import routes
    from pipelines.control.settings import API_PORT, ControlSettings

    values = yaml.safe_load((CHART / "values.yaml").read_text())["control"]
    assert not command_lines.refused(["control", *values["args"]])
    assert values["port"] == API_PORT
    answered = {route.path for route in routes(application(ControlSettings()))}
    assert {values["metricsPath"], values["healthPath"]} <= answered
    (monitor,) = of_kind(
        render(
            "defaults",
            "--set",
            "control.enabled=true,serviceMonitor.enabled=true,control.metricsKey.name=forge",
        ),
        "ServiceMonitor",
    )
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["authorization"] == {"type": "Bearer", "credentials": {"name": "forge", "key": "token"}}
