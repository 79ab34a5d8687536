"""`forge dashboard`: the page and everything behind it, in one process on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..options import Runs, say


def dashboard(
    runs: Runs = Path("runs"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8083,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Open the page on which runs are seen, started, stopped and understood.

    \b
    forge dashboard
    forge dashboard --port 0 --no-browser --runs /data/runs

    Everything is in this one process, on 127.0.0.1. The link that it prints signs in once, within ten minutes.
    Runs go on when it ends, and are there again when it starts.
    """
    from . import serving

    serving.need_packages()
    import logging
    import threading
    import webbrowser

    from ...control.settings import from_environment

    settings = from_environment(role="all", host="127.0.0.1", port=port, runs=runs)
    serving.log_to_stderr(logging.WARNING, requests=False)

    def greet(address: str, link: str) -> None:
        say(f"the page: {link or address}")
        if browser:
            threading.Thread(target=webbrowser.open, args=[link or address], daemon=True).start()

    serving.serve(settings, greet=greet, every_start=True)
