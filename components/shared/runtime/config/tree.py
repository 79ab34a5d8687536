"""The tree of all settings, untyped, as Hydra composes it from files and overrides."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from omegaconf.grammar.gen.OmegaConfGrammarParser import OmegaConfGrammarParser
from omegaconf.grammar_parser import parse

from ..errors import ConfigError
from ..wording import close_matches, did_you_mean
from . import map_keys
from .literal import literal

LONGEST, LONGEST_KEY, DEEPEST = 10_000, 200, 30
"""Characters of an override and of its key, and brackets in one another: Hydra's parser takes seconds, or the stack."""

HYDRA = threading.Lock()
"""Hydra keeps its search path in a global: one composition at a time."""


def compose_tree(profile: str, overrides: Sequence[str], configs: Path) -> DictConfig:
    """The whole tree, untyped: config.yaml, the defaults of every phase that has some here, the profile, overrides.

    :raises ConfigError: no such profile, a file that is not YAML, an override of a key that there is not.
    """
    if not (configs / "config.yaml").is_file():
        raise ConfigError(
            "there is no configuration", where=str(configs), fix="run from a checkout or an image of ours"
        )
    profiles = sorted(path.stem for path in (configs / "profile").glob("*.yaml"))
    if profile not in profiles:
        raise ConfigError(
            f"there is no profile {profile!r}",
            where=str(configs / "profile"),
            fix=did_you_mean(profile, profiles),
        )
    try:
        phases = tuple(sorted(path.stem for path in (configs / "phase").glob("*.yaml")))
        tree = _files(profile, phases, configs, _stamps(configs))
        if overrides:
            tree = copy.deepcopy(tree)
            OmegaConf.set_readonly(tree, False)
            for override in overrides:
                _apply(_checked(override, tree, {*phases, "evaluation"}), tree)
        _refuse_resolvers(OmegaConf.to_container(tree, resolve=False))
        return tree
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = getattr(error, "problem", None) or getattr(error, "reason", "")
        raise ConfigError(
            "a file is not YAML in UTF-8", where=_where(error, configs), why=str(why), fix="mend the line"
        ) from error
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise ConfigError(
            "the configuration does not compose", where=str(configs), why=_first_line(error)
        ) from error


