"""A compiled pipeline that somebody has changed, by hand or by accident, is refused in words, or runs to an end."""

import copy
import random

import pytest
import yaml
from kfp import dsl, kubernetes
from kfp.dsl import Artifact, Collected, Output, ParallelFor

from components.shared.runtime.errors import ForgeError, UnsupportedPipeline
from pipelines import agent_forge
from pipelines.ir import reader
from pipelines.local.options import Position
from pipelines.local.plan import RunRequest
from pipelines.local.prepare import prepare
from pipelines.local.scheduler import _positions
from tests import mutations
from tests.pipeline.local.toy_pipelines import append, join, toy, write


@dsl.container_component
def number(out: Output[Artifact], value: dsl.OutputPath(int)):
    return toy("say('x')")


@dsl.pipeline
def inner(text: str) -> Artifact:
    first = write(text=text)
    return append(before=first.output, text="!").set_retry(2, "1s").output


@dsl.pipeline(name="whole")
def whole(text: str = "a", uri: str = "/nowhere", items: list = ["x", "y"]):  # noqa: B006 - KFP's own way
    imported = dsl.importer(artifact_uri=uri, artifact_class=Artifact)
    counted = number()
    with ParallelFor(items, parallelism=2) as item:
        part = inner(text=item)
    last = append(before=join(parts=Collected(part.output)).output, text=text).after(counted)
    last.set_env_variable("A", "b")
    kubernetes.set_timeout(last, 100)
    append(before=imported.output, text="z")


@pytest.fixture(scope="module")
def documents():
    return list(yaml.safe_load_all(agent_forge.text(whole)))


def parsed(documents):
    return reader.parse(yaml.dump_all(documents))


def changed(documents, *path, to=..., drop=False):
    """The documents with one element changed; the path begins in the first document."""
    documents = copy.deepcopy(documents)
    *above, last = path
    node = documents[0]
    for name in above:
        node = node[name]
    if drop:
        del node[last]
    else:
        node[last] = to
    return documents


TASKS = ("root", "dag", "tasks")
EXECUTORS = ("deploymentSpec", "executors")
CONTAINER = (*EXECUTORS, "exec-number", "container")
OUTPUTS = ("components", "comp-number", "outputDefinitions", "artifacts")
LOOP = (*TASKS, "for-loop-1")
CASES = [
    ((*TASKS, "number", "dependentTasks"), ["append"], "wait for each other"),
    ((*TASKS, "number", "dependentTasks"), ["number"], "wait for each other"),
    ((*TASKS, "number", "dependentTasks"), ["nobody"], "no task 'nobody'"),
    ((*TASKS, "number", "componentRef", "name"), "comp-nothing", "no component 'comp-nothing'"),
    (("components", "comp-number", "executorLabel"), "exec-nothing", "no executor 'exec-nothing'"),
    ((*CONTAINER, "command"), "python", "command: .*list"),
    ((*CONTAINER, "args"), [1], "valid string"),
    ((*CONTAINER, "args"), ["a\0b"], "character 0"),
    ((*CONTAINER, "env"), [{"name": "a=b", "value": "c"}], "called so"),
    ((*CONTAINER, "env"), [{"name": "", "value": "c"}], "called so"),
    ((*CONTAINER, "env"), [{"name": "A", "value": 3}], "valid string"),
    ((*CONTAINER, "env"), {"A": "b"}, "env: .*list"),
    ((*TASKS, "number", "retryPolicy"), {"maxRetryCount": -1}, "no number"),
    ((*TASKS, "number", "retryPolicy"), {"backoffDuration": "soon"}, "no number"),
    ((*TASKS, "number", "retryPolicy"), {"backoffFactor": float("nan")}, "no number"),
    ((*TASKS, "number", "retryPolicy"), [], "retryPolicy: .*dictionary"),
    ((*LOOP, "iteratorPolicy"), {"parallelismLimit": -2}, "no number"),
    ((*LOOP, "parameterIterator", "items"), {"raw": "["}, "no JSON"),
    ((*LOOP, "parameterIterator", "items"), {"raw": "[" * 10**5}, "no JSON"),
    ((*LOOP, "parameterIterator", "items"), {"raw": f"[{'1,' * 10**5}1]"}, "tasks is not supported"),
    ((*LOOP, "parameterIterator", "items"), {"inputParameter": "x"}, "goes over 'x'"),
    ((*LOOP, "parameterIterator", "items"), {}, "one thing"),
    ((*LOOP, "parameterIterator", "itemInput"), "x", "no parameter 'x'"),
    ((*TASKS, "number", "triggerPolicy"), {}, "the field 'triggerPolicy'"),
    (("root", "dag"), None, "dag: "),
    (("root",), {"executorLabel": "exec-number"}, "no DAG"),
    (("components",), [], "components: "),
    ((*TASKS, "append", "inputs", "artifacts", "before", "taskOutputArtifact", "outputArtifactKey"), "x", "no output 'x'"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "to", "names"), CASES, ids=[f"{c[0][-1]}={c[1]!s:.20}" for c in CASES])
