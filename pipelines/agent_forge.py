"""The pipeline: base models → foundation → cognate, in parallel → evomerge, in parallel → one phase after another → report.

    python pipelines/agent_forge.py compile|run|submit        (or: forge compile|run-pipeline|submit)

What KFP cannot do decides the shape:

- It has no loops over time, and each loop, each of its turns and each nested pipeline is a pod more. So the graph is
  written out when compiling: `parents` variants, and `rounds` of `workers` side by side, each round closed by a
  selection (the last one by the merge). How many generations there are is a setting of evomerge.
- It has no conditions here. `start` and `end` are decided when compiling too: a pipeline that starts later has an
  importer in front for each artifact, which takes its address.
- A list of artifacts reaches a container only beside the loop that made it. So lists travel as numbered inputs.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: import from the project, not from this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from kfp import compiler, dsl
from kfp.dsl import Model, pipeline_task

from components.cognate import component as cognate
from components.cognate.settings import VARIANTS
from components.evomerge import component as evomerge
from components.shared.container import component
from components.shared.foundation import component as foundation
from components.shared.phase_spec import Interface, one_model
from components.shared.runtime.code import code_version
from components.shared.runtime.errors import ConfigError
from pipelines.cluster import MEANING, REPORT, Cluster, load, place, reach_hub
from pipelines.phases import PARENTS, PHASES, ROUNDS, SPECS, WORKERS, between, remaining, several
from pipelines.report_component import report
from pipelines.settings import as_parameters, composed, parameter_of

NAME = "agent-forge"
MOST = 256
"""Tasks of evomerge's workers, or parents, that a graph may have; compiling takes a twentieth of a second for each."""


class Parameter(NamedTuple):
    """A parameter of the pipeline: its type, its default (None: it has none), and what KFP's page says of it."""

    kind: type
    default: Any
    meaning: str


Parameters = Mapping[str, Parameter]


class Graph:
    """The tasks of one pipeline, as they are made inside KFP's pipeline function.

    :param channels: the pipeline's parameters by name, as KFP's channels.
    :param pinned: each task carries the digest of the code that it is compiled from.
    :param trust: see `pipeline`.
    """

    def __init__(
        self, channels: Mapping[str, Any], cluster: Cluster, *, pinned: bool, trust: str = ""
    ) -> None:
        self.channels = channels
        self.cluster = cluster
        self.pinned = pinned
        self.trust = trust
        self.records: list[Any] = []

    def task(self, interface: Interface, title: str, settings: str = "", **inputs: Any) -> Any:
        """One container, with what all of them are told: its own phase's settings, seed, code, checkpoints.

        :param settings: in place of those of its phase.

        :param title: what KFP's graph, and its folder in the store, are called.
        """
        phase = interface.phase
        common = {name: self.channels[name] for name in ("seed", "checkpoint_root")}
        common["settings"] = settings or self.channels[parameter_of(phase.name)]
        common["code_version"] = code_version(phase.name) if self.pinned else ""
        task = component(interface)(**inputs, **common).set_display_name(title)
        self.records.append(task.outputs["metrics"])
        if self.trust:
            task.set_env_variable("FORGE_TRUST", self.trust)
        light = phase.step(interface.step).light
        return place(task, title, phase, self.cluster, self.channels, light=light)

    def foundations(self, stands: Sequence[int]) -> dict[int, Any]:
        """The base models that are given, each fetched once, by their numbers."""
        numbers = sorted({number for number in stands if number})
        models = {}
        for place_, number in enumerate(numbers, 1):
            title = foundation.FOUNDATION.name + (f"-{place_}" if len(numbers) > 1 else "")
            told = {"base_model": self.channels[f"base_model_{number}"], "dtype": self.channels["base_dtype"]}
            task = self.task(foundation.INTERFACE, title, foundation.SETTINGS, **told)
            models[number] = reach_hub(task, self.channels).outputs["model"]
        return models

    def variants(self, stands: Sequence[int]) -> list[Any]:
        """What the variants stand on, and they side by side."""
        bases = self.foundations(stands)
        own = [f"base_model_{number}" for number, base in enumerate(stands, 1) if not base]
        if own:
            names = dict(
                zip(_numbers("base_model", len(own)), (self.channels[name] for name in own), strict=True)
            )
            bases[0] = self.task(cognate.trunk(len(own)), "cognate-trunk", **names).outputs["model"]
        models = []
        for number, base in enumerate(stands, 1):
            if not base:
                variant = self.channels[f"base_model_{number}"]
            else:
                variant = VARIANTS[number - 1] if stands.count(base) > 1 else cognate.AS_IT_IS
            task = self.task(cognate.VARIANT, f"cognate-variant-{number}", trunk=bases[base], variant=variant)
            models.append(task.outputs["model"])
        return models

    def evolution(self, parents: Sequence[Any], workers: int, rounds: int) -> Any:
        """Rounds of workers side by side, each closed by a selection, the last one by the merge."""
        models = _named("input_model", parents)
        state: dict[str, Any] = {}
        for number in range(rounds):
            inputs = {**models, "round": number, "rounds": rounds, "workers": workers}
            results = [
                self.task(
                    evomerge.worker(len(parents)),
                    f"evomerge-round-{number + 1}-worker-{index + 1}",
                    **{**inputs, **state, "index": index},
                ).outputs["results"]
                for index in range(workers)
            ]
            inputs |= _named("result", results)
            if number + 1 < rounds:
                barrier = evomerge.select(len(parents), workers)
                selection = self.task(barrier, f"evomerge-round-{number + 1}-selection", **inputs)
                state = {"state": selection.outputs["state"]}
        return self.task(evomerge.merge(len(parents), workers), "evomerge", **inputs).outputs["model"]

    def finish(self) -> None:
        """The page of the run, made from the records of all its tasks."""
        title = REPORT.name
        task = report(len(self.records))(**_named("record", self.records)).set_display_name(title)
        task.set_caching_options(False)  # it also ends the run in MLflow, which no earlier run's page does
        place(task, title, REPORT, self.cluster, self.channels, light=True)


