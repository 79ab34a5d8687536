"""The API's description as the page needs it: what its types are made of, `npm run types` in pipelines/control/dashboard.

    python -m pipelines.control.api.openapi > pipelines/control/dashboard/openapi.json

Of the answers only those that are a success: every other one is a `Problem`, which the page knows.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ..settings import ControlSettings
from .app import application


def description() -> dict[str, Any]:
    """The description of every route, in the order of the alphabet."""
    whole = application(ControlSettings()).openapi()
    for methods in whole["paths"].values():
        for operation in methods.values():
            responses = operation["responses"]
            operation["responses"] = {status: responses[status] for status in responses if status[0] in "23"}
    return {**whole, "paths": dict(sorted(whole["paths"].items()))}


if __name__ == "__main__":
    json.dump(description(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
