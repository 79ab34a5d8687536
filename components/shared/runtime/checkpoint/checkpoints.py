"""Checkpoints: a phase can be killed at any moment and started again, and ends with the same result.

A checkpoint is a directory `<identity>/000003-step-00000120/` in a store, numbered in the order of writing:
`tensors.safetensors`, then `state.json`, which is written last, all or nothing, and holds the sha256 of the
tensors and its own. Without a whole `state.json` there is no checkpoint. The last two are kept: where the newest is
damaged, the one before it is used, and that is said aloud; a store that cannot be reached is an error. Work whose
results add up writes each once, as a part of its own (`append`, `parts`). Nothing is pickled.

Of a group of ranks (../ranks/group.py) each writes what is its own to `rank-00001.safetensors`, its packed state in the
file's metadata, and rank 0 what all share and, last, `state.json` with everyone's sha256. All methods are called by all
ranks together; a checkpoint is whole when it is so for every one of them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from typing_extensions import TypedDict

from .. import stopping
from ..errors import DamagedObject, Interrupted, MissingKey, PhaseFailed
from ..ranks import group
from ..store import sealed_json
from ..store.folder import FolderStore
from ..store.interface import Store
from ..store.uri import open_store
from ..tracking import curves
from . import state_codec

FORMAT = 1
STATE = "state.json"
TENSORS = "tensors.safetensors"
SAVE_INTERVAL_FACTOR = 10
"""Between two checkpoints lies at least this many times the seconds that the last one took."""


class Header(TypedDict):
    """What `state.json` holds beside its seal."""

    format: int
    identity: str
    step: int
    sha256: str
    same: dict[str, str]
    state: dict[str, Any]
    mark: int
    ranks: NotRequired[list[str]]
    """The sha256 of each rank's own file, where ranks wrote it."""


Own = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]
"""What is a rank's own: tensors by name, and plain JSON."""


