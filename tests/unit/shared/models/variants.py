"""Small Cognates of every variant for the tests of this folder."""

import torch

from components.shared.models.build import build
from components.shared.models.remote_code.configuration_cognate import CognateConfig

VARIANTS = {
    "standard": {},
    "memory": {"memory": True},
    "reasoning": {"refinement": True},
    "union": {"memory": True, "refinement": True, "num_key_value_heads": 2},
}


def cognate(variant="standard", *, open_gates=True, **settings):
    """A small model with random weights everywhere, gates, norms and rates too."""
    shape = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "memory_size": 16,
        "refinement_size": 24,
        "memory_chunk": 8,
    }
    model = build(CognateConfig(**shape | VARIANTS[variant] | settings), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if open_gates or not name.endswith("gate"):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def some_ids(batch, length, seed=0):
    return torch.randint(0, 256, (batch, length), generator=torch.Generator().manual_seed(seed))


def assert_close(ours, theirs):
    """Equal up to float32 rounding through a whole network; logits are of order 10 here."""
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=3e-4)
