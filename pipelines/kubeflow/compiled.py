"""What is submitted to Kubeflow: the compiled pipeline of a range of phases, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.shared.runtime.errors import InputError

from .. import texts
from ..cluster import load
from ..costs import fitting_pods
from ..ir import reader
from ..ir.base_models import planned, standing
from ..ir.parameters import given_parameters, starting_points
from ..ir.spec import Pipeline
from ..phases import PHASES, ROUNDS, WORKERS, between, several
from ..settings import as_parameters, check_search, composed, from_parameters
from . import size
from .size import Size


@dataclass(frozen=True)
class Compiled:
    """A compiled pipeline, read again, and how large its run becomes."""

    text: str
    pipeline: Pipeline
    size: Size

    def __str__(self) -> str:
        held = f"{self.size.pods} pods, a workflow of about {self.size.bytes / 1e6:.2f} MB"
        return f"{self.pipeline.name}: {len(self.text.encode()):,} bytes; {held}"


def compiled(
    first: str,
    last: str,
    *,
    parents: int,
    stands: Sequence[int] = (),
    trust: str = "",
    workers: int,
    rounds: int,
    cluster: str,
    profile: str = "tiny",
    overrides: Sequence[str] = (),
    pinned: bool = True,
) -> Compiled:
    """Compile the phases from `first` to `last`.

    :param stands: see `agent_forge.pipeline`, as for `trust`.
    :param profile: of the settings that are the defaults of the pipeline's parameters, as `overrides` change them.
    :raises ConfigError: phases, counts or cluster settings that do not fit, or a run that KFP could not show.
    """
    from ..agent_forge import pipeline, text  # KFP's compiler, which takes a second to load

    settings = load(cluster)
    defaults = as_parameters(composed(between(first, last), profile=profile, overrides=overrides))
    compiled_yaml = text(
        pipeline(
            start=first,
            end=last,
            parents=parents,
            stands=stands,
            trust=trust,
            workers=workers,
            rounds=rounds,
            cluster=settings,
            settings=defaults,
            pinned=pinned,
        )
    )
    return Compiled(
        compiled_yaml, reader.parse(compiled_yaml), size.check(compiled_yaml, settings.workflow_bytes)
    )


def prepared(
    first: str,
    last: str,
    base_models: Sequence[str],
    artifacts: Sequence[str],
    asked: Mapping[str, str],
    *,
    profile: str,
    overrides: Sequence[str],
    seed: int | None,
    rounds: int = ROUNDS,
    workers: int = WORKERS,
    cluster: str = "default",
    base_dtype: str = "",
    trust: str = "",
) -> tuple[Compiled, dict[str, object]]:
    """The compiled pipeline and its complete parameters; what does not fit is found here, and not in a pod.

    :param base_dtype: that given base models are converted to; empty: as they are.
    :param trust: the digest of the code that a given model brings along, for all pods.
    :param asked: parameters of the pipeline by name, which win over what the settings say.
    :raises ForgeError: something is wrong with what is asked for.
    """
    if first != PHASES[0] and not artifacts:
        raise InputError(
            f"phase {first} needs something to start from",
            where=f"--from {first}",
            fix="give --run RUN (a run that has it), or --artifact with its address",
        )
    configs = composed(between(first, last), profile=profile, overrides=overrides, seed=seed)
    starting = starting_points(first, planned(base_models, pods=True), artifacts)
    fitting_pods(base_models or artifacts, configs, load(cluster))
    if base_dtype:
        starting["base_dtype"] = base_dtype
    stands = standing(base_models, merged=any(map(several, between(first, last))))
    graph = compiled(
        first,
        last,
        parents=len(artifacts) or len(stands),
        stands=stands,
        workers=workers,
        rounds=rounds,
        cluster=cluster,
        trust=trust,
    )
    values = {**starting, **as_parameters(configs), **asked}
    parameters = given_parameters(values, graph.pipeline.root.parameters)
    check_search(from_parameters(parameters), rounds=rounds, workers=workers)
    texts.refuse_local(parameters)
    return graph, parameters
