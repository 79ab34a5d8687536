"""The API's description, as JSON: what the page's types are made of.

    python -m pipelines.control.api.openapi > pipelines/control/dashboard/openapi.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ..settings import ControlSettings
from .app import application


def description() -> dict[str, Any]:
    """The description of every route."""
    return application(ControlSettings()).openapi()


if __name__ == "__main__":
    json.dump(description(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
