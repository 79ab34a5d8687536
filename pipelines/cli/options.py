"""Options that several commands have, each said once; and how a command speaks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from ..kubeflow.http import Access

console = Console(width=None if sys.stdout.isatty() else 120)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object in place of the table.")]
Runs = Annotated[Path, typer.Option(help="The folder of all runs.")]
Run = Annotated[str, typer.Argument(help="A run's name, its folder, or latest.")]
AnyRun = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]",
        help="A run on this machine: its name, its folder, or latest. With --host a run of Kubeflow: its id, its name,"
        " or latest. Or the address of its page.",
    ),
]
KubeflowRun = Annotated[
    str, typer.Argument(metavar="RUN", help="A run of Kubeflow: its id, name or page's address, or latest.")
]
Profile = Annotated[
    str, typer.Option("--profile", "-p", help="tiny, small, full, hf-small …: docs/profiles.md.")
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--override", "-O", metavar="PHASE.KEY=VALUE", help="Change a setting; repeatable, and -O may be left out.",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip
Parameters = Annotated[
    list[str],
    typer.Option(
        "--set", "-s", metavar="NAME=VALUE", help="Set a parameter of the pipeline; repeatable.",
        default_factory=list, show_default=False,
    ),
]  # fmt: skip
BaseModels = Annotated[
    list[str],
    typer.Option(
        "--base-model", "--base-models", "-m", metavar="NAME|PLACE", default_factory=list, show_default=False,
        help="standard, memory, reasoning (the default: all three); or a model: owner/name[@revision] of the hub, a folder,"
        " s3://…, a .gguf file; repeatable, and behind --base-models several.",
    ),
]  # fmt: skip
BaseDtype = Annotated[
    str,
    typer.Option(
        "--base-dtype",
        metavar="DTYPE",
        help="Convert given models: float32, bfloat16 or float16 (default: as they are).",
    ),
]
Trust = Annotated[
    str,
    typer.Option(
        metavar="DIGEST",
        help="Run the code that a base model brings along, of this digest; a refusal names both.",
    ),
]
Artifacts = Annotated[
    list[str],
    typer.Option(
        "--artifact", "-a", metavar="PLACE", default_factory=list, show_default=False,
        help="What --from starts with: a folder, s3://… or minio://…; evomerge takes several.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option(help="Of everything random.")]
First = Annotated[str, typer.Option("--from", metavar="PHASE", help="The first phase to run.")]
Last = Annotated[str, typer.Option("--to", metavar="PHASE", help="The last phase to run.")]
Rounds = Annotated[int, typer.Option(help="Barriers of evomerge's search; fixed when compiling.")]
Workers = Annotated[
    int, typer.Option(help="Pods of evomerge's search side by side in each round; fixed when compiling.")
]
ClusterName = Annotated[str, typer.Option("--cluster", help="default, gpu or kind: configs/cluster.")]
Store = Annotated[
    str, typer.Option(metavar="PLACE", help="Keep artifacts here too: s3://bucket/prefix or a folder.")
]
Host = Annotated[
    str, typer.Option(envvar="KFP_HOST", help="The Kubeflow Pipelines API, such as http://localhost:8080.")
]
Namespace = Annotated[str, typer.Option(envvar="KFP_NAMESPACE", help="Where its runs and pods are.")]
Token = Annotated[
    str,
    typer.Option(envvar="KFP_TOKEN", show_envvar=True, help="A bearer token (in a pod: its own is taken)."),
]
Cookies = Annotated[
    str, typer.Option(envvar="KFP_COOKIES", help="Cookies of a login, such as authservice_session=….")
]
Authority = Annotated[
    str, typer.Option("--ca", metavar="FILE", envvar="KFP_CA", help="Certificates of the authority to trust.")
]


def access(host: str, namespace: str, token: str, cookies: str, authority: str) -> Access:
    """How the server is reached, from the options of a command."""
    from ..kubeflow.http import Access

    return Access(host, namespace, token, cookies, authority)


def say(text: str) -> None:
    """A line as it is: paths and prompts are no markup, and are not wrapped."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
