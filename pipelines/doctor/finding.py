"""What was found: one line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report: ok, warn (it works, but) or fail (a run would not)."""

    verdict: Literal["ok", "warn", "fail"]
    what: str
    found: str
    fix: str = ""
