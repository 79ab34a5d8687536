"""A Kubeflow run as the terminal shows it: three sources, of which any may be missing."""

import io
import json

import pytest
from rich.console import Console

from pipelines.cli.rendering import lines, table
from pipelines.kubeflow.http import Access
from pipelines.kubeflow.server import Server, specification
from pipelines.kubeflow.state import store as run_store
from pipelines.kubeflow.state.run import Watcher
from pipelines.kubeflow.state.store import RunStore, root_of
from tests.pipeline.kubeflow.kubeflow_server import CHAIN, RUN, detail, run
from tests.pipeline.kubeflow.kubernetes_server import ROOT, ended, pod

UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}
RUNNING = {"running": {"startedAt": "2026-08-01T10:00:00Z"}}


@pytest.fixture
def look(kubeflow):
    """The run as it is seen from here."""

    def call(*answers):
        kubeflow.runs[RUN] = list(answers)
        watcher = Watcher.of(Server(Access(kubeflow.host)), RUN)
        view = watcher.look()
        for _ in answers[1:]:
            view = watcher.look()
        return view

    return call


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    """The object store is a folder: the run's root in it."""
    root = tmp_path / "store" / "agent-forge" / RUN
    monkeypatch.setattr(run_store, "DEFAULT_ROOT", str(tmp_path / "store"))
    (root / "progress").mkdir(parents=True)
    return root


def write(path, text="{}"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def states(view):
    return {task.title: task.state for task in view.tasks}


def test_the_tasks_come_from_the_compiled_pipeline_in_the_order_of_the_graph(look):
    view = look(run("PENDING"))
    titles = ["cognate-trunk", "cognate-variant-1", "cognate-variant-2", "evomerge", "quietstar"]
    assert [task.title for task in view.tasks] == titles
    assert [task.phase for task in view.tasks] == ["cognate"] * 3 + ["evomerge", "quietstar"]


def test_kfps_states_are_the_tasks_whether_argo_retries_their_nodes_or_not(look):
    details = [
        detail("cognate-trunk", "SUCCEEDED"),
        detail("cognate-trunk(0)", "SUCCEEDED"),
        detail("cognate", "FAILED"),
        detail("cognate-2-driver", "RUNNING"),
        detail("executor", "RUNNING"),
    ]
    view = look(run("RUNNING", *details))
    assert states(view) == {
        "cognate-trunk": "succeeded", "cognate-variant-1": "failed", "cognate-variant-2": "pending",
        "evomerge": "pending", "quietstar": "pending",
    }  # fmt: skip
    assert view.failed().title == "cognate-variant-1"


def test_a_task_that_took_no_time_came_from_the_cache(look):
    at = "2026-08-01T10:00:00Z"
    view = look(run("RUNNING", detail("cognate-trunk", "SUCCEEDED", start=at, end=at)))
    assert view.task("cognate-trunk").state == "cached"


def waiting(reason, message=None):
    """The state of a container that does not start."""
    return {"waiting": {"reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("pending", "why"),
    [
        ({"conditions": [UNSCHEDULABLE]}, f"Unschedulable: {UNSCHEDULABLE['message']}"),
        (
            {"state": waiting("ImagePullBackOff", "Back-off pulling x")},
            "ImagePullBackOff: Back-off pulling x",
        ),
        ({"state": waiting("CreateContainerConfigError", "no key")}, "CreateContainerConfigError: no key"),
        ({"state": waiting("PodInitializing")}, ""),
    ],
)
def test_why_a_pod_waits_is_said_though_kfp_calls_its_task_running(look, kubernetes, pending, why):
    kubernetes.pods = [pod("quietstar", "Pending", **pending)]
    view = look(run("RUNNING", detail("quietstar", "RUNNING")))
    task = view.task("quietstar")
    assert task.why == why
    assert task.state == "pending"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (pod("quietstar", "Failed", attempt=2, state=ended(137, "OOMKilled")), "exit code 137 (OOMKilled)"),
        (pod("quietstar", "Failed", attempt=2, state=ended(1, "Error", "launcher: gone")), "exit code 1 (launcher: gone)"),
        (pod("quietstar", "Failed", attempt=2, reason="Evicted", message="low on memory"), "Evicted: low on memory"),
    ],
)  # fmt: skip
def test_how_a_pod_ended_and_at_which_attempt_is_said(look, kubernetes, made, why):
    kubernetes.pods = [made]
    task = look(run("RUNNING")).task("quietstar")
    assert (task.state, task.attempts, task.why) == ("failed", 3, why)


