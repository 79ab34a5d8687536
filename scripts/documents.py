"""Brings into the site of the documents what lies outside docs/ (mkdocs.yml names this file as its hook).

The READMEs beside the code are pages of the site under their own paths. A link of a page to any other file or folder of
the project leads to a page that shows it. So the documents are written for whoever reads them in the repository, and
the site has no dead link.
"""

from __future__ import annotations

import ast
import os
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the phases of this checkout, whichever is installed
from pipelines.phases import PHASES  # noqa: E402 - as above

RENAMED = {"README.md": "overview.md"}
"""docs/README.md is the site's first page, so the project's own README has another name there."""

OF_PHASES = "components/*/README.md"
"""In the menu: the README of each phase, in the order in which they run."""

PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "images/*.md",
    "charts/**/*.md",
    "components/**/*.md",
)
PAGES = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)((?:#[^)\s]*)?\))")
FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".sh": "sh", ".j2": "jinja"}
PICTURES = (".png", ".svg")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the documents that a pattern of the menu means, such as `add-*.md`, in its place; none: its section goes."""
    sections = []
    for section in config.nav or []:
        ((title, entries),) = section.items() if isinstance(section, dict) else (("", section),)
        if isinstance(entries, list):
            entries = [name for entry in entries for name in matching(entry)]
        if entries:
            sections.append({title: entries} if title else entries)
    config.nav = sections
    return config


def matching(entry: str | dict[str, str]) -> list[str | dict[str, str]]:
    """What an entry of the menu stands for: itself, or for a pattern the documents of that name."""
    if not isinstance(entry, str) or "*" not in entry:
        return [entry]
    if entry == OF_PHASES:
        return [{f"{number} {name}": entry.replace("*", name)} for number, name in enumerate(PHASES, 1)]
    return sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob(entry))


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the READMEs, then what any page links to."""
    for path in sorted(PAGES):
        add(files, config, place_of(path), path)
    for page in list(files.documentation_pages()):
        for target in linked(page):
            place = place_of(target)
            if target.suffix in PICTURES:
                add(files, config, place, target)
            elif place.startswith("source/") and place not in files.src_uris:
                files.append(File.generated(config, place, content=shown(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to files of the project into links to their pages."""
    here = source_of(page.file)
    if here is None:
        return markdown

    def rewritten(link: re.Match[str]) -> str:
        target = resolved(here, link[2])
        return (
            link[1]
            + posixpath.relpath(place_of(target), posixpath.dirname(page.file.src_uri) or ".")
            + link[3]
        )

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(rewritten, part) for part in parts[::2]]
    return "".join(parts)


def linked(page: File) -> Iterator[Path]:
    """The files and folders of the project that a page links to."""
    here = source_of(page)
    if here is not None:
        for link in LINK.finditer(FENCE.sub("", here.read_text(encoding="utf-8"))):
            target = resolved(here, link[2])
            if target.exists():
                yield target


def resolved(here: Path, link: str) -> Path:
    """What a link of the file `here` leads to; for a folder with a README that."""
    target = Path(os.path.normpath(here.parent / link))
    return target / "README.md" if (target / "README.md").is_file() else target


def place_of(path: Path) -> str:
    """Where a file of the project lies in the site."""
    name = path.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name in RENAMED:
        return RENAMED[name]
    visible = name.lstrip(".").replace("/.", "/")  # mkdocs leaves hidden files out
    return name if path in PAGES or path.suffix in PICTURES else f"source/{visible}.md"


def source_of(page: File) -> Path | None:
    """The file of the project that a page is made of, None for one that shows a source."""
    return None if page.abs_src_path is None else Path(page.abs_src_path)


def add(files: Files, config: MkDocsConfig, place: str, path: Path) -> None:
    """A file of the project at a place in the site."""
    if place not in files.src_uris:
        files.append(File.generated(config, place, abs_src_path=str(path)))


def shown(path: Path) -> str:
    """The page that shows a file, or says what a folder holds."""
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        entries = [entry for entry in sorted(path.iterdir()) if not entry.name.startswith(("_", "."))]
        return "\n".join([f"# {name}/", "", *(f"- `{entry.name}` {summary(entry)}" for entry in entries)])
    text = path.read_text(encoding="utf-8")
    return f"# {name}\n\n`````{LANGUAGES.get(path.suffix, 'text')}\n{text}\n`````\n"


def summary(path: Path) -> str:
    """The first sentence of a module's or a package's docstring; "" for any other file."""
    module = path / "__init__.py" if path.is_dir() else path
    if module.suffix != ".py" or not module.is_file():
        return ""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return re.split(
        r"(?<=[.:;]) |\n\n", text.replace("\n", " ") if "\n\n" not in text else text.split("\n\n")[0]
    )[0]
