"""A finished run's settings and report, given away: as files in a root, or as a commit with a tag and a release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from mcp import Client

from .servers import Away, Filesystem, Github, called, offered

Contents = Mapping[str, str]
"""Texts by the name of their file."""


async def to_files(client: Client, server: Filesystem, run: str, files: Contents) -> list[str]:
    """Write them to `<root>/<run>/` by a filesystem server, which refuses what lies outside of its own roots.

    :returns: their paths.
    :raises Away: it refuses.
    """
    folder = PurePosixPath(server.root.absolute()) / run
    await called(client, "create_directory", {"path": str(folder)})
    for name, text in files.items():
        await called(client, "write_file", {"path": str(folder / name), "content": text})
    return [str(folder / name) for name in files]


async def to_github(client: Client, server: Github, run: str, files: Contents, summary: str) -> list[str]:
    """Commit them below `<folder>/<run>/`, and tag and release that where the server has tools for it.

    :param summary: a line for the commit and the release.
    :returns: what was made: commit, tag, release.
    :raises Away: it refuses.
    """
    tools = await offered(client)
    owner, _, name = server.repository.partition("/")
    where = {"owner": owner, "repo": name}
    if "push_files" not in tools:
        raise Away("the server github cannot commit", why="it has no tool push_files")
    pushed = [{"path": f"{server.folder}/{run}/{file}", "content": text} for file, text in files.items()]
    message = f"Run {run}: {summary}"
    await called(
        client, "push_files", {**where, "branch": server.branch, "files": pushed, "message": message}
    )
    made = ["commit"]
    tag = f"forge/{run}"
    if server.tag_tool in tools:
        await called(client, server.tag_tool, {**where, "tag": tag, "message": message})
        made.append("tag")
    if server.release_tool in tools:
        await called(
            client, server.release_tool, {**where, "tag_name": tag, "name": f"Run {run}", "body": summary}
        )
        made.append("release")
    return made
