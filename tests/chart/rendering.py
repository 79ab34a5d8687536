"""The chart rendered by the real helm, and what is asked of the objects again and again."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipelines.ir.documents import LOADER
from tests.chart import tools

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "agent-forge"
NAMESPACE = "kubeflow"
TABLE = ("defaults", *sorted(path.stem for path in (CHART / "ci").glob("*.yaml")))
"""Tables of values: the chart's own, and those of ci/."""

NEWEST = ("--kube-version", "1.35.0")
"""What helm is told without a cluster: a helm that was built without a release's flags takes it for 1.20."""

Object = dict[str, Any]
POD_TEMPLATES = ("Deployment", "Job", "CronJob", "Pod")


class Refused(Exception):
    """helm does not render this; the text is its own."""


def values_file(name: str) -> list[str]:
    """The arguments that choose a table of values."""
    return [] if name == "defaults" else ["--values", str(CHART / "ci" / f"{name}.yaml")]


@functools.cache
def render(name: str = "defaults", *arguments: str, namespace: str = NAMESPACE) -> tuple[Object, ...]:
    """All objects of the chart. Nobody may change them: they are rendered once for all tests.

    :param name: a table of values.
    :param arguments: further arguments for helm, such as `--set`, `mlflow.enabled=true`.
    :raises Refused: by helm.
    """
    command = [
        str(tools.find("helm")),
        "template",
        "agent-forge",
        str(CHART),
        "--namespace",
        namespace,
        *NEWEST,
    ]
    ended = subprocess.run([*command, *values_file(name), *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise Refused(ended.stderr.strip())
    return tuple(each for each in yaml.load_all(ended.stdout, Loader=LOADER) if each)


def identity(thing: Object) -> str:
    """Kind and name, for messages."""
    return f"{thing['kind']}/{thing['metadata']['name']}"


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Object]:
    """The objects of a kind."""
    return [thing for thing in objects if thing["kind"] == kind]


def pod_templates(objects: tuple[Object, ...]) -> Iterator[tuple[str, Object]]:
    """(whose, {metadata, spec}) of every pod that the chart makes, itself or through a controller."""
    for thing in objects:
        if thing["kind"] == "Pod":
            yield identity(thing), thing
        elif thing["kind"] == "CronJob":
            yield identity(thing), thing["spec"]["jobTemplate"]["spec"]["template"]
        elif "template" in thing.get("spec", {}):
            yield identity(thing), thing["spec"]["template"]


def containers(pod: Object) -> list[Object]:
    """All containers of a pod, the first ones too."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def selects(selector: dict[str, str] | None, labels: dict[str, str]) -> bool:
    """Kubernetes' matchLabels: an empty selector takes everything."""
    return all(labels.get(key) == value for key, value in (selector or {}).items())
