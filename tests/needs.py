"""A tool that a test needs and this machine lacks: a skip with its reason, or a failure where the tool was asked for.

`make test` runs everywhere and skips what it cannot run. `make chart-test` and `make images-test` are gates: they set
FORGE_REQUIRE_TOOLS=1, so that one which could not look at anything does not pass.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = "FORGE_REQUIRE_TOOLS"


def lacks(what: str, *, module: bool = False) -> NoReturn:
    """Ends the test, or the whole file.

    :param what: what is missing, such as `podman is not installed`.
    :param module: called while the file is imported.
    """
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{what} ({REQUIRED}=1: not skipped)", pytrace=False)
    pytest.skip(what, allow_module_level=module)
