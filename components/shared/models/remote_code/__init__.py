"""Modelling code that travels inside every artifact.

These files import only torch, transformers, numpy, safetensors, the standard library and each other
(relatively, from one flat folder), so that an artifact loads in plain transformers. A line that ends in `# if
NAME` travels only where the artifact needs NAME (`models/travelling_code.py`).
"""
