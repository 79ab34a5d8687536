"""The one way to pick the device that a phase computes on."""

from __future__ import annotations

import os

import torch

from components.shared.runtime.errors import ConfigError

DEVICE = "FORGE_DEVICE"
"""The environment variable that overrides the choice: cpu, cuda, cuda:1, mps …"""


def device() -> torch.device:
    """The device to compute on: a CUDA GPU where there is one, else the CPU.

    Apple's GPU (MPS) is taken only where it is asked for: it knows no float64, in which losses are summed.

    :returns: the device that `FORGE_DEVICE` names where it is set; it must be there.
    :raises ConfigError: `FORGE_DEVICE` names no device, or one that this machine does not have.
    """
    name = os.environ.get(DEVICE, "").strip()
    if name:
        return _checked(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _checked(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"there is no device {name!r} here ({str(error).splitlines()[0]})",
            where=f"environment variable {DEVICE}",
            fix="use cpu, cuda, cuda:<number> or mps; or unset it: a GPU is taken where there is one",
        ) from error
    return device