def test_the_last_attempt_counts_and_a_pods_title_finds_its_task(look, kubernetes):
    kubernetes.pods = [
        pod("cognate-2", "Running", attempt=1, title="cognate-variant-2", state=RUNNING),
        pod("cognate-2", "Failed", attempt=0, title="cognate-variant-2", state=ended(143)),
    ]
    task = look(run("RUNNING")).task("cognate-variant-2")
    assert (task.state, task.attempts, task.why) == ("running", 2, "")


def test_a_pod_that_failed_and_will_be_tried_again_is_no_failed_task(look, kubernetes):
    kubernetes.pods = [pod("quietstar", "Failed", attempt=0, state=ended(75))]
    task = look(run("RUNNING", detail("quietstar", "RUNNING"))).task("quietstar")
    assert (task.state, task.why) == ("running", "exit code 75")


def test_progress_is_read_from_the_store(look, in_folder):
    line = {"time": 1000.0, "stage": "course", "step": 3, "total": 4, "eta": 90, "attempt": 2}
    write(in_folder / "progress" / "quietstar.json", json.dumps(line))
    view = look(run("RUNNING"))
    task = view.task("quietstar")
    assert (task.state, task.attempts, task.progress["step"]) == ("running", 2, 3)
    rows = dict(table.rows(view))
    assert table.note(rows["quietstar"]) == "course 3/4 (75 %)"
    assert table.left(rows["quietstar"], now=1030.0) == "1 min 00 s"
    assert table.share(rows["quietstar"]) == 0.75


@pytest.mark.parametrize(
    "bad",
    ["not json", "[" * 100_000, '"x"', '{"attempt": "x"}', '{"attempt": 1e400, "eta": NaN, "time": []}',
     '{"stage": "s", "step": null, "total": 5, "eta": "soon"}', '{"stage": "s", "step": 1, "total": "5"}'],
)  # fmt: skip
def test_progress_that_is_none_hides_no_others_and_breaks_nothing(look, in_folder, bad):
    write(in_folder / "progress" / "evomerge.json", bad)
    write(in_folder / "progress" / "quietstar.json", '{"stage": "course", "step": 3, "total": 4}')
    view = look(run("RUNNING", detail("evomerge", "RUNNING")))
    assert view.task("quietstar").progress == {"stage": "course", "step": 3, "total": 4}
    Console(file=io.StringIO()).print(table.table(view))
    assert list(lines.changes(view, None)) and json.dumps(view.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ["rates [lr]", "a [/x] b"])
def test_a_name_is_no_markup(look, name):
    out = io.StringIO()
    Console(file=out, width=120).print(table.table(look(run("RUNNING", display_name=name))))
    assert out.getvalue().startswith(f"{name} · running")


def test_when_argo_packs_its_nodes_the_store_says_what_is_done(look, in_folder):
    write(in_folder / "cognate-variant-1" / "c1" / "model" / "forge.json")
    packed = [detail("", "RUNNING"), detail("cognate-trunk", "SUCCEEDED"), {"task_id": "x"}]
    view = look(run("RUNNING", *packed))
    assert states(view)["cognate-variant-1"] == "succeeded"
    assert any("packed" in note for note in view.notes)


def test_when_argo_packs_its_nodes_the_pods_say_what_is_done(look, kubernetes):
    kubernetes.pods = [pod("quietstar", "Running", attempt=0, state=RUNNING)]
    view = look(run("RUNNING", {"task_id": "x"}))
    assert states(view)["quietstar"] == "running"


def test_no_task_runs_for_ever_in_a_run_that_has_ended(look):
    stale = [detail("cognate", "RUNNING"), detail("quietstar", "RUNNING"), {"task_id": "x"}]
    assert set(states(look(run("SUCCEEDED", *stale))).values()) == {"succeeded"}
    view = look(run("FAILED", *stale, detail("evomerge", "FAILED")))
    assert states(view)["cognate-variant-1"] == "cancelled" and states(view)["evomerge"] == "failed"


def test_pods_that_are_deleted_while_one_watches_stay_known(look, kubernetes, kubeflow):
    kubernetes.pods = [pod("quietstar", "Failed", attempt=0, state=ended(1, message="it broke"))]
    kubeflow.runs[RUN] = [run("RUNNING")]
    watcher = Watcher.of(Server(Access(kubeflow.host)), RUN)
    watcher.look()
    kubernetes.pods = []
    assert watcher.look().task("quietstar").why == "exit code 1 (it broke)"


