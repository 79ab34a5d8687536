"""The documents name only what is there: files, commands with their options, targets of make, settings."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import typer

from pipelines.cli import app
from pipelines.phases import PHASES

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = {
    "images/images.lock",
    "configs/phase/distill.yaml",
    "tests/unit/distill",
    "tests/contract/phases/test_distill.py",
}
MADE |= {
    f"components/distill/{name}"
    for name in ("README.md", "component.py", "nudge.py", "phase.py", "settings.py")
}
MADE |= {"components/distill/__main__.py"}
"""What a command makes, and no checkout has."""

LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
NAMED = re.compile(r"(?<![\w./…-])(?:charts|components|configs|images|pipelines|tests)/[\w./<>*-]*")
SETTING = re.compile(rf"(?<![\w./-])({'|'.join(PHASES)})\.(?!yaml\b|py\b|md\b)([a-z_]+)")
MAKE = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def code(document):
    """The fenced blocks of a document and the spans between backticks of the rest, a text each."""
    text = document.read_text()
    return [*FENCE.findall(text), *SPAN.findall(FENCE.sub("", text))]


def anchors(document):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", document.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def command_lines(document):
    """The lines that begin with `forge`, as words; a `\\` at the end goes on with the next line."""
    for text in code(document):
        for line in text.replace("\\\n", " ").splitlines():
            words = line.split("  #")[0].strip()
            if re.match(r"forge [a-z]", words):
                yield words


def commands():
    """Each command's name → its options. Those of a group have two words, one of which may be left out."""
    options = {}
    for name, command in typer.main.get_command(app).commands.items():
        options[name] = options_of(command)
        for inner, subcommand in getattr(command, "commands", {}).items():
            options[f"{name} {inner}"] = options_of(subcommand)
            if inner == getattr(command, "left_out", None):
                options[name] |= options_of(subcommand)
    return options


def options_of(command):
    """The options of a command, as they are written; those of merge's methods are only known to `get_params`."""
    parameters = command.get_params(typer.Context(command))
    names = {name for option in parameters for name in (*option.opts, *option.secondary_opts)}
    return names | {"--help"}


def links(document):
    """What a document links to: (as written, file, anchor)."""
    for place, anchor in LINK.findall(FENCE.sub("", document.read_text())):
        yield f"{place}#{anchor}", (document.parent / place).resolve() if place else document, anchor


@every_document
def test_every_link_leads_to_a_file_and_a_heading_that_exist(document):
    broken = [
        written
        for written, file, anchor in links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert not broken


@every_document
def test_every_forge_command_exists_and_has_the_options_that_are_shown(document):
    known = commands()
    # a method's file, as the document shows it, brings options of its own
    added = {f"--{name}" for name in re.findall(r'Parameter\(\s*"(\w+)"', document.read_text())}
    for line in command_lines(document):
        first, *words = shlex.split(line)[1:]
        if words and f"{first} {words[0]}" in known:
            first = f"{first} {words.pop(0)}"
        for name in first.split("|"):
            assert name in known, line
            if name != "phase":  # the options of a phase are its own
                options = {word.split("=")[0] for word in words if re.match("-{1,2}[a-zA-Z]", word)}
                assert options - added <= known[name], line


@every_document
def test_every_target_of_make_exists(document):
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {name for text in code(document) for name in MAKE.findall(text)} <= targets


@every_document
def test_every_path_of_the_project_that_is_named_exists(document):
    named = {path.rstrip("./") for text in code(document) for path in NAMED.findall(text)} - MADE
    assert not [path for path in sorted(named) if not any(ROOT.glob(re.sub(r"<[^>]*>", "*", path)))]


@every_document
def test_every_setting_of_a_phase_that_is_named_is_one(document):
    named = {found for text in code(document) for found in SETTING.findall(text)}
    for phase, key in sorted(named):
        settings = importlib.import_module(f"components.{phase}.settings").Settings
        assert key in settings.model_fields, f"{phase}.{key}"
