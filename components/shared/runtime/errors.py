"""Every error that the project raises on purpose: what went wrong, where, why, and what to do.

Each class has its own exit code, so that a pipeline or a shell sees the kind of failure without reading text.
"""

from __future__ import annotations

from typing import ClassVar


class ForgeError(Exception):
    """An error written for the person at the terminal.

    :param what: what went wrong, a clause without a full stop: "the artifact has no manifest".
    :param where: the file, key or address that it is about.
    :param why: the reason, or what was found in place of what was expected.
    :param fix: what to do about it.
    :param transient: whether the same work may well succeed when it is tried again in a while, with nothing
        changed: a store that does not answer, a process that was killed.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self, what: str, *, where: str = "", why: str = "", fix: str = "", transient: bool = False
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix
        self.transient = transient

    def __str__(self) -> str:
        text = self.what
        if self.where:
            text += f" [{self.where}]"
        if self.why:
            text += f": {self.why}"
        if not text.endswith((".", "!", "?")):
            text += "."
        if self.fix:
            text += f" What to do: {self.fix}"
            if not text.endswith((".", "!", "?")):
                text += "."
        return text


class ConfigError(ForgeError):
    """A setting is unknown, of the wrong type or out of range."""

    exit_code = 2


class ArtifactError(ForgeError):
    """An artifact is incomplete, damaged, unsafe or of another format."""

    exit_code = 3


class LostRace(ArtifactError):
    """Another writer published to the same target, or has claimed it."""

    exit_code = 4


class StoreError(ForgeError):
    """A store cannot be reached, refuses us, or does not do what we need."""

    exit_code = 5


class MissingKey(StoreError):
    """The store works, but holds nothing under this key."""


class DamagedObject(StoreError):
    """The store answers, and what it gives under this key is not what was stored."""


class InputError(ForgeError):
    """A phase was given something that it cannot work on."""

    exit_code = 6


class GateFailed(ForgeError):
    """A quality gate that stops the pipeline did not hold."""

    exit_code = 7


class UnsupportedPipeline(ForgeError):
    """A compiled pipeline uses a feature that cannot be run here."""

    exit_code = 8


class PhaseFailed(ForgeError):
    """A phase ended without a result."""

    exit_code = 9


class Interrupted(ForgeError):
    """The phase was asked to stop (SIGTERM) and has written its checkpoint; start it again to go on."""

    exit_code = 75
