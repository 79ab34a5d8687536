"""Ternary weights at inference: integer kernels in place of decoded weights."""
