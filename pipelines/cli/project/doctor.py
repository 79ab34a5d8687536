"""`forge doctor`: whether everything is there that a run needs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from ..options import AsJson, Authority, Cookies, Host, Namespace, Runs, Store, Token, access, console, say


def doctor(
    runs: Runs = Path("runs"),
    store: Store = "",
    host: Host = "",
    namespace: Namespace = "kubeflow",
    token: Token = "",
    cookies: Cookies = "",
    authority: Authority = "",
    as_json: AsJson = False,
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
    findings = []
    for finding in examine(runs, store, access(host, namespace, token, cookies, authority)):
        findings.append(finding)
        if not as_json:
            console.print(f"[{colours[finding.verdict]}]{finding.verdict:<5}[/]{finding.what:<11}", end="")
            fix = finding.fix.replace("\n", f"\n{'':18}")
            say(finding.found + (f"\n{'':16}→ {fix}" if fix else ""))
    healthy = all(finding.verdict != "fail" for finding in findings)
    if as_json:
        say(json.dumps({"healthy": healthy, "findings": [asdict(finding) for finding in findings]}, indent=1))
    raise typer.Exit(0 if healthy else 1)
