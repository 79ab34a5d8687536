"""What is asked for, as a run that Kubeflow Pipelines takes; and how its server is reached."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from components.shared.runtime.errors import ConfigError

from ...kubeflow.http import Access
from ...kubeflow.server import Server
from ...kubeflow.state.run import Watcher
from ..settings import ControlSettings
from . import run_secret
from .strip import Row

EXPERIMENT = "agent-forge"


def access_of(settings: ControlSettings) -> Access:
    """How the server is reached: what is secret of it stays in the environment, as for `forge submit`."""
    token, cookies, authority = (os.environ.get(f"KFP_{name}", "") for name in ("TOKEN", "COOKIES", "CA"))
    return Access(settings.kfp_host, settings.kfp_namespace, token, cookies, authority)


def watcher_of(settings: ControlSettings, row: Row) -> Watcher:
    """A watcher of a run that somebody asks about. It looks nowhere yet."""
    return Watcher.of(Server(access_of(settings)), str(row["kfp_id"]))


def submitted(
    settings: ControlSettings,
    server: Server,
    row: Row,
    name: str,
    before: str,
    again: Mapping[str, Any],
    secret: bool,
) -> str:
    """Submit a run; its id with KFP.

    :param name: what KFP shall call it.
    :param before: KFP's id of the run whose models it starts from; "" for a run from the beginning.
    :param again: the phases to run of such a run, in place of those that were asked for.
    :param secret: whether the run has a Secret.
    :raises ForgeError: something is wrong with what is asked for, or KFP does not take it.
    """
    from ...kubeflow.compiled import prepared  # KFP's compiler, which takes a second to load
    from ...kubeflow.starting import of_run

    asked = {**row["request"], **again}
    if asked["without"]:
        fix = "leave it out, or run on this machine"
        raise ConfigError("Kubeflow runs all phases of a range", where="without", fix=fix)
    first = asked["start_phase"]
    artifacts = of_run(server, first, before, settings.runs) if before else asked["artifacts"]
    graph, parameters = prepared(
        first, asked["end_phase"], [] if before else asked["base_models"], artifacts, {},
        profile=asked["profile"] or "tiny", overrides=asked["overrides"], seed=asked["seed"],
        cluster=settings.kfp_cluster,
    )  # fmt: skip
    return server.submit(
        graph.text, parameters, name=name, experiment=EXPERIMENT, caching=asked["cache"],
        secret=(run_secret.name_of(row["id"]), run_secret.KEYS) if secret else None,
    )  # fmt: skip
