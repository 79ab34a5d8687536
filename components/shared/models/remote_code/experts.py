"""Singular value fine-tuning: expert vectors (Transformer², Sun et al., arXiv 2501.06252).

A matrix W = U diag(σ) Vᵀ becomes W' = U diag(σ · z) Vᵀ; an expert is one z for each matrix that it changes. z
= 1 is the base up to rounding, `None` the base exactly. Gradients reach z where it asks for them.
"""

import hashlib

import torch
from torch import nn

SVDS: dict = {}  # sha256 of a weight → its U, σ, Vᵀ in host memory; the latest 512


def svd_of(weight):
    """Thin SVD of a matrix (out, in) in float32: U (out, r), σ (r), Vᵀ (r, in), kept by its content.

    They take more room than the weights do. So they lie in host memory, and a GPU sees those of one matrix at a time.
    """
    w = weight.detach().float()
    content = hashlib.sha256(f"{tuple(w.shape)}{w.device}".encode())
    content.update(w.cpu().contiguous().numpy())
    key = content.digest()
    if key not in SVDS:
        if len(SVDS) >= 512:
            SVDS.pop(next(iter(SVDS)))
        SVDS[key] = tuple(part.cpu() for part in torch.linalg.svd(w, full_matrices=False))
    return SVDS[key]


class Recomposed(torch.autograd.Function):
    """z (r) → U diag(σ z) Vᵀ; the backward pass fetches the factors again."""

    @staticmethod
    def forward(ctx, z, factors, dtype):
        """The matrix (out, in) in a dtype, computed in float32 on z's device."""
        ctx.factors = factors
        with torch.autocast(z.device.type, enabled=False):  # in fewer bits z = 1 would not be the base
            u, sigma, vt = (part.to(z.device) for part in factors)
            return ((u * (sigma * z)) @ vt).to(dtype)

    @staticmethod
    def backward(ctx, gradient):
        """The gradient goes to z alone."""
        with torch.autocast(gradient.device.type, enabled=False):
            u, sigma, vt = (part.to(gradient.device) for part in ctx.factors)
            towards = (vt @ gradient.float().mT).mT  # of U diag(σ z), laid out as U is
            return towards.mul_(u).sum(0) * sigma, None, None


def recompose(weight, z):
    """W (out, in), z (min(out, in)) → U diag(σ z) Vᵀ in W's dtype, under autocast in the one that layers compute in."""
    factors, kind = svd_of(weight), weight.device.type
    if z.shape != factors[1].shape:
        raise ValueError(
            f"z has shape {tuple(z.shape)}; a matrix {tuple(weight.shape)} takes {tuple(factors[1].shape)}"
        )
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    return Recomposed.apply(z, factors, dtype)


def set_expert(model, z):
    """Make the model an expert: z is {module path: vector} or None for the base, which comes back exactly.

    The new weights carry z's graph: to train z, set the expert anew before each forward pass.
    """
    for module in model.modules():
        base = module.__dict__.pop("_base", None)
        if base is None:
            continue
        if isinstance(base, nn.Parameter):
            del module.weight
            module.register_parameter("weight", base)
        else:
            module.decoded = base
    for path, vector in (z or {}).items():
        module = model.get_submodule(path)
        weight = module.weight
        if hasattr(module, "strength"):
            raise ValueError(
                f"{path} is being trained through its quantisation: load the model with trainable=False"
            )
        new = recompose(weight, vector.to(weight.device))
        module.__dict__["_base"] = weight
        if isinstance(weight, nn.Parameter):
            del module.weight
            module.weight = new
        else:
            module.decoded = new
