"""Every command of docs/kubeflow.md: `forge` takes it, `make`, kubectl and helm have it, the chart has the key."""

import functools
import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import typer
import yaml

from pipelines import cli
from pipelines.doctor.cluster import patch
from tests import needs
from tests.chart import tools
from tests.pipeline.kubeflow.test_doctor_cluster import STOCK

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "kubeflow.md"
TEXT = DOCUMENT.read_text()
VALUES = ROOT / "charts" / "agent-forge" / "values.yaml"


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
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@functools.cache
def help_of(program, *verb):
    """What the program itself says of a command and of the options that all commands have; "" for no such command."""
    try:
        path = tools.find(program)
    except tools.Missing as missing:
        needs.lacks(str(missing))
    said = ""
    for asked in ([*verb, "--help"], *([["options"]] if program == "kubectl" else [])):
        ended = subprocess.run([path, *asked], capture_output=True, text=True, timeout=60)
        said += ended.stdout if ended.returncode == 0 else ""
    usage = re.search(rf"^ +{program} {' '.join(verb)}\b", said, re.MULTILINE)
    return said if usage else ""


def refused(command):
    """What the program would not take of a command's line: its verb, or its options."""
    program, *words = shlex.split(command)
    verb = [words[0], words[1]] if words[0] == "rollout" else words[:1]
    said = help_of(program, *verb)
    if not said:
        return verb
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*(?=[=,:\s]|$)", "\n".join(option_lines(said))))
    given = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
    return [option for option in given if option not in known]


def option_lines(said):
    """`  -f, --filename=[]:` and `  -f, --values strings   …`, cut before the words that explain them."""
    for line in said.splitlines():
        if re.match(r" +--?[a-zA-Z]", line):
            yield re.split(r" {3,}", line.strip())[0]


def nested(program):
    """The commands of a program, also those inside `$(…)`."""
    inside = [one for line in COMMANDS for one in re.findall(rf"\$\(({program} [^|)]*)", line)]
    return sorted({*inside, *(one for one in COMMANDS if shlex.split(one)[0] == program)})


@pytest.mark.parametrize("command", [*nested("kubectl"), *nested("helm")], ids=lambda command: command[:70])
def test_kubectl_and_helm_take_the_verb_and_the_options(command):
    assert refused(command) == []


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("kubectl wait pods --al --timeout=9s", ["--al"]),
        ("kubectl patch configmap x --replicas 2", ["--replicas"]),
        ("kubectl rollout restrat deployment/x", ["rollout", "restrat"]),
        ("kubectl aply -k x", ["aply"]),
        ("helm upgrade --install x y --set-fiel a=b", ["--set-fiel"]),
        ("helm instal x y", ["instal"]),
    ],
)
def test_a_verb_or_an_option_that_is_wrong_is_found(command, wrong):
    assert refused(command) == wrong


@pytest.mark.parametrize("command", of("helm"))
def test_the_chart_has_the_keys_that_are_set(command):
    words = shlex.split(command)
    assert "charts/agent-forge" in words
    settings = [value for word, value in pairwise(words) if word in ("--set", "--set-file")]
    assert settings
    for setting in settings:
        assert has(setting.partition("=")[0]), setting


def test_the_keys_of_the_chart_that_the_text_names_exist():
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
        elif not target.startswith("http"):
            assert (DOCUMENT.parent / target).exists(), target


def test_retry_of_a_run_whose_workflow_is_gone_is_no_promise():
    [promise] = re.findall(r"`retry` starts a failed run .*?(?=Three sources)", TEXT, re.DOTALL)
    assert "also when KFP has deleted" not in TEXT
    assert "nobody has tried that here" in promise and "`forge submit --from" in promise
