"""An answer with a list where an object should be, or a number where a list, is refused by its path; or it is no harm."""

import json

import pytest

from components.shared.runtime.errors import ForgeError, StoreError
from pipelines.kubeflow import follow
from pipelines.kubeflow.http import Access, Connection
from pipelines.kubeflow.server import Server
from pipelines.kubeflow.state import argo_names
from pipelines.kubeflow.state.run import Watcher
from tests import mutations
from tests.pipeline.kubeflow.kubeflow_server import CHAIN, RUN, detail, run, spec, task

TEXT = "root: {dag: {tasks: {}}}"


@pytest.fixture
def says(kubeflow, monkeypatch):
    """A server that answers every request with this text; the run's store is nowhere."""

    def nowhere(root):
        raise StoreError("the store does not answer", where=root)

    monkeypatch.setattr("pipelines.kubeflow.state.store.open_store", nowhere)

    def answering(text):
        monkeypatch.setattr(
            Connection, "_ask", lambda *_, **__: (text.encode("utf-8", "surrogatepass"), "application/json")
        )
        return Server(Access(kubeflow.host))

    return answering


@pytest.mark.parametrize(
    ("place", "answer"),
    [
        ("run_details.task_details", run("RUNNING") | {"run_details": {"task_details": "x"}}),
        ("run_details.task_details.0", run("RUNNING") | {"run_details": {"task_details": ["x"]}}),
        ("run_details", run("RUNNING") | {"run_details": []}),
        ("error", run("FAILED") | {"error": "text"}),
        ("state_history.0", run("FAILED") | {"state_history": [1]}),
        (
            "pipeline_spec.pipeline_spec.root.dag.tasks",
            run("RUNNING") | {"pipeline_spec": {"pipeline_spec": {"root": {"dag": {"tasks": []}}}}},
        ),
        ("run_id", run("RUNNING") | {"run_id": ["x"]}),
        (
            "run_details.task_details.0.child_tasks.0.pod_name",
            run("RUNNING", detail("a", "FAILED") | {"child_tasks": [{"pod_name": {}}]}),
        ),
    ],
)
def test_what_is_of_another_kind_is_named(says, place, answer):
    with pytest.raises(StoreError, match="not what the Kubeflow Pipelines API answers") as refusal:
        says(json.dumps(answer)).run(RUN)
    assert f"{place}: " in str(refusal.value)


@pytest.mark.parametrize("answer", [{"runs": ["x"]}, {"runs": {}}, {"runs": [[]]}, {"runs": 1}])
def test_a_list_of_runs_that_is_none_is_refused(says, answer):
    with pytest.raises(StoreError, match="runs"):
        says(json.dumps(answer)).find("latest")


def test_an_answer_that_is_nested_too_deep_is_refused(says):
    with pytest.raises(StoreError, match="nested too deep"):
        says("[" * 100_000).run(RUN)


def test_a_component_that_holds_itself_is_shown_once(says):
    graph = spec(one=task("one"))
    inner = graph["pipeline_spec"]
    inner["components"]["comp-any"]["dag"] = inner["root"]["dag"]
    server = says(json.dumps(run("RUNNING") | {"pipeline_spec": graph}))
    assert [one.name for one in Watcher(server, RUN, None).look().tasks] == ["one/one", "one"]


def test_a_mutated_run_is_shown_or_refused(says):
    details = [
        detail("cognate-trunk", "SUCCEEDED"),
        detail("evomerge", "FAILED") | {"child_tasks": [{"pod_name": "w-1"}]},
    ]
    answer = run(
        "FAILED", *details, error={"message": "x"}, state_history=[{"state": "RUNNING"}], pipeline_spec=CHAIN
    )
    for text in mutations.texts(answer, seed=5, count=400):
        watcher = Watcher(says(text), RUN, None)
        try:
            state = watcher.look()
        except ForgeError:
            continue
        follow.ending(watcher, state)
        argo_names.pod_of(watcher.answer, "evomerge")


def test_a_mutated_list_is_read_or_refused(says):
    answer = {
        "runs": [{"run_id": RUN}],
        "experiments": [{"experiment_id": "e"}],
        "pipeline_versions": [{"name": "v", "pipeline_version_id": "v"}],
        **dict.fromkeys(("run_id", "experiment_id", "pipeline_id", "pipeline_version_id"), "id"),
    }
    asks = [
        lambda server: server.find("latest"),
        lambda server: server.submit(TEXT, {}, name="n", experiment="e", caching=False),
        lambda server: server.upload("n", TEXT, version="v"),
    ]
    for number, text in enumerate(mutations.texts(answer, seed=6, count=300)):
        try:
            asks[number % len(asks)](says(text))
        except ForgeError:
            continue