def header_of(text: bytes) -> Header:
    """What a `state.json` holds.

    :raises ValueError: it is damaged, or of another format.
    """
    header = TypeAdapter(Header).validate_python(sealed_json.decode(text), strict=True)
    if header["format"] != FORMAT:
        raise ValueError(f"it has format {header['format']}, and this version reads {FORMAT}")
    return header


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: its step, its tensors by name, its state, plain JSON, and the bytes of metrics.jsonl then.

    own: the same of this rank alone, plain JSON whose tensors are in `tensors`.
    """

    step: int
    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]
    mark: int = 0
    own: dict[str, Any] = field(default_factory=dict)


class Checkpoints:
    """The checkpoints of one piece of work.

    :param store_uri: a folder or s3://bucket/prefix.
    :param identity: digest of all that determines the result; checkpoints of another identity are not seen.
    :param keep: how many of the newest stay.
    :param every: seconds between two checkpoints.
    :param say: where a damaged checkpoint is reported.
    :param metrics: the phase's metrics.jsonl: copied to a bucket with each checkpoint, and restored with it.
    """

    def __init__(
        self,
        store_uri: str,
        identity: str,
        keep: int = 2,
        every: float = 30.0,
        say: Callable[[str], None] = print,
        metrics: Path | None = None,
    ) -> None:
        self.uri = f"{store_uri.rstrip('/')}/{identity[:16]}"
        self.identity = identity
        self.keep = keep
        self.every = every
        self.say = say
        self.metrics = metrics
        self.rewound = False
        self.last = time.monotonic()
        self.cost = 0.0
        self.number = 0
        self._stop = False
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """Opened on first use: a phase too short for checkpoints needs no store."""
        self._store = self._store or open_store(self.uri)
        return self._store

    def due(self) -> bool:
        """True when it is time for a checkpoint: the interval has passed, or SIGTERM arrived; here or in another rank."""
        pause = max(self.every, SAVE_INTERVAL_FACTOR * self.cost)
        stop, late = group.most(
            [float(stopping.stop_requested()), float(time.monotonic() - self.last >= pause)]
        )
        self._stop = bool(stop)
        return bool(stop or late)

    def stop_if_asked(self) -> None:
        """Call right after `save`.

        :raises Interrupted: SIGTERM has come.
        """
        if stopping.stop_requested() if group.world() == 1 else self._stop:
            raise Interrupted(
                "stopped as asked; a checkpoint is written", where=self.uri, fix="start it again to go on"
            )

    def save(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
        own: Own | None = None,
    ) -> None:
        """Write a checkpoint, all or nothing, and delete all but the last `keep`.

        :param state: plain JSON with string keys. Floats survive exactly.
        :param own: of this rank, beside what all ranks share.
        :raises TypeError: the state holds something that JSON cannot hold unchanged.
        """
        began = time.monotonic()
        self.append(step, tensors, state, own)
        if group.rank() == 0:
            self._prune()
        self.last = time.monotonic()
        self.cost = self.last - began

    def append(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
        own: Own | None = None,
    ) -> None:
        """Write a part: like `save`, but whatever was written before stays. `parts` reads them all."""
        began = time.monotonic()
        state_codec.require_plain(state, "state")
        name = f"{self._next():06d}-step-{step:08d}"
        ranks = self._put_own(name, *own) if own is not None else []
        if group.rank() == 0:
            digest, same = self._put_tensors(f"{name}/{TENSORS}", tensors)
            header = Header(
                format=FORMAT,
                identity=self.identity,
                step=step,
                sha256=digest,
                same=same,
                state=dict(state),
                mark=curves.mark(self.metrics) if self.metrics is not None else 0,
            )
            if ranks:
                header["ranks"] = ranks
            self.put_metrics()
            self.store.put(f"{name}/{STATE}", sealed_json.encode(header))
        group.barrier()
        self.last = time.monotonic()
        self.cost = self.last - began

    def _put_own(self, name: str, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> list[str]:
        """Write this rank's file. The digests of all ranks' files."""
        state_codec.require_plain(state, "the rank's state")
        digest, _ = self._put_tensors(f"{name}/{_rank_file(group.rank())}", tensors, state)
        return [each.hex() for each in group.gathered(bytes.fromhex(digest))]

    def _put_tensors(
        self, key: str, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any] | None = None
    ) -> tuple[str, dict[str, str]]:
        """Write a file of tensors. Its digest, and which tensors are stored under another's name."""
        stored, same = state_codec.unshared(tensors)
        metadata = None if state is None else {"state": json.dumps(state), "same": json.dumps(same)}
        with tempfile.TemporaryDirectory(prefix="forge-checkpoint-", dir=self._scratch()) as folder:
            path = Path(folder) / TENSORS
            save_file(stored, path, metadata)
            digest = state_codec.sha256(path)
            self.store.put(key, path)
        return digest, same

    def restore(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None. A damaged one is reported and the one before it is tried."""
        for checkpoint in self._undamaged(reversed(self._names())):
            self._rewind_metrics(checkpoint)
            self.last = time.monotonic()
            self.say(f"going on from the checkpoint at step {checkpoint.step}")
            return checkpoint
        return None

    def parts(self) -> Iterator[Checkpoint]:
        """All that `append` wrote, one by one in the order of writing. A damaged part is reported and left out."""
        part = None
        for part in self._undamaged(self._names()):
            yield part
        if part is not None:
            self._rewind_metrics(part)
        self.last = time.monotonic()

    def put_metrics(self) -> str:
        """Copy metrics.jsonl beside the checkpoints in a bucket. Its address, "" where there is nothing to copy."""
        in_bucket = "://" in self.uri
        return curves.copy(self.metrics, self.store) if self.metrics is not None and in_bucket else ""

    def _rewind_metrics(self, checkpoint: Checkpoint) -> None:
        """Have the metrics as they were at this checkpoint, once: what this process has measured since is its own."""
        if self.metrics is not None and not self.rewound and not self.number:
            self.rewound = True
            curves.go_back(self.metrics, checkpoint.mark, self.store)

    def _names(self) -> list[str]:
        """Of checkpoints with a state, in the order of writing."""
        keys = (stored.key for stored in self.store.list())
        return sorted({key.rsplit("/", 1)[0] for key in keys if key.endswith(f"/{STATE}")})

    def _undamaged(self, names: Iterable[str]) -> Iterator[Checkpoint]:
        names = list(names)
        group.barrier()  # nobody writes before everybody has seen the same
        for name in names:
            checkpoint, damage = None, "another rank cannot read its part"
            try:
                checkpoint = self._read(name)
            except (ValueError, KeyError, MissingKey, DamagedObject, SafetensorError) as error:
                damage = str(error)
            if group.any_of(checkpoint is None) or checkpoint is None:
                self.say(f"the checkpoint {self.uri}/{name} is damaged and is left out: {damage}")
                continue
            yield checkpoint

    def clear(self) -> None:
        """Delete all checkpoints of this identity."""
        group.barrier()
        if group.rank() == 0:
            self._delete_all()
        group.barrier()

    def _delete_all(self) -> None:
        keys = [stored.key for stored in self.store.list()]
        for key in sorted(keys, key=lambda key: not key.endswith(STATE)):
            self.store.delete(key)
        if "://" not in self.uri:
            shutil.rmtree(self.uri, ignore_errors=True)

    def _read(self, name: str) -> Checkpoint:
        header = header_of(self.store.get(f"{name}/{STATE}"))
        if header["identity"] != self.identity:
            raise ValueError("it belongs to other work")
        tensors, _ = self._tensors(name, TENSORS, header["sha256"])
        tensors.update({copy: tensors[original] for copy, original in header["same"].items()})
        own: dict[str, Any] = {}
        if ranks := header.get("ranks"):
            if len(ranks) != group.world():
                raise PhaseFailed(
                    f"the checkpoint was written by {len(ranks)} ranks, and there are {group.world()}",
                    where=f"{self.uri}/{name}",
                    why="each rank has a shard of its own, and they fit together in one way",
                    fix=f"start {len(ranks)} ranks (engine.processes), or delete the checkpoints to begin anew",
                )
            shard, metadata = self._tensors(name, _rank_file(group.rank()), ranks[group.rank()])
            same: dict[str, str] = json.loads(metadata["same"])
            shard.update({copy: shard[original] for copy, original in same.items()})
            tensors.update(shard)
            own = json.loads(metadata["state"])
        return Checkpoint(header["step"], tensors, header["state"], header["mark"], own)

    def _tensors(self, name: str, file: str, sha256: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """The tensors of a file of a checkpoint, and its metadata."""
        with tempfile.TemporaryDirectory(prefix="forge-checkpoint-") as folder:
            path = Path(self.uri) / name / file
            if "://" in self.uri:
                path = Path(folder) / file
                self.store.fetch(f"{name}/{file}", path)
            if FolderStore(path.parent).sha256(file) != sha256:
                raise ValueError(f"{file} is not what {STATE} says")
            with safe_open(path, "pt") as opened:
                metadata: dict[str, str] = opened.metadata() or {}
            # Copied out of the file's pages, so that the file may go while the tensors stay.
            return {key: tensor.clone() for key, tensor in load_file(path).items()}, metadata

    def _next(self) -> int:
        """The next number in the order of writing: steps may begin again in another stage of the phase."""
        if self.number == 0:
            self.number = max(
                (int(stored.key[:6]) for stored in self.store.list() if stored.key[:6].isdigit()), default=0
            )
        self.number = int(group.most([self.number + 1])[0])
        return self.number

    def _prune(self) -> None:
        names: dict[str, list[str]] = {}
        for stored in self.store.list():
            if "/" in stored.key:  # metrics.jsonl stays
                names.setdefault(stored.key.rsplit("/", 1)[0], []).append(stored.key)
        complete = sorted(name for name, keys in names.items() if f"{name}/{STATE}" in keys)
        newest = set(complete[-self.keep :])
        for name, keys in names.items():
            if name not in newest:
                for key in sorted(keys, key=lambda key: not key.endswith(STATE)):
                    self.store.delete(key)
                if "://" not in self.uri:
                    shutil.rmtree(Path(self.uri) / name, ignore_errors=True)

    def _scratch(self) -> str | None:
        if "://" in self.uri:
            return None
        Path(self.uri).mkdir(parents=True, exist_ok=True)
        return self.uri


def _rank_file(number: int) -> str:
    return f"rank-{number:05d}.safetensors"
