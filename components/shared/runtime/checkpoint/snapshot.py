"""What a training loop is made of, as one checkpoint: networks, optimisers, generators, and the phase's own state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import PhaseFailed
from ..ranks import group
from . import state_codec
from .checkpoints import Checkpoint, Checkpoints
from .state_codec import pack, unpack

SNAPSHOT = "__snapshot__"
"""In a checkpoint's state: what a Snapshot has packed, beside the phase's own."""
KINDS = ("modules", "optimizers", "generators", "random")


@dataclass
class Snapshot:
    """The state of a loop.

    :param modules: networks by name, saved by their state_dict.
    :param optimizers: optimisers, schedules and whatever else has state_dict and load_state_dict.
    :param own: "modules/<name>" and "optimizers/<name>" of which each rank has a shard; others are the same on all.
    :param generators: of torch, numpy or Python; the global ones are always saved.
    :param state: plain JSON of the phase: stage, histories, scores so far. Saved and restored with the rest.
    :param step: the step of the last save or restore: where the loop goes on.
    """

    modules: dict[str, Any] = field(default_factory=dict)
    optimizers: dict[str, Any] = field(default_factory=dict)
    generators: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    own: set[str] = field(default_factory=set)

    def save(self, checkpoints: Checkpoints, step: int) -> None:
        """Write the loop's state after `step` steps.

        :raises TypeError: a state holds what JSON and tensors cannot.
        """
        tensors: dict[str, torch.Tensor] = {}
        own_tensors: dict[str, torch.Tensor] = {}
        shared: dict[str, Any] = {}
        own: dict[str, Any] = {}
        many = group.world() > 1
        for kind, name, state in self._states():
            is_own = many and (kind in ("generators", "random") or f"{kind}/{name}" in self.own)
            into, where = (own, own_tensors) if is_own else (shared, tensors)
            into.setdefault(kind, {})[name] = pack(state, f"{kind}/{name}", where)
        for kind in KINDS:
            shared.setdefault(kind, {})
        whole = {**self.state, SNAPSHOT: shared}
        checkpoints.save(step, tensors, whole, (own_tensors, own) if many else None)
        self.step = step

    def _states(self) -> Iterator[tuple[str, str, Any]]:
        """Kind, name and state of all that is saved."""
        for name, module in self.modules.items():
            yield "modules", name, module.state_dict()
        for name, optimizer in self.optimizers.items():
            yield "optimizers", name, optimizer.state_dict()
        for name, generator in self.generators.items():
            yield "generators", name, state_codec.generator_state(generator)
        for name, value in state_codec.global_random().items():
            yield "random", name, value

    def restore(self, checkpoints: Checkpoints) -> bool:
        """Go back to the newest checkpoint. False, and nothing is changed, when there is none."""
        checkpoint = checkpoints.restore()
        if checkpoint is None:
            return False
        self.load(checkpoint)
        return True

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to this checkpoint, after a look at its `state` to see in which stage the phase was.

        :raises PhaseFailed: the checkpoint holds other modules, optimisers or generators.
        """
        packed = checkpoint.state.get(SNAPSHOT)
        if packed is None:
            raise PhaseFailed(
                "this checkpoint was not written by a Snapshot", where=f"step {checkpoint.step}"
            )
        packed = {kind: {**packed[kind], **checkpoint.own.get(kind, {})} for kind in KINDS}
        for kind in KINDS[:3]:
            expected, stored = set(getattr(self, kind)), set(packed[kind])
            if expected != stored:
                why = f"the phase has {sorted(expected)}, the checkpoint {sorted(stored)}"
                raise PhaseFailed(
                    f"the checkpoint holds other {kind}", where=f"step {checkpoint.step}", why=why
                )
        for name, module in self.modules.items():
            module.load_state_dict(unpack(packed["modules"][name], checkpoint.tensors))
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(unpack(packed["optimizers"][name], checkpoint.tensors))
        for name, generator in self.generators.items():
            state_codec.set_generator(generator, unpack(packed["generators"][name], checkpoint.tensors))
        state_codec.set_global_random(unpack(packed["random"], checkpoint.tensors))
        self.state.clear()
        self.state.update({key: value for key, value in checkpoint.state.items() if key != SNAPSHOT})
        self.step = checkpoint.step