def pipeline(
    *,
    start: str = PHASES[0],
    end: str = PHASES[-1],
    without: Sequence[str] = (),
    parents: int = PARENTS,
    stands: Sequence[int] = (),
    trust: str = "",
    workers: int = WORKERS,
    rounds: int = ROUNDS,
    cluster: Cluster | None = None,
    settings: Mapping[str, Any] | None = None,
    pinned: bool = True,
) -> Any:
    """The KFP pipeline of the phases from `start` to `end`.

    :param without: phases that are left out: the model before them goes on as it is. Those beyond the range are no matter.
    :param parents: base models, or the artifacts from which evomerge starts.
    :param stands: for each of them the number of the base model that is given for it, 0 for none: it is trained from the
        trunk. By default none is given.
    :param trust: the digest of the code that a given model brings along, which all tasks may run then.
    :param workers: of evomerge, side by side in each of its `rounds`.
    :param cluster: what is fixed of Kubernetes when compiling, and the defaults of what is not.
    :param settings: the defaults of the phases' settings and of the seed, see `settings.as_parameters`; by default
        those of the profile tiny.
    :param pinned: see `Graph`; the committed pipeline is not.
    :raises ConfigError: an unknown phase, phases in the wrong order, a count below its least.
    """
    phases = remaining(between(start, end), without)
    if parents > 1 and not any(map(several, phases)) and any(map(several, without)):
        raise ConfigError(
            f"{parents} models, and no phase that makes one of them",
            where=f"without {', '.join(without)}",
            fix="give one base model, or leave that phase in",
        )
    counts = (
        ("parents", parents, 2 if any(map(several, phases)) else 1),
        ("workers", workers, 1),
        ("rounds", rounds, 1),
    )
    for name, count, least in counts:
        if count < least:
            raise ConfigError(f"{count} {name}", where=name, fix=f"give {least} or more")
    if parents > MOST:
        raise ConfigError(f"{parents:,} parents", where="parents", fix=f"at most {MOST} can be written out")
    if workers * rounds > MOST:
        raise ConfigError(
            f"{workers} workers in each of {rounds} rounds are {workers * rounds:,} tasks",
            where="workers × rounds",
            fix=f"at most {MOST} can be written out; a worker lives several generations in a round",
        )
    cluster = cluster or load()
    stands = tuple(stands) or (0,) * parents

    def agent_forge(channels: dict[str, Any]) -> None:
        graph = Graph(channels, cluster, pinned=pinned, trust=trust)
        models: list[Any] = []
        for phase in phases:
            if phase == cognate.PHASE.name:
                models = graph.variants(stands)
                continue
            models = models or [_imported(channels[name]) for name in _addresses(phase, parents)]
            if phase == evomerge.PHASE.name:
                models = [graph.evolution(models, workers, rounds)]
            else:
                task = graph.task(one_model(SPECS[phase]), phase, input_model=models[0])
                models = [task.outputs["model"]]
        graph.finish()

    settings = settings or as_parameters(composed(phases))
    parameters = {
        **_starting_points(phases, parents, stands),
        **_settings_parameters(phases, settings),
        **_cluster_parameters(cluster),
    }
    meanings = "\n".join(f"    {name}: {parameter.meaning}." for name, parameter in parameters.items())
    agent_forge.__doc__ = f"Agent Forge: {' → '.join(phases)}.\n\nArgs:\n{meanings}\n"
    title = "Agent Forge" if phases == PHASES else f"Agent Forge: {' → '.join(dict.fromkeys((start, end)))}"
    left_out = [phase for phase in between(start, end) if phase not in phases]
    if left_out:
        title += f", without {', '.join(left_out)}"
    name = "-without-".join([name_of(start, end), *left_out])
    with _no_sources_read():
        return dsl.pipeline(_with(parameters, agent_forge), name=name, display_name=title)