def test_a_pipeline_that_cannot_be_run_is_refused_by_what_is_wrong(documents, path, to, names):
    with pytest.raises(UnsupportedPipeline, match=names):
        parsed(changed(documents, *path, to=to))


def test_a_process_without_a_command_is_refused(documents):
    empty = changed(documents, *CONTAINER, "command", drop=True)
    with pytest.raises(UnsupportedPipeline, match="no command"):
        parsed(changed(empty, *CONTAINER, "args", to=[]))


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/abs", "", "x" * 300, "a\nb"])
def test_a_name_that_would_lead_out_of_the_runs_folder_is_refused(documents, name):
    interface = documents[0]["components"]["comp-number"]["outputDefinitions"]["artifacts"]
    with pytest.raises(UnsupportedPipeline, match="name of a folder"):
        parsed(
            changed(
                documents,
                "components",
                "comp-number",
                "outputDefinitions",
                "artifacts",
                to={name: interface["out"]},
            )
        )
    with pytest.raises(UnsupportedPipeline, match="name of a folder"):
        parsed(changed(documents, *TASKS, name, to=documents[0]["root"]["dag"]["tasks"]["number"]))


def test_pipelines_that_nest_each_other_twice_at_every_level_are_counted_and_not_walked(documents):
    components = {
        f"c{level}": {
            "dag": {"tasks": {name: {"componentRef": {"name": f"c{level + 1}"}} for name in ("a", "b")}}
        }
        for level in range(25)
    } | {"c25": documents[0]["components"]["comp-number"]}
    spec = {**documents[0], "components": components, "root": copy.deepcopy(components["c0"])}
    with pytest.raises(UnsupportedPipeline, match="tasks is not supported"):
        parsed([spec])
    components["c20"]["dag"]["tasks"]["a"]["componentRef"]["name"] = "c3"
    with pytest.raises(UnsupportedPipeline, match="it nests itself"):
        parsed([spec])


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "- " * 5_000,
        "a: &a [1]\nroot: *a",
        "\0",
        "root: " + "9" * 5000,
        "root: !!python/name:os.system",
    ],
    ids=["flow", "block", "alias", "nul", "digits", "tag"],
)
def test_yaml_that_is_no_plain_data_is_refused(text):
    with pytest.raises(UnsupportedPipeline):
        reader.parse(text)


def test_a_file_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / "pipeline.yaml").write_bytes(b"root: \xff")
    with pytest.raises(UnsupportedPipeline, match="cannot be read"):
        reader.load(tmp_path / "pipeline.yaml")


@pytest.mark.parametrize("seed", range(50))
def test_a_pipeline_changed_anywhere_is_refused_in_words_or_can_be_planned(documents, seed, tmp_path):
    path = tmp_path / "pipeline.yaml"
    text = yaml.dump_all(mutations.tree(documents, random.Random(seed)), allow_unicode=True)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        plan = prepare(RunRequest(runs=tmp_path / "runs", name="a", pipeline=path))
    except ForgeError as error:
        assert str(error)
    else:
        assert plan.tasks is not None


def test_the_label_of_one_task_and_the_name_of_another_are_no_one_folder(documents):
    renamed = changed(documents, *TASKS, "number", "taskInfo", "name", to="append")
    renamed = changed(renamed, *TASKS, "append", "taskInfo", "name", to="")
    folders = [position.id for position in _positions(parsed(renamed).root.body, Position()).values()]
    assert len(set(folders)) == len(folders)
