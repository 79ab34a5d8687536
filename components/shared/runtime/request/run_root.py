"""What a KFP run has in its object store beside its artifacts: checkpoints and progress, which outlive pods.

KFP uploads an output to `<scheme>://<bucket>/…/<pipeline>/<run id>/<task>/<uuid>/<output>`. The part up to and with
the run's id is the root of the run: `checkpoints/` below it is where its phases' checkpoints go unless another address
is given, and `progress/<task>.json` says how far each task has come.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ..store.uri import SCHEMES
from .inputs import Request

OUTPUT = re.compile(r"(?P<root>(?P<scheme>[a-z0-9+.-]+)://[^/]+(/[^/]+)*/[^/]+/[^/]+)/[^/]+/[^/]+/[^/]+/?")
CHECKPOINTS = "checkpoints"


def root_of(uri: str) -> str:
    """The root of the run that uploads an output to `uri`; "" where the address is not one of KFP's."""
    address = OUTPUT.fullmatch(uri)
    return address["root"] if address else ""


def choose_checkpoint_root(request: Request, say: Callable[[str], None]) -> str:
    """Decide, once for a pod, where its checkpoints go when the request does not say, and say so when they stay here.

    A store that nothing is configured for is not used. One that is configured and does not work is an error, and
    may pass: the checkpoints of a run never go to two places.

    :returns: the root of the run, "" where nothing can be written there, or no cluster asks.
    """
    if not request.in_pod:
        return ""
    root = root_of(request.uri)
    reason = _unreachable(root, request.uri)
    if not reason:
        request.checkpoint_root = request.checkpoint_root or f"{root}/{CHECKPOINTS}"
        return root
    if not request.checkpoint_root:
        say(
            f"checkpoints stay on this pod's disk and go with it: {reason}, or the parameter checkpoint_root to an address "
            "that outlives the pod"
        )
    return ""


def _unreachable(root: str, uri: str) -> str:
    """Why the run's place in the object store cannot be used, and what to set; "" when it is configured."""
    if not root:
        return f"{uri} is no address that Kubeflow Pipelines gives; set FORGE_CHECKPOINTS"
    scheme = root.partition("://")[0]
    if scheme not in SCHEMES:
        return f"no store of ours speaks {scheme}://; set FORGE_CHECKPOINTS"
    from ..store.s3_client import (
        missing_settings,
    )  # boto3 costs a third of a second, which only a pod need pay

    missing = missing_settings(root)
    if not missing:
        return ""
    return f"the pod does not know how to reach {root}; set {', '.join(missing)}"