@contextlib.contextmanager
def _no_sources_read() -> Iterator[None]:
    """Let KFP name the caller of a task's setting without reading the sources of the whole stack at each of them.

    It does so for an error that it seldom has to raise. In a process that has loaded much, torch say, it is most of
    compiling's time.
    """
    known = pipeline_task.inspect
    pipeline_task.inspect = SimpleNamespace(stack=lambda: inspect.stack(context=0)[1:])
    try:
        yield
    finally:
        pipeline_task.inspect = known


def text(pipeline: Any) -> str:
    """The compiled pipeline: YAML, one document for any platform and one for Kubernetes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        return path.read_text()


def name_of(start: str, end: str) -> str:
    """What KFP calls the pipeline of these phases."""
    if (start, end) == (PHASES[0], PHASES[-1]):
        return NAME
    return "-".join([NAME, start, *(["to", end] if start != end else [])])


def _starting_points(phases: tuple[str, ...], parents: int, stands: Sequence[int]) -> Parameters:
    """What the first phase starts from: names or addresses of base models, or addresses of artifacts."""
    if phases[0] == PHASES[0]:
        given = "a Hugging Face model: owner/name@commit, s3://…, a folder, a .gguf file"
        trained = f"{', '.join(VARIANTS)}; or the address of a Hugging Face model taken in its place"
        models = {}
        for number, base in enumerate(stands, 1):
            name = f"base_model_{base or number}"
            default = VARIANTS[number - 1] if not base and number <= len(VARIANTS) else None
            models[name] = Parameter(str, default, given if base else trained)
        if not any(stands):
            return models
        return models | {
            "base_dtype": Parameter(
                str, "", "float32, bfloat16 or float16: converts given models; empty: as they are"
            ),
            "hub_secret": Parameter(str, "huggingface", "the Secret with token, of the hub; may be missing"),
        }
    meaning = (
        "the address of an artifact to start from, as KFP's page of a run shows it (minio://… or s3://…)"
    )
    return {name: Parameter(str, None, meaning) for name in _addresses(phases[0], parents)}


def _settings_parameters(phases: tuple[str, ...], defaults: Mapping[str, Any]) -> Parameters:
    """The settings of each phase, and the seed."""
    own = {
        parameter_of(phase): Parameter(
            str, defaults[parameter_of(phase)], f"all settings of phase {phase}, as JSON (forge validate)"
        )
        for phase in phases
    }
    return {**own, "seed": Parameter(int, defaults["seed"], "of everything random, in all phases")}


def _cluster_parameters(cluster: Cluster) -> Parameters:
    defaults = cluster.parameters.model_dump()
    return {name: Parameter(type(value), value, MEANING[name]) for name, value in defaults.items()}


def _addresses(phase: str, parents: int) -> list[str]:
    """The parameters with the addresses of what a pipeline that starts at `phase` starts from."""
    return _numbers("artifact_uri", parents) if several(phase) else ["artifact_uri"]


def _imported(address: Any) -> Any:
    return dsl.importer(artifact_uri=address, artifact_class=Model).output


def _numbers(name: str, count: int) -> list[str]:
    return [f"{name}_{number}" for number in range(1, count + 1)]


def _named(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A list as numbered inputs."""
    return dict(zip(_numbers(name, len(values)), values, strict=True))


def _with(parameters: Parameters, function: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
    """`function` as KFP shall see it: each of `parameters` a parameter of its own, which it gets as one dictionary."""
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    none = inspect.Parameter.empty
    signature = inspect.Signature(
        [
            inspect.Parameter(
                name,
                positional,
                annotation=parameter.kind,
                default=none if parameter.default is None else parameter.default,
            )
            for name, parameter in sorted(parameters.items(), key=lambda item: item[1].default is not None)
        ]
    )

    def call(*arguments: Any) -> None:
        function(signature.bind(*arguments).arguments)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


if __name__ == "__main__":  # the forge command, in this process's place: nothing below it imports it
    os.execv(sys.executable, [sys.executable, "-m", "pipelines.cli.script", *sys.argv])
