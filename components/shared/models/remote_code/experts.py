"""Singular value fine-tuning: expert vectors (Transformer², Sun et al., arXiv 2501.06252).

A matrix W = U diag(σ) Vᵀ becomes W' = U diag(σ · z) Vᵀ; an expert is one z for each matrix that it changes. z
= 1 is the base up to rounding, `None` the base exactly. Gradients reach z where it asks for them.
"""

import hashlib

import torch
from torch import nn

SVDS: dict = {}  # sha256 of a weight → its U, σ, Vᵀ; the latest 512


def svd_of(weight):
    """Thin SVD of a matrix (out, in) in float32: U (out, r), σ (r), Vᵀ (r, in), kept by its content."""
    w = weight.detach().float()
    key = hashlib.sha256(
        f"{tuple(w.shape)}{w.device}".encode() + w.cpu().contiguous().numpy().tobytes()
    ).digest()
    if key not in SVDS:
        if len(SVDS) >= 512:
            SVDS.pop(next(iter(SVDS)))
        SVDS[key] = torch.linalg.svd(w, full_matrices=False)
    return SVDS[key]


def recompose(weight, z):
    """W (out, in), z (min(out, in)) → U diag(σ z) Vᵀ in W's dtype."""
    u, sigma, vt = svd_of(weight)
    if z.shape != sigma.shape:
        raise ValueError(
            f"z has shape {tuple(z.shape)}; a matrix {tuple(weight.shape)} takes {tuple(sigma.shape)}"
        )
    return ((u * (sigma * z)) @ vt).to(weight.dtype)


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
