"""A phase's command line: KFP's executor input, or everything said by hand."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .inputs import Request, from_kfp, group, take
from .sanity import require_sane

OPTIONS = (
    (
        "--input",
        "[NAME=]PLACE",
        "many",
        "an artifact or a Hugging Face model: folder or s3://bucket/prefix; NAME is what "
        "the pipeline calls this input (default: input_model)",
    ),
    ("--output", "PLACE", "one", "where the new artifact goes: folder or s3://bucket/prefix"),
    ("--profile", "NAME", "one", "tiny, small or full (default: tiny)"),
    ("--seed", "INTEGER", "one", "default: the one in configs/config.yaml"),
    ("--set", "KEY=VALUE", "many", "a parameter of the pipeline's component, such as variant=memory"),
    ("--checkpoints", "PLACE", "one", "folder or s3:// (default: OUTPUT.checkpoints)"),
    ("--progress", "FILE", "one", "gets a JSON line whenever the phase has come further"),
    ("--step", "NAME", "one", "one step of the phase, where it has several"),
    ("--executor-input", "JSON", "one", "what KFP passes, in place of all of the above"),
)

EXAMPLE = """example:
  python -m components.{phase} --input runs/demo/model --output runs/demo/{phase} {phase}.threads=1

The output must not exist yet; it appears when it is complete. Killed and started again with the same
arguments, the phase goes on from its last checkpoint. Its settings are explained in
components/{phase}/README.md, and their defaults are in configs/phase/{phase}.yaml.
"""


def parse(phase: str, about: str, argv: Sequence[str] | None) -> Request:
    """Read the command line.

    :raises ConfigError: it does not say what to do.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m components.{phase}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EXAMPLE.format(phase=phase),
    )
    for option, metavar, kind, text in OPTIONS:
        if kind == "many":
            parser.add_argument(option, action="append", default=[], metavar=metavar, help=text)
        else:
            parser.add_argument(option, default="", metavar=metavar, help=text)
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides of the settings")
    parser.add_argument(
        "-O",
        "--override",
        action="append",
        default=[],
        metavar="section.key=value",
        help="the same, repeatable",
    )
    options = parser.parse_intermixed_args(argv)
    overrides = [*options.override, *options.overrides]
    if options.executor_input:
        if overrides:
            raise ConfigError(
                "KFP's input holds the settings whole, and there are overrides beside it",
                where=" ".join(overrides),
                fix="give one of them",
            )
        request = from_kfp(options.executor_input)
        request.step = options.step
    else:
        if not options.output:
            raise ConfigError(
                "there is no --output", where=parser.prog, fix="say where the artifact goes; --help shows how"
            )
        request = Request(_named(options.input), options.output)
        take(request, {"seed": options.seed, "checkpoint_root": options.checkpoints})
        take(request, dict(_setting(text) for text in options.set))
        group(request)
        request.profile, request.overrides = options.profile, overrides
        request.step = options.step
    request.progress = options.progress or os.environ.get("FORGE_PROGRESS", "")
    request.checkpoint_root = request.checkpoint_root or os.environ.get("FORGE_CHECKPOINTS", "")
    request.pipeline_run = request.pipeline_run or os.environ.get("FORGE_PIPELINE_RUN", "")
    require_sane(request)
    return request


def _named(addresses: Sequence[str]) -> dict[str, list[str]]:
    inputs: dict[str, list[str]] = {}
    for address in addresses:
        name, equals, rest = address.partition("=")
        if not equals or not name.isidentifier() or Path(address).exists():
            name, rest = "input_model", address
        inputs.setdefault(name, []).append(rest)
    return inputs


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("a parameter has no value", where=f"--set {text}", fix="write --set key=value")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value