def _stamps(configs: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells that a file was changed."""
    found = ((str(path), path.stat()) for path in sorted(configs.rglob("*.yaml")))
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


@functools.lru_cache(maxsize=8)
def _files(profile: str, phases: Sequence[str], configs: Path, _stamped: tuple[object, ...]) -> DictConfig:
    """What the files say, read only. Hydra takes half a second for it, and a process asks again and again."""
    with HYDRA, initialize_config_dir(str(configs), version_base="1.3"):
        names = [*(f"+phase@{phase}={phase}" for phase in phases), f"+profile={profile}"]
        tree = hydra_compose("config", overrides=names)
    OmegaConf.set_readonly(tree, True)
    return tree


def _apply(checked: tuple[Override, dict[str, str]] | None, tree: DictConfig) -> None:
    """Put the value of an override into the tree, whether its key is there or not; or take the key away."""
    if checked is None:
        return
    change, keys = checked
    key = str(change.key_or_group)
    if not change.is_delete():
        OmegaConf.update(tree, key, map_keys.shown(change.value(), keys), merge=True, force_add=True)
        return
    above, _, name = key.rpartition(".")
    with open_dict(tree):
        del OmegaConf.select(tree, above)[name]


def _checked(override: str, base: DictConfig, here: Set[str]) -> tuple[Override, dict[str, str]] | None:
    """One override, as Hydra's grammar reads it, of a key which may or may not be in the files.

    In a phase's image the defaults of the others are not there, and what a profile says of them is. Their values are
    taken, since this phase may refer to them; where there is nothing to take away: None.

    :param here: the sections whose defaults are here.
    :returns: it, and the keys of maps that it hides (map_keys.py).
    """
    where = f"override {override!r:.300}"
    _check_size(override, where)
    try:
        readable, keys = map_keys.hidden(override)
        parsed = OverridesParser.create().parse_override(readable)
    except (HydraException, ValueError) as error:
        key, equals, value = override.partition("=")
        quoted = f"{key}={literal(value)}"
        fix = (
            f'write key=value; text with other characters in quotes: "{quoted:.200}"'
            if equals
            else "write key=value"
        )
        raise ConfigError(
            "an override cannot be read", where=where, why=_first_line(error), fix=fix
        ) from error
    key = str(parsed.key_or_group)
    if key in ("profile", "seed"):
        raise ConfigError(
            f"{key} is no override", where=where, fix=f"use --{key}, or the parameter {key} of the pipeline"
        )
    if parsed.is_sweep_override() or "/" in key or parsed.package is not None:
        raise ConfigError("an override gives one value to one key", where=where, fix="write key=value")
    head, _, rest = key.partition(".")
    if head not in base or not rest:
        sections = sorted(str(name) for name in base if isinstance(base[name], DictConfig))
        known = {f"{name}.{item}" for name in sections for item in base.get(name, ())}
        near = close_matches(key, [*sorted(known), *(f"{name}.{rest}" for name in sections if rest)])
        fix = f"did you mean {' or '.join(near[:3])}?" if near else f"begin with one of {', '.join(sections)}"
        raise ConfigError(f"there is no setting {key!r}", where=where, fix=fix)
    if parsed.is_delete() and OmegaConf.select(base, key) is None:
        if head not in here:
            return None
        raise ConfigError(f"there is no setting {key!r} to take away", where=where, fix="leave it out")
    return parsed, keys


def _check_size(override: str, where: str) -> None:
    """Refuse what no setting needs before Hydra's parser sees it."""
    depth = deepest = 0
    for character in override:
        depth += (character in "[{(") - (character in ")}]")
        deepest = max(deepest, depth)
    for much, most, what in (
        (len(override), LONGEST, "characters"),
        (len(override.partition("=")[0]), LONGEST_KEY, "characters in front of ="),
        (deepest, DEEPEST, "brackets in one another"),
    ):
        if much > most:
            fix = f"at most {most:,} can be read; give more of them in a file: --config"
            raise ConfigError(f"an override has {much:,} {what}", where=where, fix=fix)


def _refuse_resolvers(node: Any, key: str = "") -> None:
    """Refuse what would put something into the settings that is not in them, such as `${oc.env:SECRET}`.

    :raises ConfigError: the text has more in `${…}` than the name of a setting.
    """
    if isinstance(node, dict | list):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            _refuse_resolvers(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, str) and "${" in node and _has_resolver(parse(node)):
        raise ConfigError(
            f"{key} asks for something from outside the settings",
            where=key,
            why=f"it is {node!r:.200}",
            fix="write the value, or ${section.key} for that of another setting",
        )


def _has_resolver(node: Any) -> bool:
    """Whether a text, parsed by the grammar of interpolations, calls a function anywhere."""
    if isinstance(node, OmegaConfGrammarParser.InterpolationResolverContext):
        return True
    return any(_has_resolver(child) for child in getattr(node, "children", None) or ())


def plain(tree: DictConfig, section: str) -> Any:
    """One section as plain JSON, its interpolations resolved."""
    try:
        node = tree[section]
        return OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if node is not None else {}
    except (OmegaConfBaseException, ValueError, RecursionError) as error:
        raise ConfigError("a value cannot be resolved", where=section, why=_first_line(error)) from error


def _where(error: yaml.YAMLError | UnicodeDecodeError, configs: Path) -> str:
    """The file that cannot be read, and its line where that is known."""
    if isinstance(error, UnicodeDecodeError):
        files = (file for file in sorted(configs.rglob("*.yaml")) if error.object in file.read_bytes())
        return str(next(files, configs))
    if mark := getattr(error, "problem_mark", None):
        return f"{mark.name}:{mark.line + 1}"
    return str(getattr(error, "name", configs))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0][:300]
