"""The shape of a model, as its config.json or a cognate's settings say it: what all costs are worked out from."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.runtime.errors import InputError

BYTES = 272
"""Tokens of the cognates' own tokenizer."""

HALVES = ("bfloat16", "float16")


@dataclass(frozen=True)
class ModelShape:
    """Numbers of a decoder.

    :param hidden: width of the residual stream.
    :param inner: width inside an MLP, of one expert where there are experts.
    :param heads: of the queries; `kv_heads` of keys and values; `head` the width of one.
    :param experts: of a layer, 1 where it has one MLP; `active` are those that a token passes.
    :param gated: three matrices an MLP (SwiGLU), not two.
    :param tied: the head is the embedding.
    :param learnt_positions: each position has a vector of its own (GPT-2).
    :param extra: weights of added modules.
    :param stored: bytes of a weight in its file, and of one that only computes.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head: int
    vocabulary: int
    positions: int
    experts: int = 1
    active: int = 1
    gated: bool = True
    tied: bool = True
    learnt_positions: bool = False
    extra: int = 0
    stored: int = 4

    @property
    def attention(self) -> int:
        """Weights of the projections of one layer's attention."""
        return 2 * self.hidden * self.heads * self.head + 2 * self.hidden * self.kv_heads * self.head

    @property
    def expert(self) -> int:
        """Weights of one MLP."""
        return (3 if self.gated else 2) * self.hidden * self.inner

    @property
    def matrices(self) -> int:
        """Weights of all projections of all layers, and of added modules."""
        return self.layers * (self.attention + self.experts * self.expert) + self.extra

    @property
    def embeddings(self) -> int:
        """Weights of the embedding, of a head of its own, and of learnt positions."""
        rows = self.vocabulary * (1 if self.tied else 2) + (self.positions if self.learnt_positions else 0)
        return rows * self.hidden

    @property
    def parameters(self) -> int:
        """All weights, norms included, biases not."""
        return self.matrices + self.embeddings + (2 * self.layers + 1) * self.hidden

    @property
    def flops(self) -> int:
        """Floating-point operations of one token forward, attention's own products left out."""
        passed = self.layers * (self.attention + self.active * self.expert) + self.extra
        return 2 * (passed + self.vocabulary * self.hidden)

    @property
    def largest(self) -> int:
        """Weights of the largest tensor."""
        return max(self.vocabulary * self.hidden, self.hidden * self.inner)

    @property
    def inputs(self) -> int:
        """Σ in² over the different inputs of one model's projections: entries of its Gram matrices.

        Projections that read the same share theirs: q, k, v; gate and up.
        """
        wide = self.heads * self.head
        return self.layers * (self.hidden**2 + wide**2 + self.experts * (self.hidden**2 + self.inner**2))

    @property
    def layer_inputs(self) -> int:
        """The same if no two projections shared an input: what decides whether Gram matrices are held in memory."""
        mlp = (2 if self.gated else 1) * self.hidden**2 + self.inner**2
        wide = self.heads * self.head
        return self.layers * (3 * self.hidden**2 + wide**2 + self.experts * mlp)

    @property
    def singular(self) -> int:
        """Numbers in the thin singular value decompositions of all projections: r · (out + in) of each."""
        wide, narrow = self.heads * self.head, self.kv_heads * self.head
        q, kv = (
            min(self.hidden, wide) * (self.hidden + wide),
            min(self.hidden, narrow) * (self.hidden + narrow),
        )
        mlp = min(self.hidden, self.inner) * (self.hidden + self.inner)
        return self.layers * (2 * q + 2 * kv + self.experts * (3 if self.gated else 2) * mlp)

    @property
    def kv(self) -> int:
        """Numbers that the key-value cache keeps of a token."""
        return 2 * self.layers * self.kv_heads * self.head