def test_sources_that_are_missing_are_notes_and_no_errors(look, kubernetes):
    kubernetes.status = 403
    view = look(run("RUNNING", detail("quietstar", "RUNNING")))
    assert states(view)["quietstar"] == "running"
    assert any("pods are not seen from here: 403" in note for note in view.notes)
    assert any("progress is not seen from here" in note for note in view.notes)


def test_a_store_that_does_not_answer_is_left_alone_for_a_minute(monkeypatch):
    asked, now = [], [0.0]

    def refuses(uri):
        asked.append(uri)
        raise run_store.StoreError("the store does not answer", why="timed out")

    monkeypatch.setattr(run_store, "open_store", refuses)
    store = RunStore("s3://b/run", clock=lambda: now[0])
    assert store.progress() == {} and store.outputs() == [] and store.log("x") == ""
    assert len(asked) == 1 and store.problem == "the store does not answer: timed out"
    now[0] = 61.0
    store.progress()
    assert len(asked) == 2


def test_the_root_of_a_run_comes_from_what_its_pods_write_else_from_kfps_settings():
    made = {"run_id": RUN, "pipeline_spec": CHAIN}
    assert root_of(made, [f"s3://b/x/{RUN}/quietstar/c1/model"], {}) == f"s3://b/x/{RUN}"
    assert (
        root_of(made, [], {"defaultPipelineRoot": "s3://b/root?region=x"}) == f"s3://b/root/agent-forge/{RUN}"
    )
    assert (
        root_of({**made, "runtime_config": {"pipeline_root": "gs://c"}}, [], {})
        == f"gs://c/agent-forge/{RUN}"
    )
    assert root_of(made, [], {}) == ROOT


def test_the_root_of_kfps_launcher_settings_is_found_in_the_cluster(look, kubernetes):
    kubernetes.configmaps["kfp-launcher"] = {"defaultPipelineRoot": "s3://elsewhere/root"}
    assert look(run("RUNNING")).root == f"s3://elsewhere/root/agent-forge/{RUN}"


def test_a_loop_of_an_older_pipeline_is_shown_by_its_containers(look):
    inner = {
        "dag": {"tasks": {"one": {"componentRef": {"name": "comp-any"}, "taskInfo": {"name": "bitnet"}}}}
    }
    spec = json.loads(json.dumps(CHAIN))
    spec["pipeline_spec"]["components"]["comp-loop"] = inner
    spec["pipeline_spec"]["root"]["dag"]["tasks"] = {"loop": {"componentRef": {"name": "comp-loop"}}}
    view = look(run("RUNNING", pipeline_spec=spec))
    assert [(task.name, task.title) for task in view.tasks] == [("loop/one", "bitnet")]


@pytest.mark.parametrize(
    ("history", "state"),
    [
        (["RUNNING", "CANCELING", "FAILED"], "cancelled"),
        (["RUNNING", "CANCELING", "FAILED", "RUNNING", "FAILED"], "failed"),
        (["RUNNING", "FAILED", "RUNNING", "CANCELING", "FAILED"], "cancelled"),
    ],
)
def test_a_run_that_fails_after_a_retry_is_not_called_cancelled(look, history, state):
    changes = [{"update_time": "2026-08-01T10:00:00Z", "state": word} for word in history]
    assert look(run("FAILED", state_history=changes)).state == state


def test_a_secret_of_a_run_is_in_every_container_and_in_no_parameter():
    text = (
        json.dumps({"root": {"dag": {"tasks": {}}}})
        + "\n---\n"
        + json.dumps(
            {
                "platforms": {
                    "kubernetes": {
                        "deploymentSpec": {"executors": {"exec-a": {}, "exec-b": {"secretAsEnv": []}}}
                    }
                }
            }
        )
    )
    made = specification(text, caching=True, secret=("forge-run-x", {"token": "FORGE_RUN_TOKEN"}))
    for executor in made["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
        [secret] = executor["secretAsEnv"]
        assert secret["secretNameParameter"] == {"runtimeValue": {"constant": "forge-run-x"}}
        assert (
            secret["keyToEnv"] == [{"secretKey": "token", "envVar": "FORGE_RUN_TOKEN"}] and secret["optional"]
        )
    assert "forge-run-x" not in json.dumps(made["pipeline_spec"])
