"""`forge new-phase`: the folder of a new phase, complete enough to run and to pass the contract of all phases."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from components.shared.runtime.errors import ConfigError

from ...phases import PHASES, SPECS, between
from ..options import say
from . import phase_template

ROOT = Path(__file__).resolve().parents[3]
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def new_phase(
    name: Annotated[str, typer.Argument(help="Of the phase, its folder and its section of the settings.")],
    after: Annotated[str, typer.Option(metavar="PHASE", help="The phase before it.")] = PHASES[-1],
) -> None:
    """Make the folder of a new phase, its settings and its tests; it runs as it is.

    \b
    forge new-phase distill
    forge new-phase distill --after adas

    What it does at first is a placeholder: it nudges weights, with checkpoints. docs/add-a-phase.md says what to change.
    """  # fmt: skip
    for path in write(name, after):
        say(f"new   {path.relative_to(ROOT)}")
    say(f"forge phase {name} --help; the rest is in docs/add-a-phase.md")


def write(name: str, after: str, root: Path = ROOT) -> list[Path]:
    """Write the files of a new phase; the phase that came after `after` comes after it from now on.

    :param root: of the checkout.
    :returns: the files that are new.
    :raises ConfigError: no such name, an unknown phase before it, or something of that name is there.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 40:
        fix = "give lower-case words with _ between them, such as distill"
        raise ConfigError(f"{name!r} is no name for a phase", where="NAME", fix=fix)
    if name in ("evaluation", "shared"):
        fix = "give another name, such as distill"
        raise ConfigError(
            f"{name!r} is what something else under components is called", where="NAME", fix=fix
        )
    between(after, after)
    words = {"name": name, "kind": "".join(map(str.capitalize, name.split("_"))), "after": after}
    files = {root / Template(path).substitute(words): text for path, text in phase_template.FILES.items()}
    for path in files:
        if path.exists() or (path.parent == root / "components" / name and path.parent.exists()):
            raise ConfigError(f"there is a {name!r} already", where=str(path), fix="give another name")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(words), encoding="utf-8")
    for follower in (spec.name for spec in SPECS.values() if spec.after == after):
        component = root / "components" / follower / "component.py"
        text = component.read_text(encoding="utf-8").replace(f'after="{after}"', f'after="{name}"')
        component.write_text(text, encoding="utf-8")
    return list(files)
