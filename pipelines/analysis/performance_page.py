"""The report of performance as a page: its five sections as tables. No script, no network, light and dark."""

from __future__ import annotations

from pathlib import Path

import jinja2

from components.shared.runtime.atomic import write_atomically
from components.shared.runtime.errors import ConfigError
from components.shared.runtime.wording import size

from .performance import Report


def check_file(path: Path) -> None:
    """Refuse a name that says another format, before anything is read.

    :raises ConfigError: it does not end in .html.
    """
    if path.suffix != ".html":
        raise ConfigError("a page is named FILE.html", where=f"--html {path}", fix="name it .html")


def write(path: Path, report: Report) -> None:
    """Write the page, all or nothing."""
    write_atomically(path, render(report))


def render(report: Report) -> str:
    """The page, as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["size"] = size
    return environment.get_template("performance.html.j2").render(report=report)
