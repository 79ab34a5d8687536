"""The state of each phase in a memory server: entity `agent_forge.<phase>` of type `phase_state`, one observation a time.

The server's own create ignores a name that it has, without an error: the first state would stay for ever. So what is there
already gets an observation more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mcp import Client

from .servers import Away, called

TYPE = "phase_state"


def entity(phase: str) -> str:
    """The name of a phase's entity."""
    return f"agent_forge.{phase}"


async def persist_state(client: Client, phase: str, state: Mapping[str, Any]) -> None:
    """Add a phase's state.

    :raises Away: the server refuses, or does not keep it.
    """
    text = json.dumps(dict(state), sort_keys=True)
    name = entity(phase)
    if name in await _opened(client, [name]):
        await called(client, "add_observations", {"observations": [{"entityName": name, "contents": [text]}]})
    else:
        new = {"name": name, "entityType": TYPE, "observations": [text]}
        await called(client, "create_entities", {"entities": [new]})
    if text not in (await _opened(client, [name])).get(name, []):
        raise Away("the memory server has not kept what it was given", where=name)


async def recalled(client: Client, phases: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The newest state of each phase, of those that have one.

    :raises Away: the server refuses.
    """
    found = await _opened(client, [entity(phase) for phase in phases])
    states: dict[str, dict[str, Any]] = {}
    for phase in phases:
        for text in reversed(found.get(entity(phase), [])):
            try:
                state = json.loads(text)
            except ValueError:  # somebody else has written there, too
                continue
            if isinstance(state, dict):
                states[phase] = state
                break
    return states


async def _opened(client: Client, names: Sequence[str]) -> dict[str, list[str]]:
    """The observations of entities, the oldest first; of those that there are."""
    graph = await called(client, "open_nodes", {"names": list(names)})
    try:
        return {
            str(node["name"]): [str(text) for text in node["observations"]]
            for node in graph["entities"]
            if node["entityType"] == TYPE
        }
    except (KeyError, TypeError) as error:
        raise Away("the memory server answers with something else than entities", why=repr(error)) from error