def read(folder: Path) -> ModelShape:
    """The shape of the model in a Hugging Face folder, from its config.json alone.

    :raises InputError: there is none, or it does not say a decoder's numbers.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "the model's config.json cannot be read",
            where=str(path),
            why=str(error),
            fix="give a Hugging Face folder",
        ) from error
    return of_config(config, where=str(path))


def of_config(config: Mapping[str, Any], *, where: str = "config.json") -> ModelShape:
    """The shape in a config of transformers: Llama's names or GPT-2's, a text model's inside a larger one, experts.

    :raises InputError: a number is missing.
    """
    outer, config = config, config.get("text_config") or config.get("inner") or config
    model_type = str(config.get("model_type", ""))
    tied = config.get("tie_word_embeddings", outer.get("tie_word_embeddings"))

    def number(*names: str, default: int | None = None) -> int:
        for name in names:
            if isinstance(config.get(name), int) and not isinstance(config.get(name), bool):
                return int(config[name])
        if default is None:
            raise InputError(
                f"the config does not say {names[0]}", where=where, fix="give a decoder of transformers"
            )
        return default

    hidden, heads = number("hidden_size", "n_embd", "d_model"), number("num_attention_heads", "n_head")
    experts = number("num_local_experts", "num_experts", "n_routed_experts", default=1)
    inner = number("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    if experts > 1:
        inner = number("moe_intermediate_size", default=inner)
    return ModelShape(
        hidden=hidden,
        inner=inner,
        layers=number("num_hidden_layers", "n_layer"),
        heads=heads,
        kv_heads=number("num_key_value_heads", default=heads),
        head=number("head_dim", default=hidden // heads),
        vocabulary=number("vocab_size"),
        positions=number("max_position_embeddings", "n_positions", default=2048),
        experts=experts,
        active=number("num_experts_per_tok", default=1) if experts > 1 else 1,
        gated=model_type != "gpt2",
        stored=2 if str(config.get("dtype") or config.get("torch_dtype")) in HALVES else 4,
        learnt_positions=model_type == "gpt2",
        tied=tied_by_default(model_type) if tied is None else bool(tied),
    )


@functools.cache
def tied_by_default(model_type: str) -> bool:
    """Whether transformers takes the head for the embedding where a config does not say: Gemma's often does not.

    Its config classes say so; they are read and not imported, which would load torch. A type that it does not know, or
    whose class does not say either, is untied, as there.
    """
    found = importlib.util.find_spec("transformers")
    root = Path(str(found.origin)).parent if found is not None else Path()
    files = root.glob("models/*/configuration_*.py")
    for file in sorted(files, key=lambda file: not model_type.startswith(file.parent.name)):
        text = file.read_text(encoding="utf-8")
        if f'model_type = "{model_type}"' not in text:
            continue
        for node in ast.parse(text).body:
            fields = _constants(node) if isinstance(node, ast.ClassDef) else {}
            if fields.get("model_type") == model_type:
                return bool(fields.get("tie_word_embeddings"))
    return False


def _constants(node: ast.ClassDef) -> dict[str, Any]:
    """The fields of a class that are plain constants."""
    fields: dict[str, Any] = {}
    for line in node.body:
        if isinstance(line, (ast.Assign, ast.AnnAssign)) and isinstance(line.value, ast.Constant):
            for target in line.targets if isinstance(line, ast.Assign) else [line.target]:
                if isinstance(target, ast.Name):
                    fields[target.id] = line.value.value
    return fields


def of_cognate(geometry: Any) -> ModelShape:
    """The shape of the cognates, from `cognate.model` of the settings, with the modules of all variants."""
    memory = 4 * geometry.hidden_size * geometry.memory_size
    refinement = 4 * geometry.hidden_size**2 + 3 * geometry.hidden_size * geometry.refinement_size
    return ModelShape(
        hidden=geometry.hidden_size,
        inner=geometry.intermediate_size,
        layers=geometry.num_hidden_layers,
        heads=geometry.num_attention_heads,
        kv_heads=geometry.num_key_value_heads or geometry.num_attention_heads,
        head=geometry.hidden_size // geometry.num_attention_heads,
        vocabulary=geometry.vocabulary_size,
        positions=geometry.max_position_embeddings,
        extra=memory + refinement,
    )
