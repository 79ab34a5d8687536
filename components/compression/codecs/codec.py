"""What a codec says of itself, and the ways in which codes are put together: transforms, slabs and chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CodecPreset:
    """A codec with its settings, under the name by which a tensor may be given it.

    :param bits: what a code costs a weight of a large normal matrix after entropy coding, codebooks aside; it only decides
        what is worth trying. What a code really costs is measured.
    :param transform: what the weights go through before they are encoded.
    """

    name: str
    codec: str
    bits: float
    settings: Mapping[str, float] = field(default_factory=dict)
    transform: str | None = None

    @property
    def family(self) -> str:
        """What presets that differ in their rate alone have in common: the codec, and a transform that their names have.

        One that their names do not have is the codec's own way: it is never without it.
        """
        named = self.transform is not None and self.name.startswith(f"{self.transform} ")
        return f"{self.transform} {self.codec}" if named else self.codec


@dataclass(frozen=True)
class Codec:
    """A codec: its encoder and its presets. A module of codecs/ lists its codecs as CODECS.

    :param encode: encode(w, **settings) → bytes, or with `hessian` encode(w, hessian, **settings); w (out, in) float32.
    :param decoder: NAME of the remote_code/decode_NAME.py that reads its codes; the codec's own name where none is given.
    :param hessian: whether the encoder looks at the layer's Hessian (in, in).
    :param seed: whether the encoder takes a keyword `seed`.
    :param importance: whether it takes a keyword `importance`, (out,): what errors in each row weigh.
    :param codebook_bytes: settings → bytes of what a code holds once, however many weights it has.
    :param lossless: it has codes for some tensors only, and loses nothing there: offered where it fits, never asked for.
    """

    name: str
    title: str
    paper: str
    encode: Callable[..., bytes]
    presets: tuple[CodecPreset, ...]
    decoder: str = ""
    hessian: bool = False
    seed: bool = False
    importance: bool = False
    codebook_bytes: Callable[[Mapping[str, Any]], int] = lambda settings: 0
    lossless: bool = False


@dataclass(frozen=True)
class Transform:
    """A change of the weights in front of any codec. A module of codecs/ lists its transforms as TRANSFORMS.

    :param encode: encode(w, hessian, inner, seed=…) → bytes, `inner` being (w, hessian) → the code of transformed weights.
        remote_code/transform_NAME.py reads it.
    """

    name: str
    title: str
    paper: str
    encode: Callable[..., bytes]


@dataclass(frozen=True)
class Chain:
    """Presets one after the other, each at work on what the one before decodes to. Only the last one's code is stored."""

    presets: tuple[str, ...]

    def __str__(self) -> str:
        return " → ".join(self.presets)


Code = str | Chain
"""What a tensor is encoded by: a preset, by its name, or a chain of presets."""


def presets_of(code: Code) -> tuple[str, ...]:
    """The names of the presets that a code is made by, in their order."""
    return code.presets if isinstance(code, Chain) else (code,)


def chain_of(presets: tuple[str, ...]) -> Code:
    """The code that these presets make one after the other; of one preset its name."""
    return presets[0] if len(presets) == 1 else Chain(presets)


@dataclass(frozen=True)
class CodeFormat:
    """How a code is read: the words of an artifact's `config.storage` (remote_code/decoders.py).

    :param slabs: whether it is one of slabs of rows, each with a code of its own.
    """

    codec: str
    transform: str | None = None
    slabs: bool = False

    def spec(self) -> dict[str, Any]:
        """What stands in `config.storage`; nothing of what there is not."""
        optional = {"transform": self.transform, "slabs": self.slabs}
        return {"codec": self.codec} | {name: value for name, value in optional.items() if value}
