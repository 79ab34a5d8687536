"""The command as a module: `python -m pipelines.cli`."""

from ..cli import app

app()
