"""What the chart's tests share: helm, or a reason why there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs
from tests.chart import tools


@pytest.fixture(scope="session")
def helm() -> Path:
    """The real helm."""
    try:
        return tools.find("helm")
    except tools.Missing as missing:
        needs.lacks(str(missing))


@pytest.fixture(scope="session")
def kubectl() -> Path:
    """The real kubectl."""
    try:
        return tools.find("kubectl")
    except tools.Missing as missing:
        needs.lacks(str(missing))
