"""`forge doctor`: whether everything is there that a run needs."""

from __future__ import annotations

from pathlib import Path

import typer

from ..options import Authority, Cookies, Host, Namespace, Runs, Store, Token, access, console, say


def doctor(
    runs: Runs = Path("runs"),
    store: Store = "",
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
) -> None:
    """Look whether everything is there that a run needs. The exit code is 1 when something is not.

    \b
    forge doctor
    forge doctor --host http://localhost:8080 --namespace kubeflow

    With a kubeconfig, or in a pod, it looks at the cluster too: nodes, what the namespace needs, and what Argo's
    controller makes of a phase that fails.
    """
    from ...doctor.examination import examine

    colours = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    failed = False
    for one in examine(runs, store, access(host, namespace, token, cookies, authority)):
        console.print(f"[{colours[one.verdict]}]{one.verdict:<5}[/]{one.what:<11}", end="")
        fix = one.fix.replace("\n", f"\n{'':18}")
        say(one.found + (f"\n{'':16}→ {fix}" if fix else ""))
        failed |= one.verdict == "fail"
    raise typer.Exit(1 if failed else 0)
