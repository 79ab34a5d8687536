"""When a phase has become slow: the one rule, for the report and for whoever alarms."""

from __future__ import annotations

WINDOW = 10
"""Executions that are the baseline, and that are compared with it."""

DEGRADED = 1.5


def degraded(executions: int, baseline: float, recent: float) -> bool:
    """Whether there were more than ten executions, and the last ten took over 1.5 times the baseline in the mean."""
    return executions > WINDOW and baseline > 0 and recent > DEGRADED * baseline
