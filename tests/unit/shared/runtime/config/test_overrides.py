"""What may stand in an override, and that a value arrives as what it is."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from components.shared.runtime.code import CONFIGS
from components.shared.runtime.config import map_keys
from components.shared.runtime.config.compose import compose_all
from components.shared.runtime.config.literal import literal
from components.shared.runtime.config.tree import compose_tree
from components.shared.runtime.errors import ConfigError

PARSER = OverridesParser.create()

PIECES = (
    "a",
    "/",
    "'",
    '"',
    "\\",
    "$",
    "{",
    "}",
    "${",
    "${oc.env:HOME}",
    "=",
    ":",
    ",",
    "[",
    " ",
    "\n",
    "é",
    "#",
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.characters(codec="utf-8"), max_size=8).map("".join)
LEAVES = TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False)


def unquoted(value):
    """A value as the parser of overrides gives it, its quoted texts as texts."""
    return list(map(unquoted, value)) if isinstance(value, list) else getattr(value, "text", value)


@settings(max_examples=150, deadline=None)
@given(LEAVES | st.lists(LEAVES, max_size=3))
def test_any_value_comes_back_from_the_grammar_of_overrides_as_what_it_was(value):
    written = unquoted(PARSER.parse_override(f"a.b={literal(value)}").value())
    assert OmegaConf.to_container(OmegaConf.create({"a": {"b": written}}), resolve=True)["a"]["b"] == value


PATHS = ["/it's/here", "/data/run=3/x", "/a ${oc.env:HOME} b", "/${nothing}", "a\\'b", "tail\\", "a\\${b}"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_a_setting_whatever_its_characters(path):
    tree = compose_tree("micro", [f"evomerge.base={literal(path)}"], CONFIGS)
    assert OmegaConf.to_container(tree, resolve=True)["evomerge"]["base"] == path


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:FORGE_TEST_SECRET}",
        "'a ${oc.env:FORGE_TEST_SECRET} b'",
        "'${oc.decode:${oc.env:FORGE_TEST_SECRET}}'",
        "'${${oc.env:FORGE_TEST_SECRET}}'",
        "'${${bitnet.optimizer}:FORGE_TEST_SECRET}'",
        "${oc.select:bitnet.lr,1}",
        "'${oc.create:{a: 1}}'",
        "${now:%H}",
        "${python_version:}",
        "[{metric: a, value: '${oc.env:FORGE_TEST_SECRET}'}]",
        "{a: {b: '${oc.env:FORGE_TEST_SECRET}'}}",
    ],
)
def test_nothing_from_outside_the_settings_gets_into_them_or_into_an_error(text, monkeypatch):
    monkeypatch.setenv("FORGE_TEST_SECRET", "hunter2")
    with pytest.raises(ConfigError, match="from outside the settings") as caught:
        compose_all(["bitnet"], profile="micro", overrides=[f"bitnet.steps={text}"])
    assert "hunter2" not in str(caught.value)


def test_a_setting_may_name_another_one():
    [config] = compose_all(["bitnet"], profile="micro", overrides=["bitnet.steps=${bitnet.batch}"]).values()
    assert config.settings.steps == config.settings.batch


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("bitnet.steps=" + "9" * 5000, "cannot be read"),
        ("bitnet.steps=" + "x" * 100_000, "100,013 characters"),
        ("bitnet." + "a." * 20_000 + "b=1", "characters"),
        ("bitnet." + "a" * 500 + "=1", "in front of ="),
        ("bitnet.steps=" + "[" * 3000, "3,000 brackets"),
        ("bitnet.steps=" + "{a:" * 3000, "3,000 brackets"),
        ("bitnet.steps=" + "[" * 40 + "]" * 40, "40 brackets"),
        ("bitnet.steps=${" + "${" * 60, "brackets"),
        ("bitnet.steps", "write key=value"),
        ("bitnet.steps=int(x)", "cannot be read"),
    ],
    ids=lambda value: f"{value:.24}",
)
def test_an_override_that_no_setting_needs_is_refused_before_it_is_parsed(override, names):
    with pytest.raises(ConfigError, match=names) as caught:
        compose_all(["bitnet"], profile="micro", overrides=[override])
    assert len(str(caught.value)) < 2000


def test_a_text_that_has_to_be_quoted_is_shown_in_quotes():
    with pytest.raises(ConfigError, match=r"evomerge\.base='/data/run=3/x'"):
        compose_all(["evomerge"], profile="micro", overrides=["evomerge.base=/data/run=3/x"])


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXTS, st.dictionaries(TEXTS, st.integers(), max_size=2), max_size=2))
def test_any_key_of_a_map_comes_back_as_what_it_was(value):
    readable, keys = map_keys.hidden(f"a.b={literal(value)}")
    assert map_keys.shown(PARSER.parse_override(readable).value(), keys) == value


def test_a_key_with_a_colon_may_do_without_quotes():
    tree = compose_tree("micro", ["training.tasks={file:mine.jsonl: 2, chain: 1, 'x: y': 3}"], CONFIGS)
    assert tree.training.tasks["file:mine.jsonl"] == 2 and tree.training.tasks["x: y"] == 3
