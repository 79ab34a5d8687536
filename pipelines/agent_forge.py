"""The pipeline: base models → cognate ∥ → evomerge ∥ → quietstar → bitnet → training → baking → adas →
compression.

    python pipelines/agent_forge.py compile|run|submit        (or: forge compile|run-pipeline|submit)

What KFP cannot do decides the shape:

- No loops over time. The rounds of evomerge are unrolled when compiling (`rounds`): each is a fan-out over
  workers and a selection. How many generations there are, and which workers, are parameters of the run.
- No conditions here. `start` and `end` are decided when compiling too: a pipeline that starts later has an
  importer in front, which takes the address of an artifact.
- A list of artifacts reaches a container only beside the loop that made it. So the variants are bound into
  one artifact (`evomerge_gather`) before they go into the workers' loops.
- Accelerators as parameters reach a task in a loop only through a nested pipeline. So the loops' bodies are
  `…_pod` pipelines.
"""

import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: import from the project, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import inspect
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from kfp import compiler, dsl
from kfp.dsl import Artifact, Collected, Input, Model, ParallelFor

from components.adas.component import adas
from components.baking.component import baking
from components.bitnet.component import bitnet
from components.cognate.component import cognate, cognate_trunk
from components.compression.component import compression
from components.evomerge.component import evomerge, evomerge_gather, evomerge_select, evomerge_worker
from components.quietstar.component import quietstar
from components.shared.runtime.errors import ConfigError
from components.training.component import training
from pipelines.cluster import Cluster, load, place
from pipelines.phases import GPU_PHASES, PHASES, ROUNDS, between

NAME = "agent-forge"

CHAIN = {
    "quietstar": quietstar,
    "bitnet": bitnet,
    "training": training,
    "baking": baking,
    "adas": adas,
    "compression": compression,
}
"""The phases that take one model and give one."""

Parameters = Mapping[str, tuple[Any, Any]]
"""Name → (type, default)."""

COMMON: Parameters = {
    "profile": (str, "tiny"),
    "overrides": (list[str], []),
    "seed": (int, 0),
    "code_version": (str, ""),
    "config_digest": (str, ""),
    "checkpoint_root": (str, ""),
}
"""What every phase is told."""

WORKER: Parameters = {name: (int, None) for name in ("index", "round", "rounds", "generations", "population")}
"""What a worker of evomerge is told beside that."""


