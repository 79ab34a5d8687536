"""python -m pipelines.cli"""

from . import app

app()
