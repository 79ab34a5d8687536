"""Layers that hold the stored code of their weight and decode it once, when it is first used.

`config.storage` says for each such module how its weight is stored, so that an empty layer of the right shape
is there before the weights are loaded:
    {"codec": "ternary", "shape": [out, in], "bytes": 1234}     and, where they differ from none:
    "transform": "hadamard", "slabs": true                      of the code (decoders.py)
    "bias": true, "activations": "int8", "norm": true           of the layer
"""

import torch
import torch.nn.functional as F
from torch import nn

from .decoders import decode
from .ternary import BitLinear, quantise_activations, straight_through


class Coded(nn.Module):
    """`code`: uint8 buffer, the stored bytes. `weight`: what they decode to, a constant in the layer's dtype.

    like: an empty buffer that is not stored; it has the dtype that the model was loaded in or moved to.
    """

    code: torch.Tensor
    like: torch.Tensor

    def __init__(self, spec, code=None, dtype=None):
        super().__init__()
        self.spec = {name: value for name, value in spec.items() if value not in (None, False)}
        code = torch.empty(spec["bytes"], dtype=torch.uint8) if code is None else code
        self.register_buffer("code", code)
        self.register_buffer("like", torch.empty(0, dtype=dtype), persistent=False)
        self.decoded = None

    @property
    def weight(self):
        """What the code decodes to: (out, in)."""
        if self.decoded is None:
            array = decode(self.spec, self.code.cpu().numpy())
            self.decoded = torch.from_numpy(array.copy()).to(self.code.device, self.like.dtype)
        return self.decoded

    def _apply(self, fn, recurse=True):
        self.decoded = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args, **kwargs):
        self.decoded = None
        super()._load_from_state_dict(*args, **kwargs)

    def extra_repr(self):
        """How the weight is stored, for printing."""
        return ", ".join(f"{name}={value}" for name, value in self.spec.items())


class CodedLinear(Coded):
    """y = x Wᵀ + b. With "activations": "int8" the same function as a BitLinear of full strength."""

    def __init__(self, spec, code=None, dtype=None):
        super().__init__(spec, code, dtype)
        self.out_features, self.in_features = spec["shape"]
        self.bias = nn.Parameter(torch.zeros(self.out_features, dtype=dtype)) if spec.get("bias") else None
        self.norm = nn.RMSNorm(self.in_features, 1e-6, dtype=dtype) if spec.get("norm") else None

    def forward(self, x):
        """Activations x (…, in) → (…, out)."""
        x = x if self.norm is None else self.norm(x)
        if self.spec.get("activations") == "int8":
            x = straight_through(x, quantise_activations)  # experts are trained through it
        weight = self.weight
        if not torch.is_autocast_enabled(x.device.type):  # which casts it itself
            weight = weight.to(x.dtype)
        return F.linear(x, weight, self.bias)


class CodedEmbedding(Coded):
    """Rows of a decoded matrix."""

    def __init__(self, spec, code=None, dtype=None):
        super().__init__(spec, code, dtype)
        self.num_embeddings, self.embedding_dim = spec["shape"]

    def forward(self, ids):
        """Token ids (…) → rows (…, embedding)."""
        return F.embedding(ids, self.weight).to(self.like.dtype)


def install(model, path, spec, code=None):
    """Put a coded layer in the place of the linear or embedding layer at `path`, keeping what stands around the weight.

    That is bias, input norm, int8 activations.

    code: uint8 tensor, or None to load it later. → the new layer.
    """
    parent, _, name = path.rpartition(".")
    old = model.get_submodule(path)
    dtype = old.like.dtype if isinstance(old, Coded) else old.weight.dtype
    if isinstance(old, (nn.Embedding, CodedEmbedding)):
        new: Coded = CodedEmbedding(spec, code, dtype)
    else:
        kept_parts: dict = {part: True for part in ("bias", "norm") if getattr(old, part, None) is not None}
        if isinstance(old, BitLinear) or getattr(old, "spec", spec).get("activations") == "int8":
            kept_parts["activations"] = "int8"
        new = CodedLinear(spec | kept_parts, code, dtype)
        for part in ("bias", "norm"):
            if part in kept_parts:
                setattr(new, part, getattr(old, part))
    setattr(model.get_submodule(parent), name, new)
    return new


def apply_storage(model, storage):
    """Empty coded layers for every path of `storage`, to be filled by loading."""
    for path, spec in storage.items():
        install(model, path, spec)
