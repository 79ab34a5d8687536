"""The tools that only look: runs, their logs, models, and what a run would do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from components.shared.runtime.errors import ForgeError

from ..services import catalogue, runs
from ..services.planning import Asked, PhaseName, planned
from ..store import events
from . import answers
from .access import Access
from .foreign import cleaned, quoted

LOOKS = ToolAnnotations(read_only_hint=True, open_world_hint=False)

MOST_LINES = 2000
WINDOW = 4000
"""Numbers of events that are looked through for the last lines of a log."""

Name = Annotated[str, Field(max_length=200)]
Words = Annotated[list[Annotated[str, Field(max_length=2000)]], Field(max_length=100)]


def add(server: MCPServer[Any], access: Access) -> None:
    """Give a server these tools."""
    control = access.control
    tool: Callable[..., Any] = server.tool

    @tool(annotations=LOOKS)
    async def list_runs(
        context: Context[Any, Any],
        state: Annotated[str, Field(max_length=200, description="such as running or queued,failed")] = "",
        profile: Annotated[str, Field(max_length=64)] = "",
        q: Annotated[str, Field(max_length=200, description="a part of the name")] = "",
        limit: Annotated[int, Field(ge=1, le=200)] = 20,
        cursor: Annotated[str, Field(max_length=1000)] = "",
    ) -> answers.RunList:
        """Runs, the newest first."""
        async with access.call(context, "list_runs"):
            which = runs.RunFilter(state=state, profile=profile, q=q)
            page = await runs.listed(control, which, limit=limit, cursor=cursor or None)
            return answers.RunList(runs=[answers.of_run(run) for run in page.runs], next=page.next)

    @tool(annotations=LOOKS)
    async def run_status(context: Context[Any, Any], run: Name) -> answers.RunStatus:
        """How a run is: its phases, tasks, progress, error, and what may be done with it."""
        async with access.call(context, "run_status") as who:
            return answers.of_detail(await runs.detail(control, run, who))

    @tool(annotations=LOOKS)
    async def run_logs(
        context: Context[Any, Any],
        run: Name,
        task: Annotated[str, Field(max_length=200, description="only of this task")] = "",
        after: Annotated[
            int | None,
            Field(ge=0, description="`last` of the part before, 0 for the beginning; none: the newest"),
        ] = None,
        limit: Annotated[int, Field(ge=1, le=MOST_LINES, description="lines")] = 200,
    ) -> answers.Logs:
        """What a run has written: its newest lines, or those after a place."""
        async with access.call(context, "run_logs"):
            found = await runs.got(control, run)
            begin = max(0, found.last_seq - WINDOW) if after is None else after
            page = await events.page(control.database, run, begin, WINDOW, ("logs", "errors"))
            lines: list[str] = []
            last, more = found.last_seq, len(page) == WINDOW
            for event in page:
                said = _lines(event.data) if task in ("", event.task) else []
                if after is not None and lines and len(lines) + len(said) > limit:
                    last, more = event.seq - 1, True
                    break
                lines += [f"{event.task}: {line}" if event.task and not task else line for line in said]
                last = max(last, event.seq) if not more else event.seq
            text = await asyncio.to_thread(
                quoted, "\n".join(lines[-limit:] if after is None else lines), f"log of run {run}"
            )
            return answers.Logs(run=found.id, text=text, last=last, more=more)

    @tool(annotations=LOOKS)
    async def list_models(
        context: Context[Any, Any],
        phase: Annotated[str, Field(max_length=32)] = "",
        run: Name = "",
        tag: Annotated[str, Field(max_length=100)] = "",
        min_score: Annotated[float | None, Field(ge=0, le=1)] = None,
        order: catalogue.Order = "finished",
        limit: Annotated[int, Field(ge=1, le=200)] = 20,
        cursor: Annotated[str, Field(max_length=1000)] = "",
    ) -> answers.ModelList:
        """Models of the catalogue: what runs have made, the newest, the best or the largest first."""
        async with access.call(context, "list_models"):
            wanted = catalogue.Search(
                phase=phase, run=run, tag=tag, kind="model", min_score=min_score, order=order
            )
            page = await catalogue.search(control.database, wanted, limit, cursor)
            return answers.ModelList(
                models=[answers.of_model(model) for model in page.models], next=page.next or None
            )

    @tool(annotations=LOOKS)
    async def validate(
        context: Context[Any, Any],
        start_phase: PhaseName = "cognate",
        end_phase: PhaseName = "compression",
        profile: Annotated[str, Field(max_length=64)] = "",
        overrides: Words = [],  # noqa: B006 # a schema's default, never written
        base_models: Words = [],  # noqa: B006
        artifacts: Words = [],  # noqa: B006
    ) -> answers.Validity:
        """Whether a run would begin with these settings and models. Nothing is begun."""
        async with access.call(context, "validate"):
            asked = Asked(
                start_phase=start_phase, end_phase=end_phase, profile=profile, overrides=overrides,
                base_models=base_models, artifacts=artifacts,
            )  # fmt: skip
            try:
                await planned(control, asked)
            except ForgeError as error:
                issue = {"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}
                return answers.Validity(is_valid=False, issues=[cleaned(issue)])
            return answers.Validity(is_valid=True)

    @tool(annotations=LOOKS)
    async def plan(
        context: Context[Any, Any],
        start_phase: PhaseName = "cognate",
        end_phase: PhaseName = "compression",
        profile: Annotated[str, Field(max_length=64)] = "",
        overrides: Words = [],  # noqa: B006
        base_models: Words = [],  # noqa: B006
        artifacts: Words = [],  # noqa: B006
    ) -> answers.Plan:
        """What a run would do: its tasks, what earlier runs have of it, hours and memory. Nothing is begun."""
        async with access.call(context, "plan"):
            asked = Asked(
                start_phase=start_phase, end_phase=end_phase, profile=profile, overrides=overrides,
                base_models=base_models, artifacts=artifacts,
            )  # fmt: skip
            return plan_of(await planned(control, asked))


def plan_of(planned_run: Any) -> answers.Plan:
    """A plan as the tools say it."""
    return answers.Plan(
        **cleaned(
            {
                "name": planned_run.name,
                "profile": planned_run.profile,
                "tasks": {task.name: task.fate for task in planned_run.tasks},
                "ignored": planned_run.ignored,
            }
        ),
        seed=planned_run.seed,
        hours=planned_run.cost.hours,
        memory_bytes=planned_run.memory_bytes,
        gpus=planned_run.gpus,
    )


def _lines(data: dict[str, Any]) -> list[str]:
    """The lines of an event of a log, or what an error says."""
    if data.get("kind") == "log":
        return [str(line) for line in data.get("lines", [])]
    return [
        "error: " + " ".join(str(data[name]) for name in ("what", "where", "why", "fix") if data.get(name))
    ]
