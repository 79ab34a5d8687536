"""The names of Argo's nodes and pods, as KFP's compiler and Argo's controller make them."""

import pytest

from pipelines.kubeflow.state.argo_names import fnv1a, pod_of, task_of


@pytest.mark.parametrize(("text", "number"), [("", 0x811C9DC5), ("a", 0xE40C292C), ("foobar", 0xBF9CF968)])
def test_the_hash_is_fnv_1a(text, number):
    assert fnv1a(text) == number


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ("agent-forge-x.root.quietstar.executor", ("quietstar", 0)),
        ("agent-forge-x.root.quietstar.executor(2)", ("quietstar", 2)),
        ("agent-forge-x(0).root(0).cognate-2(0).executor(1)", ("cognate-2", 1)),
        ("agent-forge-x.root.loop.iteration-item.bitnet.executor", ("loop/iteration-item/bitnet", 0)),
        ("agent-forge-x.root.quietstar-driver", None),
        ("agent-forge-x.root-driver", None),
        ("", None),
    ],
)
def test_a_nodes_name_tells_task_and_attempt(node, named):
    assert task_of(node) == named


@pytest.mark.parametrize(
    ("task", "metadata", "template"),
    [
        ({}, None, "system-container-impl"),
        ({"retryPolicy": {"maxRetryCount": 2}}, None, "retry-system-container-impl"),
        ({}, {"labels": {"a": "b"}}, "metadata-0-1-system-container-impl"),
        (
            {"retryPolicy": {}},
            {"labels": {"a": "b"}, "annotations": {}},
            "metadata-0-1-system-container-impl",
        ),
    ],
)
def test_a_pods_name_tells_the_template_that_kfp_made(task, metadata, template):
    number = fnv1a("w-x7.root.bitnet.executor")
    executor = {"exec": {"podMetadata": metadata}} if metadata else {}
    run = {
        "run_details": {
            "task_details": [{"child_tasks": [{"pod_name": f"w-x7-{number}"}, {"pod_name": "w-x7-1"}]}]
        },
        "pipeline_spec": {
            "pipeline_spec": {
                "root": {"dag": {"tasks": {"bitnet": {"componentRef": {"name": "comp"}, **task}}}},
                "components": {"comp": {"executorLabel": "exec"}},
            },
            "platform_spec": {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executor}}}},
        },
    }
    assert pod_of(run, "bitnet") == f"w-x7-{template}-{number}"
    assert pod_of(run, "training") == ""
