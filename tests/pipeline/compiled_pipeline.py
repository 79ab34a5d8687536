"""The compiled pipeline taken apart: its documents, its container tasks, the parameters behind their placeholders."""

import functools

import yaml

from pipelines import agent_forge
from pipelines.cluster import load
from pipelines.ir.documents import LOADER
from pipelines.settings import as_parameters, composed


@functools.cache
def defaults():
    return as_parameters(composed())


@functools.cache
def compiled(cluster="default", **shape):
    return agent_forge.text(agent_forge.pipeline(cluster=load(cluster), settings=defaults(), **shape))


@functools.cache
def documents(text):
    """Parsed once; nobody changes what is read here."""
    spec, platform = yaml.load_all(text, Loader=LOADER)
    return spec, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def uses(text):
    """Every container task: (phase, task, its container, its Kubernetes settings)."""
    spec, settings = documents(text)
    for task in spec["root"]["dag"]["tasks"].values():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        if "container" in spec["deploymentSpec"]["executors"][label]:
            container = spec["deploymentSpec"]["executors"][label]["container"]
            yield task["taskInfo"]["name"].split("-")[0], task, container, settings[label]


def parameter(task, placeholder):
    """The pipeline's parameter behind a placeholder of a task's container."""
    channel = placeholder.removeprefix("{{$.inputs.parameters['").removesuffix("']}}")
    return task["inputs"]["parameters"][channel]["componentInputParameter"]
