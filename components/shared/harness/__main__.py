"""lm_eval's own command line, with our model and our suites in it.

python -m components.shared.harness run --model agent_forge --model_args path=MODEL --tasks forge:reasoning,file:MINE.jsonl

All is as in `lm_eval`. Beside it `--model agent_forge` is known, and of the tasks `forge:SUITE` and `file:PATH`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from components.shared.runtime.errors import ConfigError

OURS = "forge:"
FILE = "file:"


class Function(str):
    """A name that lm_eval imports."""


def _tagged(dumper: yaml.SafeDumper, name: Function) -> yaml.Node:
    return dumper.represent_scalar("!function", str(name))


yaml.SafeDumper.add_representer(Function, _tagged)


def task_file(name: str, folder: Path) -> str:
    """A task's name, or the file that says to lm_eval what `forge:SUITE` or `file:PATH` is."""
    if not name.startswith((OURS, FILE)):
        return name
    suite = name.removeprefix(OURS)
    stem = Path(suite.removeprefix(FILE)).name.partition(".")[0]
    config = {
        "task": f"{'file' if suite.startswith(FILE) else 'forge'}_{stem}",
        "class": Function("components.shared.harness.tasks.SuiteTask"),
        "suite": suite,
    }
    file = folder / f"{len(list(folder.iterdir()))}.yaml"
    file.write_text(yaml.safe_dump(config))
    return str(file)


def arguments(given: Sequence[str], folder: Path) -> list[str]:
    """The command line, with files in place of our tasks."""
    out, tasks = [], False
    for word in given:
        if word.startswith("--tasks="):
            word = "--tasks=" + ",".join(
                task_file(name, folder) for name in word.partition("=")[2].split(",")
            )
        elif tasks and not word.startswith("-"):
            word = ",".join(task_file(name, folder) for name in word.split(","))
        tasks = word in ("--tasks", "-t") or (tasks and not word.startswith("-"))
        out.append(word)
    return out


def main() -> None:
    """Run lm_eval.

    :raises ConfigError: it is not installed.
    """
    try:
        from lm_eval.__main__ import cli_evaluate
    except ImportError as error:
        raise ConfigError(
            "lm-evaluation-harness is not installed", where="lm_eval", why=str(error),
            fix="install the extra: pip install 'agent-forge[harness]'",
        ) from error  # fmt: skip
    from . import model  # noqa: F401 # it registers itself

    with tempfile.TemporaryDirectory() as folder:
        sys.argv = ["lm_eval", *arguments(sys.argv[1:], Path(folder))]
        cli_evaluate()


if __name__ == "__main__":
    main()
