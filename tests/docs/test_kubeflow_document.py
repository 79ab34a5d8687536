"""Every command of docs/kubeflow.md: `forge` takes it, `make` has it, the chart has the key; links lead somewhere."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml

from pipelines import cli
from pipelines.kubeflow.doctor import patch
from tests.pipeline.test_doctor_cluster import STOCK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "kubeflow.md"
TEXT = DOCUMENT.read_text()
VALUES = ROOT / "charts" / "agent-forge" / "values.yaml"
KUBECTL = {"apply", "wait", "port-forward", "get", "delete", "patch", "rollout", "create", "logs", "describe"}
HELM = {"install", "upgrade", "uninstall", "test", "template", "lint"}
OPTIONAL = {"kind": "charts", "chart": "charts", "cluster": "charts", "images": "images"}
"""Targets of the Makefile by the first word of their name, and the folder that they come with."""


def commands():
    """The lines of the shell blocks, and the commands that stand in the text."""
    for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        yield from filter(None, block.splitlines())
    prose = re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`\n]+)`", prose):
        if re.match(r"(forge|make|kubectl|helm) \S", span):
            yield span


COMMANDS = sorted(set(commands()))


def of(program):
    return [pytest.param(one, id=one[:70]) for one in COMMANDS if shlex.split(one)[0] == program]


def test_every_command_is_of_a_program_that_is_checked_here():
    programs = {shlex.split(command)[0] for command in COMMANDS}
    assert programs == {"forge", "make", "kubectl", "helm", "export"}
    assert len(COMMANDS) > 40


@pytest.mark.parametrize("command", of("forge"))
def test_forge_takes_the_command(command, monkeypatch):
    monkeypatch.setenv("KFP_HOST", "http://localhost:8080")
    context, words = None, shlex.split(command)
    found = typer.main.get_command(cli.app)
    while True:
        context = found.make_context(words[0], words[1:], parent=context)
        if not hasattr(found, "resolve_command"):
            break
        words = [*context._protected_args, *context.args]
        _, found, rest = found.resolve_command(context, words)
        words = [words[0], *rest]


@pytest.mark.parametrize("command", of("make"))
def test_the_makefile_has_the_target(command):
    target = next(word for word in shlex.split(command)[1:] if "=" not in word)
    folder = OPTIONAL.get(target.split("-")[0])
    if folder and not (ROOT / folder).is_dir():
        pytest.skip(f"{folder}/ is not here")
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", of("kubectl"))
def test_kubectl_has_such_a_command(command):
    words = shlex.split(command)
    assert words[1] in KUBECTL
    flags = [word for word in words[2:] if word.startswith("-")]
    assert all(re.fullmatch(r"--[a-z-]+(=.*)?|-[a-z]", flag) for flag in flags)


@pytest.mark.parametrize("command", of("helm"))
def test_the_chart_has_the_keys_that_are_set(command):
    words = shlex.split(command)
    assert words[1] in HELM and "charts/agent-forge" in words
    settings = [value for word, value in pairwise(words) if word in ("--set", "--set-file")]
    assert settings
    if not VALUES.is_file():
        pytest.skip("the chart is not here")
    for setting in settings:
        assert has(setting.partition("=")[0]), setting


def test_the_keys_of_the_chart_that_the_text_names_exist():
    if not VALUES.is_file():
        pytest.skip("the chart is not here")
    first = set(yaml.safe_load(VALUES.read_text()))
    spans = re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z]+)+)(?:=[^`]*)?`", TEXT)
    named = [span for span in spans if span.split(".")[0] in first]
    assert named
    assert [span for span in named if not has(span)] == []


def has(key):
    """Whether values.yaml has this key."""
    found = yaml.safe_load(VALUES.read_text())
    for part in key.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def test_the_patch_of_argos_settings_is_the_doctors():
    [command] = [one for one in COMMANDS if one.startswith("kubectl patch")]

    def change(words):
        return yaml.safe_load(json.loads(words[-1])["data"]["workflowDefaults"])

    stock = STOCK.replace(
        "    secondsAfterCompletion: 3600\n",
        "    secondsAfterCompletion: 3600\n    secondsAfterSuccess: 3600\n    secondsAfterFailure: 3600\n",
    )
    theirs = shlex.split(patch({"workflowDefaults": stock}, "kubeflow"))
    assert change(shlex.split(command)) == change(theirs)


def test_links_lead_to_files_and_headings_that_exist():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif not target.startswith("http") and not ("charts/" in target and not VALUES.is_file()):
            assert (DOCUMENT.parent / target).exists(), target
