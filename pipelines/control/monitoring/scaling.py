"""What `scale_resources` does: fewer runs on this machine, or more replicas of a service on Kubernetes.

On one machine there is nothing to add. New runs then wait as long as others go on (services/admission.py). On Kubernetes,
where FORGE_SCALE_TARGET names a deployment or an autoscaler, it gets one replica more, within FORGE_SCALE_BOUNDS; nothing
here takes replicas away again: that is an autoscaler's work, or a person's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from components.shared.runtime.errors import StoreError

from ..services import admission
from ..settings import ControlSettings
from ..store.database import Database

NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PATIENCE_SECONDS = 5.0


class Scaled(BaseModel):
    """What was done about it.

    :param action: `held`: new runs wait; `released`: they no longer do; `scaled`; `nothing`, because of `why`.
    :param until: Unix seconds at which a hold ends by itself.
    """

    action: Literal["held", "released", "scaled", "nothing"]
    why: str
    until: float | None = None
    target: str = ""
    replicas: int | None = None


async def scale(settings: ControlSettings, database: Database, *, firing: bool, why: str) -> Scaled:
    """Do what can be done.

    :param firing: there is too little room; else there is enough again.
    :param why: in the words of whoever asks.
    :raises StoreError: the database or Kubernetes does not answer.
    """
    if settings.scale_target:
        if not firing:
            return Scaled(action="nothing", why="replicas are not taken away", target=settings.scale_target)
        low, high = map(int, settings.scale_bounds.split("-"))
        kind, name = settings.scale_target.split("/")
        return await asyncio.to_thread(_one_more, kind, name, low, high)
    async with database.write() as connection:
        if not firing:
            held = await admission.release(connection)
            return Scaled(
                action="released" if held else "nothing",
                why="new runs may start" if held else "nothing was held",
            )
        hold = await admission.hold(connection, why)
    return Scaled(action="held", why="new runs wait while others go on", until=hold.until)


def _one_more(kind: str, name: str, low: int, high: int) -> Scaled:
    """Ask Kubernetes for one replica more; of an autoscaler, for one more at least."""
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError

    where = f"{kind}/{name}"
    try:
        try:
            config.load_incluster_config()
            namespace = NAMESPACE.read_text(encoding="utf-8").strip()
        except ConfigException:
            config.load_kube_config()
            namespace = config.list_kube_config_contexts()[1]["context"].get("namespace", "default")
        if kind == "deployment":
            now, ask = _deployment(client.AppsV1Api(), name, namespace)
        else:
            now, ask = _autoscaler(client.AutoscalingV2Api(), name, namespace)
        wanted = min(high, max(low, now + 1))
        if wanted > now:
            ask(wanted)
    except ConfigException as error:
        return Scaled(action="nothing", why=f"no Kubernetes is configured here: {error}"[:400], target=where)
    except ApiException as error:
        why = f"Kubernetes says {error.status} {error.reason}"
        return Scaled(action="nothing", why=why, target=where)
    except (HTTPError, OSError) as error:
        raise StoreError(
            "Kubernetes does not answer", where=where, why=str(error)[:300], transient=True
        ) from error
    if wanted <= now:
        return Scaled(action="nothing", why=f"there are {now} already, the most", target=where, replicas=now)
    return Scaled(action="scaled", why=f"from {now} to {wanted}", target=where, replicas=wanted)


def _deployment(api: Any, name: str, namespace: str) -> tuple[int, Any]:
    scale = api.read_namespaced_deployment_scale(name, namespace, _request_timeout=PATIENCE_SECONDS)

    def ask(replicas: int) -> None:
        body = {
            "spec": {"replicas": replicas},
            "metadata": {"resourceVersion": scale.metadata.resource_version},
        }
        api.patch_namespaced_deployment_scale(name, namespace, body, _request_timeout=PATIENCE_SECONDS)

    return scale.spec.replicas or 0, ask


def _autoscaler(api: Any, name: str, namespace: str) -> tuple[int, Any]:
    found = api.read_namespaced_horizontal_pod_autoscaler(name, namespace, _request_timeout=PATIENCE_SECONDS)

    def ask(replicas: int) -> None:
        body = {"spec": {"minReplicas": min(replicas, found.spec.max_replicas)}}
        api.patch_namespaced_horizontal_pod_autoscaler(
            name, namespace, body, _request_timeout=PATIENCE_SECONDS
        )

    return found.spec.min_replicas or 1, ask
