"""python -m pipelines.cli"""

from ..cli import app

app()
