"""The terms of a phase's memory, each a formula of the model's shape and of the settings; bytes everywhere.

What is on the device is also the process's own memory where the device is the CPU. Constants that a program's libraries set
(activations kept for each layer, what importing them takes) were fitted to measured peaks: docs/costs.md has the table and
the command.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from components.shared.training.settings import EngineSettings

from .shape import ModelShape

GIB = 1 << 30
PROCESS = int(1.0 * GIB)
"""Python with torch, transformers and MLflow loaded, before a model is."""
CONTEXT = int(1.0 * GIB)
"""CUDA's context and what its libraries allocate of a GPU."""
CHUNK = 1 << 22
"""Logits in memory at a time (shared/training/head.py)."""
CHUNK_COPIES = 3
"""Of a chunk's logits: themselves, their log-softmax, their gradient."""
KEPT_HIDDEN, KEPT_INNER = 13, 4
"""Numbers that the backward pass of a layer keeps of a token: so many hidden widths, so many MLP widths."""


@dataclass
class Terms:
    """What a phase holds at its heaviest.

    :param device: name → bytes on the device that computes.
    :param host: name → bytes beside it in host memory; where the device is the CPU both are.
    """

    device: dict[str, int] = field(default_factory=dict)
    host: dict[str, int] = field(default_factory=dict)

    def put(self, name: str, size: float, *, host: bool = False) -> None:
        """Add a term; one of nothing is left out."""
        where = self.host if host else self.device
        if size > 0:
            where[name] = where.get(name, 0) + int(size)

    def at_least(self, name: str, size: float, *, host: bool = False) -> None:
        """Another moment at which so much is there in all: what it takes beyond the heaviest one is a term of that name."""
        where = self.host if host else self.device
        self.put(name, size - sum(where.values()), host=host)

    def on_cpu(self, processes: int = 1) -> int:
        """Peak of all processes of a machine where the CPU computes."""
        return processes * (PROCESS + sum(self.device.values()) + sum(self.host.values()))

    def on_gpu(self) -> tuple[int, int]:
        """Peaks of the process and of its GPU."""
        return PROCESS + sum(self.host.values()), CONTEXT + sum(self.device.values())


def bytes_of(engine: EngineSettings, *, gpu: bool) -> int:
    """Bytes of a number in forward and backward passes."""
    return 2 if engine.precision == "bfloat16" or (engine.precision == "auto" and gpu) else 4


def processes(engine: EngineSettings, gpus: int) -> int:
    """Ranks of one machine: `auto` is one for each of its GPUs."""
    return max(1, gpus) if engine.processes == "auto" else engine.processes


def learner(terms: Terms, shape: ModelShape, engine: EngineSettings, optimizer: str, gpus: int = 0) -> None:
    """A model that learns: weights, gradients, optimiser states, all float32; or adapters on weights that are frozen.

    Shards are of a loop alone. Before and after it each rank has the whole model, float32, on its device.
    """
    parameters, matrices = shape.parameters, shape.matrices
    if engine.adapter != "none":
        low = adapters(shape, engine.adapter_rank)
        terms.put("weights", parameters * (0.6 if engine.adapter == "qlora" else 4))
        terms.put("weights of more than 4 bits", 4 * matrices if engine.adapter == "qlora" else 0, host=True)
        terms.put("adapters, their gradients and states", 16 * low)
        return
    strategy, offload, shards = engine.strategy, engine.offload, processes(engine, gpus) * engine.nodes
    moments = (
        4 * matrices + 8 * (parameters - matrices) if optimizer.startswith("muon") else 8 * parameters
    ) * (engine.optimizer_bits / 32)
    cut = strategy in ("fsdp", "zero3")
    terms.put("weights", 4 * parameters / (shards if cut else 1), host=offload and cut)
    shared = strategy in ("fsdp", "zero2", "zero3")
    terms.put("gradients", 4 * parameters / (shards if shared else 1), host=offload and shared)
    if strategy == "zero1" and offload:  # they stay whole on the device, and a rank's part goes to its states
        terms.put("gradients beside the states", 4 * parameters / shards, host=True)
    terms.put("optimiser states", moments / (1 if strategy in ("single", "ddp") else shards), host=offload)
    if strategy in ("zero1", "zero2") or (strategy == "zero3" and offload):
        terms.put("DeepSpeed's own copy of the weights", 4 * parameters / shards, host=offload)
    if strategy == "zero3" and offload:
        terms.put("DeepSpeed's second buffer of gradients", 4 * parameters / shards, host=True)
    if cut:
        if offload:  # the layers that compute are fetched, two at a time
            terms.put(
                "layers on the device",
                2 * 4 * (parameters - shape.embeddings) / shape.layers + 4 * shape.embeddings,
            )
        terms.at_least("the whole model, between loops", 4 * parameters)


def casts(terms: Terms, shape: ModelShape, engine: EngineSettings, *, gpu: bool, learns: bool = True) -> None:
    """Weights in bfloat16 beside those in float32: autocast keeps them through a pass where they learn.

    :param learns: the weights do; else the backward pass keeps those of each layer that it comes to.
    """
    if bytes_of(engine, gpu=gpu) == 2:
        layers = shape.layers if engine.gradient_checkpointing else 1
        terms.put(
            "weights in bfloat16 for a pass",
            2 * shape.parameters
            if learns and engine.strategy in ("single", "ddp")
            else 2 * shape.matrices / layers,
        )


def adapters(shape: ModelShape, rank: int) -> int:
    """Weights of low-rank changes of all projections."""
    attention = 2 * (shape.hidden + shape.heads * shape.head) + 2 * (
        shape.hidden + shape.kv_heads * shape.head
    )
    mlp = shape.experts * (3 if shape.gated else 2) * (shape.hidden + shape.inner)
    return rank * shape.layers * (attention + mlp)


def activations(
    terms: Terms,
    shape: ModelShape,
    engine: EngineSettings,
    rows: int,
    tokens: int,
    *,
    gpu: bool,
    name: str = "activations",
) -> None:
    """What a forward pass keeps for the backward pass of `rows` rows of `tokens` tokens."""
    size, count = bytes_of(engine, gpu=gpu), rows * tokens
    layer = count * size * (KEPT_HIDDEN * shape.hidden + KEPT_INNER * shape.inner * shape.active)
    if engine.gradient_checkpointing:
        terms.put(name, layer + count * size * shape.hidden * shape.layers)
    else:
        terms.put(name, layer * shape.layers)


def logits(terms: Terms, shape: ModelShape, labels: int, *, copies: int = CHUNK_COPIES) -> None:
    """Logits of `labels` positions, a chunk at a time, float32."""
    terms.put("logits of a chunk", 4 * copies * min(labels * shape.vocabulary, max(CHUNK, shape.vocabulary)))


def inference(terms: Terms, shape: ModelShape, tokens: int, *, size: int = 4) -> None:
    """Tokens that pass together without gradients: one layer's numbers, the key-value cache, the logits of a chunk."""
    terms.put("one layer's numbers", tokens * size * (8 * shape.hidden + 3 * shape.inner))
    terms.put("key-value cache", tokens * size * shape.kv)
    logits(terms, shape, tokens, copies=2)
