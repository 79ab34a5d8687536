"""What the IR can say and the backend does not do, or does wrongly, is refused by name."""

import pytest
from kfp import dsl
from kfp.dsl import Artifact, Collected, Input, Model, Output, ParallelFor

from components.shared.runtime.errors import UnsupportedPipeline
from pipelines import agent_forge
from pipelines.ir import reader
from tests.pipeline.local.toy_pipelines import join, toy, write


@dsl.container_component
def number(out: Output[Artifact], value: dsl.OutputPath(int)):
    return toy("")


@dsl.pipeline
def with_a_condition():
    made = number()
    with dsl.If(made.outputs["value"] == 1):
        write(text="x")


@dsl.pipeline
def with_an_exit_handler():
    with dsl.ExitHandler(write(text="x")):
        write(text="y")


@dsl.pipeline
def with_one_of() -> Artifact:
    made = number()
    with dsl.If(made.outputs["value"] == 1):
        one = write(text="x")
    with dsl.Else():
        other = write(text="y")
    return dsl.OneOf(one.output, other.output)


@dsl.pipeline
def with_an_expression():
    with ParallelFor([{"a": "x"}]) as item:
        write(text=item.a)


@dsl.container_component
def concatenated(text: str, out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=[dsl.ConcatPlaceholder(["--x=", text])])


@dsl.pipeline
def with_a_concat():
    concatenated(text="x")


@dsl.container_component
def metadata_of(before: Input[Artifact], out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=[before.metadata])


@dsl.pipeline
def with_metadata():
    metadata_of(before=write(text="x").output)


@dsl.container_component
def first_only(parts: Input[list[Artifact]], out: Output[Artifact]):
    return dsl.ContainerSpec(image="toy", command=["python"], args=["{{$.inputs.artifacts['parts'].path}}"])


@dsl.pipeline
def with_a_bare_list():
    with ParallelFor(["a", "b"]) as item:
        part = write(text=item)
    first_only(parts=Collected(part.output))


@dsl.pipeline
def takes_a_list(parts: Input[list[Artifact]]):
    join(parts=parts)


@dsl.pipeline
def with_a_list_into_a_nested_pipeline():
    with ParallelFor(["a", "b"]) as item:
        part = write(text=item)
    takes_a_list(parts=Collected(part.output))


@dsl.pipeline
def with_text_of_parameters(name: str = "x"):
    write(text=f"hello {name}")


@dsl.pipeline
def nested() -> Artifact:
    return write(text="x").output


@dsl.pipeline
def with_a_retried_pipeline():
    nested().set_retry(2)


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (with_a_condition, "triggerPolicy"),
        (with_an_exit_handler, "triggerPolicy"),
        (with_one_of, "triggerPolicy|OneOf"),
        (with_an_expression, "parameterExpressionSelector"),
        (with_a_concat, "ConcatPlaceholder"),
        (with_metadata, "metadata"),
        (with_a_bare_list, "a list of artifacts as an argument"),
        (with_a_list_into_a_nested_pipeline, "a list of artifacts into a nested pipeline"),
        (with_text_of_parameters, "the placeholder"),
        (with_a_retried_pipeline, "a retry of a nested pipeline"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_the_backend_would_not_do_is_refused_by_name(pipeline, names):
    with pytest.raises(UnsupportedPipeline, match=names):
        reader.parse(agent_forge.text(pipeline))


def test_a_loop_over_artifacts_is_refused_by_name():
    @dsl.container_component
    def takes_one(part: Input[Artifact], out: Output[Model]):
        return toy("")

    @dsl.pipeline
    def makes_a_list() -> list[Artifact]:
        with ParallelFor(["a", "b"]) as item:
            part = write(text=item)
        return Collected(part.output)

    @dsl.pipeline
    def over_artifacts():
        with ParallelFor(makes_a_list().output) as artifact:
            takes_one(part=artifact)

    with pytest.raises(UnsupportedPipeline, match="artifactIterator"):
        reader.parse(agent_forge.text(over_artifacts))


@pytest.mark.parametrize("text", ["", "a: [", "hello: world"])
def test_what_is_no_compiled_pipeline_is_refused(text):
    with pytest.raises(UnsupportedPipeline):
        reader.parse(text)
