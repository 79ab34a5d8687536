"""The tools that change something: run, cancel, resume, compress, evaluate. Each is called twice (confirmation.py)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field

from ..auth.rights import Principal
from ..services import actions, catalogue, evaluation, runs, submission
from ..services.planning import Asked, PhaseName, planned
from ..services.runs import Run
from . import answers, confirmation
from .access import Access
from .foreign import cleaned
from .looking import Name, Words, plan_of

BEGINS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
ENDS = ToolAnnotations(read_only_hint=False, destructive_hint=True, open_world_hint=False)

Confirmation = Annotated[
    str,
    Field(max_length=confirmation.LONGEST, description="empty for a preview; then what the preview gave"),
]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="of the catalogue")]


@dataclass(frozen=True)
class Wish:
    """A call that changes something.

    :param arguments: all of them but the confirmation.
    :param version: of the run that it is about; 0 where there is none yet.
    :param preview: what would be done, for whoever decides.
    :param act: does it.
    """

    tool: str
    arguments: dict[str, Any]
    version: int
    preview: Callable[[], Awaitable[dict[str, Any]]]
    act: Callable[[], Awaitable[Run | dict[str, Any]]]


async def decided(access: Access, who: Principal, wish: Wish, given: str) -> answers.Change:
    """The preview with its confirmation, or, with one, what was done."""
    control = access.control
    if not given:
        preview = cleaned(await wish.preview())
        fresh = await confirmation.issued(control, who, wish.tool, wish.arguments, wish.version)
        return answers.Change(
            done=False, preview=preview, confirmation=fresh, expires_in=int(confirmation.SECONDS)
        )
    await confirmation.redeemed(control, who, wish.tool, wish.arguments, wish.version, given)
    result = await wish.act()
    named = result.id if isinstance(result, Run) else str(wish.arguments.get("model", ""))
    await access.write_down(who, wish.tool, named, detail=cleaned(wish.arguments))
    if isinstance(result, Run):
        return answers.Change(done=True, run=answers.of_run(result))
    return answers.Change(done=True, result=cleaned(result))


def add(server: MCPServer[Any], access: Access) -> None:
    """Give a server these tools."""
    control = access.control
    tool: Callable[..., Any] = server.tool

    @tool(name="run", annotations=BEGINS)
    async def run_(
        context: Context[Any, Any],
        start_phase: PhaseName = "cognate",
        end_phase: PhaseName = "compression",
        without: Annotated[list[PhaseName], Field(max_length=8)] = [],  # noqa: B006
        profile: Annotated[str, Field(max_length=64, description="tiny, small or full")] = "",
        seed: Annotated[int | None, Field(ge=0, lt=1 << 63)] = None,
        overrides: Words = [],  # noqa: B006
        base_models: Words = [],  # noqa: B006
        artifacts: Words = [],  # noqa: B006
        name: Name = "",
        priority: Annotated[int, Field(ge=-10, le=10)] = 0,
        confirmation: Confirmation = "",
    ) -> answers.Change:
        """Start a run of phases. The first call shows the plan and gives a confirmation; the second one starts it."""
        async with access.call(context, "run") as who:
            asked = Asked(
                start_phase=start_phase, end_phase=end_phase, without=without, profile=profile, seed=seed,
                overrides=overrides, base_models=base_models, artifacts=artifacts, name=name, priority=priority,
            )  # fmt: skip
            return await decided(access, who, _begin("run", asked.model_dump(), asked, who), confirmation)

    @tool(annotations=BEGINS)
    async def compress(
        context: Context[Any, Any],
        model: Digest,
        profile: Annotated[str, Field(max_length=64)] = "",
        overrides: Words = [],  # noqa: B006
        name: Name = "",
        confirmation: Confirmation = "",
    ) -> answers.Change:
        """Compress a model of the catalogue by the phase compression, as a run. Called twice, as run."""
        async with access.call(context, "compress") as who:
            asked = Asked(
                start_phase="compression", end_phase="compression", profile=profile, overrides=overrides,
                artifacts=[model], name=name,
            )  # fmt: skip
            arguments = {"model": model, "profile": profile, "overrides": overrides, "name": name}
            return await decided(access, who, _begin("compress", arguments, asked, who), confirmation)

    @tool(annotations=ENDS)
    async def cancel(
        context: Context[Any, Any], run: Name, confirmation: Confirmation = ""
    ) -> answers.Change:
        """Stop a run; its phases write their checkpoints, and it can be resumed. Called twice."""
        async with access.call(context, "cancel") as who:
            found = await runs.detail(control, run, who)

            async def act() -> Run:
                return await actions.cancelled(control, who, run, found.version)

            wish = Wish("cancel", {"run": run}, found.version, _about(found, "cancel"), act)
            return await decided(access, who, wish, confirmation)

    @tool(annotations=BEGINS)
    async def resume(
        context: Context[Any, Any], run: Name, confirmation: Confirmation = ""
    ) -> answers.Change:
        """Go on with a run that failed, was cancelled or lost; what is done stays done. Called twice."""
        async with access.call(context, "resume") as who:
            found = await runs.detail(control, run, who)

            async def act() -> Run:
                states = ("failed", "cancelled", "lost")
                return await actions.resumed(control, who, run, found.version, only=states)

            wish = Wish("resume", {"run": run}, found.version, _about(found, "resume"), act)
            return await decided(access, who, wish, confirmation)

    @tool(annotations=BEGINS)
    async def evaluate(
        context: Context[Any, Any],
        model: Digest,
        items: Annotated[int, Field(ge=2, le=evaluation.MOST_ITEMS, description="of each suite")] = 64,
        seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0,
        confirmation: Confirmation = "",
    ) -> answers.Change:
        """Score a model of the catalogue on the project's suites, with intervals. Nothing is kept. Called twice."""
        async with access.call(context, "evaluate") as who:
            found = await catalogue.find(control.database, model)

            async def preview() -> dict[str, Any]:
                return {
                    "would": f"load this model on the server and score it on {items} items of each suite",
                    "model": answers.of_model(found).model_dump(),
                }

            async def act() -> dict[str, Any]:
                return {"scores": await evaluation.evaluated(control, model, items=items, seed=seed)}

            wish = Wish("evaluate", {"model": model, "items": items, "seed": seed}, 0, preview, act)
            return await decided(access, who, wish, confirmation)

    def _begin(name: str, arguments: dict[str, Any], asked: Asked, who: Principal) -> Wish:
        async def preview() -> dict[str, Any]:
            return {"would": "start this run", "plan": plan_of(await planned(control, asked)).model_dump()}

        async def act() -> Run:
            return await submission.submitted(control, who, asked)

        return Wish(name, arguments, 0, preview, act)


def _about(found: runs.RunDetail, action: str) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def preview() -> dict[str, Any]:
        allowed = found.actions[action]
        return {
            "would": f"{action} this run",
            "run": answers.of_run(found).model_dump(),
            "possible": "yes" if allowed.allowed else allowed.why,
        }

    return preview
