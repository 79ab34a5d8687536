"""`forge retry`: a failed run of Kubeflow goes on."""

from __future__ import annotations

from components.shared.runtime.errors import InputError

from ..options import Authority, Cookies, Host, KubeflowRun, Namespace, Token, say
from ..runs.choice import watcher_of


def retry(
    run: KubeflowRun,
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Start a failed run of Kubeflow again at the task that failed; it goes on from its checkpoint.

    \b
    forge retry latest --host http://localhost:8080

    (One of this machine goes on by `forge run-pipeline --resume RUN`.)
    """
    watcher = watcher_of(run, host, namespace, token, cookies, authority)
    state = watcher.look()
    if state.state not in ("failed", "cancelled"):
        raise InputError(
            f"only a run that has failed is started again; this one: {state.state}",
            where=state.url,
            fix="start a new one: forge submit; what did not change comes from KFP's cache",
        )
    watcher.server.retry(watcher.run)
    at = f" at {task.title}" if (task := state.failed()) else ""
    say(f"{state.name} goes on{at}: {state.url}")
