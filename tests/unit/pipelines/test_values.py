"""Parameters keep the types that KFP's backend gives them, and arguments hold what they stand for."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.shared.runtime.errors import ConfigError, PhaseFailed
from pipelines.ir.spec import ArtifactSlot, Component, Container, Parameter
from pipelines.ir.values import (
    Stored,
    Values,
    command_line,
    complete,
    executor_input,
    from_text,
    outputs_of,
    typed,
    whole,
)
from pipelines.runs.folder import RunFolder

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_went_through_kfps_doubles_comes_back_as_it_was(value):
    def as_doubles(one):
        if isinstance(one, bool) or not isinstance(one, int | list | dict):
            return one
        if isinstance(one, int):
            return float(one)
        return (
            [as_doubles(x) for x in one]
            if isinstance(one, list)
            else {k: as_doubles(v) for k, v in one.items()}
        )

    assert whole(as_doubles(value)) == value


@given(plain)
def test_a_string_takes_any_value_as_json(value):
    text = typed(value, "STRING", "here")
    assert text == value if isinstance(value, str) else json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1.5, "NUMBER_INTEGER"),
        (True, "NUMBER_INTEGER"),
        (True, "NUMBER_DOUBLE"),
        ("1", "NUMBER_DOUBLE"),
        (1, "BOOLEAN"),
        ({}, "LIST"),
        ([], "STRUCT"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_place(value, kind):
    with pytest.raises(ConfigError, match=f"here.*{kind}"):
        typed(value, kind, "here")


def test_texts_are_read_as_json_but_for_strings():
    assert from_text('["a", 2.0]', "LIST", "here") == ["a", 2]
    assert from_text("[x", "STRING", "here") == "[x"
    with pytest.raises(ConfigError, match="no JSON"):
        from_text("[x", "LIST", "here")


def test_defaults_fill_what_is_not_given_and_a_gap_is_named():
    declared = {
        "a": Parameter("NUMBER_INTEGER", default=2.0),
        "b": Parameter("STRING", optional=True),
        "c": Parameter("LIST"),
    }
    assert complete({"c": [1.0]}, declared, "task") == {"a": 2, "c": [1]}
    with pytest.raises(ConfigError, match="task, c"):
        complete({}, declared, "task")


def component(*arguments, **outputs):
    body = Container(("python",), arguments, {})
    slot = {"out": ArtifactSlot("system.Model")}
    return Component(
        "comp-x", {}, {"models": ArtifactSlot("system.Model", is_list=True)}, outputs, slot, body
    )


def test_the_executor_input_is_kfps_and_survives_the_command_line(tmp_path):
    folder = RunFolder(tmp_path).task("loop/0/x")
    places = ["{{$.outputs.artifacts['out'].path}}", "{{$.outputs.parameters['score'].output_file}}"]
    made = component("{{$}}", "--n={{$.inputs.parameters['n']}}", *places, score=Parameter("STRING"))
    models = tuple(Stored(Path(f"/m/{i}"), "system.Model", "d", metadata={"bytes": i}) for i in range(2))
    request = executor_input(made, Values({"n": [1, "a'b"]}, {"models": models}), folder)
    line = command_line(made.body, request)
    assert json.loads(line[1]) == request
    assert line[2:] == ['--n=[1,"a\'b"]', str(folder.output("out")), str(folder.parameter("score"))]
    assert [one["uri"] for one in request["inputs"]["artifacts"]["models"]["artifacts"]] == ["/m/0", "/m/1"]
    assert request["outputs"]["outputFile"] == str(tmp_path / "tasks/loop/0/x/output_metadata.json")


def test_a_missing_output_parameter_is_a_failure_of_the_task(tmp_path):
    folder = RunFolder(tmp_path).task("x")
    with pytest.raises(PhaseFailed, match="score"):
        outputs_of(component(score=Parameter("NUMBER_DOUBLE")), folder, {"out": "d"})