def pipeline(
    *, start: str = PHASES[0], end: str = PHASES[-1], rounds: int = ROUNDS, cluster: Cluster | None = None
) -> Any:
    """The KFP pipeline of the phases from `start` to `end`.

    :param rounds: fan-outs of evomerge.
    :param cluster: what is fixed of Kubernetes when compiling, and the defaults of what is not.
    :raises ConfigError: an unknown phase, phases in the wrong order, no rounds.
    """
    phases = between(start, end)
    if rounds < 1:
        raise ConfigError(f"{rounds} rounds of evolution", where="rounds", fix="give 1 or more")
    cluster = cluster or load()
    defaults = cluster.parameters.model_dump()
    settings = {**COMMON, **{name: (type(value), value) for name, value in defaults.items()}}

    def task(component: Any, phase: str, given: Mapping[str, Any], **inputs: Any) -> Any:
        gpu = phase in GPU_PHASES and component is not evomerge_select
        return place(component(**inputs, **_only(COMMON, given)), phase, cluster, given, gpu=gpu)

    @_pod(settings)
    def cognate_pod(given: dict[str, Any], variant: str, trunk: Input[Model]) -> Model:
        return task(cognate, "cognate", given, variant=variant, trunk=trunk).output

    @_pod({**settings, **WORKER})
    def evomerge_first_pod(given: dict[str, Any], models: Input[Artifact]) -> Artifact:
        return task(evomerge_worker, "evomerge", given, models=models, **_only(WORKER, given)).output

    @_pod({**settings, **WORKER})
    def evomerge_pod(given: dict[str, Any], models: Input[Artifact], state: Input[Artifact]) -> Artifact:
        inputs = {"models": models, "state": state, **_only(WORKER, given)}
        return task(evomerge_worker, "evomerge", given, **inputs).output

    def variants(given: Mapping[str, Any]) -> Any:
        """The trunk, and its variants in parallel."""
        trunk = task(cognate_trunk, "cognate", given, base_models=given["base_models"])
        with ParallelFor(given["base_models"], name="cognate variants") as variant:
            made = cognate_pod(variant=variant, trunk=trunk.output, **_only(settings, given))
        return made.output

    def evolution(given: Mapping[str, Any], gathered: Any) -> Any:
        """Rounds of workers in parallel, each closed by a selection; then the merge."""
        models = place(gathered, "evomerge", cluster, given, gpu=False).output
        state: dict[str, Any] = {}
        for number in range(rounds):
            told = {name: given[name] for name in ("generations", "population")}
            told |= {"round": number, "rounds": rounds, **_only(settings, given)}
            with ParallelFor(given["workers"], name=f"evomerge round {number + 1}") as index:
                worker = (evomerge_pod if state else evomerge_first_pod)(
                    models=models, index=index, **state, **told
                )
            results = Collected(worker.output)
            selection = task(evomerge_select, "evomerge", given, models=models, results=results, round=number)
            state = {"state": selection.output}
        return task(evomerge, "evomerge", given, models=models, **state).output

    def agent_forge(given: dict[str, Any]) -> None:
        model: Any = None
        for phase in phases:
            if phase == "cognate":
                model = variants(given)
            elif phase == "evomerge":
                parents = (
                    evomerge_gather(models=Collected(model))
                    if model
                    else evomerge_gather(uris=given["artifact_uris"])
                )
                model = evolution(given, parents)
            else:
                model = model or dsl.importer(artifact_uri=given["artifact_uri"], artifact_class=Model).output
                model = task(CHAIN[phase], phase, given, model=model).output

    agent_forge.__doc__ = "Agent Forge: " + " → ".join(phases)
    return dsl.pipeline(_with({**_own_parameters(phases), **settings}, agent_forge), name=_name(phases))


def text(pipeline: Any) -> str:
    """The compiled pipeline: YAML, one document for any platform and one for Kubernetes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text()


def _own_parameters(phases: tuple[str, ...]) -> Parameters:
    """The parameters that only some ranges of phases have."""
    own: dict[str, tuple[Any, Any]] = {}
    if phases[0] == "cognate":
        own["base_models"] = (list[str], ["standard", "memory", "reasoning"])
    elif phases[0] == "evomerge":
        own["artifact_uris"] = (list[str], None)
    else:
        own["artifact_uri"] = (str, None)
    if "evomerge" in phases:
        # 0: what the profile says
        own |= {"workers": (list[int], [0, 1]), "generations": (int, 0), "population": (int, 0)}
    return own


def _name(phases: tuple[str, ...]) -> str:
    if phases == PHASES:
        return NAME
    return "-".join([NAME, phases[0], *(["to", phases[-1]] if len(phases) > 1 else [])])


def _only(names: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _pod(parameters: Parameters) -> Callable[[Callable[..., Any]], Any]:
    """A nested pipeline, the body of a loop. Its parameters are without defaults: all of them are passed
    on.
    """
    bare = {name: (kind, None) for name, (kind, _) in parameters.items()}
    return lambda function: dsl.pipeline(_with(bare, function))


def _with(parameters: Parameters, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as KFP shall see it: each of `parameters` a parameter of its own, which it gets as one
    dictionary, its first argument. A default of None is no default.
    """
    declared = inspect.signature(function)
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    rest = [
        inspect.Parameter(
            name, positional, annotation=kind, default=inspect.Parameter.empty if value is None else value
        )
        for name, (kind, value) in parameters.items()
    ]
    signature = declared.replace(parameters=[*list(declared.parameters.values())[1:], *rest])

    def call(*arguments: Any) -> Any:
        bound = signature.bind(*arguments).arguments
        given = {name: bound.pop(name) for name in parameters}
        return function(given, **bound)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


if __name__ == "__main__":
    from pipelines.cli import script

    script()
