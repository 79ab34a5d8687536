"""The merges that mergekit's outputs are recorded for: small seeded models, and configurations in mergekit's words."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

MODELS = ("base", "one", "two", "three")
HIDDEN, INNER, LAYERS, VOCABULARY = 8, 12, 3, 24


def three(method: str, own: str = "", shared: str = "", *, base: bool = True, dtype: str = "float32") -> str:
    lines = [f"merge_method: {method}", f"dtype: {dtype}", "models:"]
    for name, weight in (("one", 0.5), ("two", 0.3), ("three", 0.4)):
        parameters = own.replace("W", str(weight))
        lines += [f"  - model: {name}", *([f"    parameters: {{{parameters}}}"] if own else [])]
    lines += ["base_model: base"] if base else []
    return "\n".join([*lines, *([f"parameters: {{{shared}}}"] if shared else [])]) + "\n"


# Name → (whether the models are stored in bfloat16, configuration).
CASES: dict[str, tuple[bool, str]] = {
    "linear_bf16": (True, three("linear", "weight: W", base=False, dtype="bfloat16")),
    "linear_plain_bf16": (
        True,
        three("linear", "weight: W", "normalize: false", base=False, dtype="bfloat16"),
    ),
    "linear": (False, three("linear", "weight: W", base=False)),
    "task_arithmetic": (False, three("task_arithmetic", "weight: W", "lambda: 0.7")),
    "ties": (False, three("ties", "weight: W, density: 0.5", "lambda: 1.3")),
    "ties_plain": (False, three("ties", "weight: W, density: 0.25", "normalize: false, int8_mask: true")),
    "dare_ties_whole": (False, three("dare_ties", "weight: W, density: 1.0")),
    "breadcrumbs": (False, three("breadcrumbs", "weight: W, density: 0.5, gamma: 0.125")),
    "breadcrumbs_ties": (False, three("breadcrumbs_ties", "weight: W, density: 0.5, gamma: 0.25")),
    "model_stock": (False, three("model_stock")),
    "karcher": (False, three("karcher", base=False)),
    "sce": (False, three("sce", "", "select_topk: 0.5")),
    "sce_whole": (False, three("sce")),
    "slerp": (
        False,
        "merge_method: slerp\ndtype: float32\nmodels: [{model: one}, {model: two}]\nbase_model: one\n"
        "parameters:\n  t:\n    - {filter: self_attn, value: [0, 0.5, 1]}\n    - {filter: mlp, value: [1, 0.5, 0]}\n"
        "    - {value: 0.3}\n",
    ),
    "slices": (
        False,
        "merge_method: task_arithmetic\ndtype: float32\nbase_model: base\nslices:\n"
        "  - sources:\n"
        "      - {model: base, layer_range: [0, 2]}\n"
        "      - {model: one, layer_range: [0, 2], parameters: {weight: [0.2, 0.8]}}\n"
        "      - {model: two, layer_range: [0, 2], parameters: {weight: 0.5}}\n"
        "  - sources:\n"
        "      - {model: base, layer_range: [2, 3]}\n"
        "      - {model: one, layer_range: [2, 3], parameters: {weight: 0.9}}\n"
        "      - {model: two, layer_range: [2, 3], parameters: {weight: [0.1, 0.4]}}\n"
        "    parameters: {lambda: 0.5}\n",
    ),
}


def write_models(folder: Path, *, half: bool) -> None:
    """The four models as Hugging Face folders, the same on every machine."""
    generator = torch.Generator().manual_seed(20)
    shapes = {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        for name, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, HIDDEN),
            "self_attn.v_proj": (HIDDEN, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER),
            "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    shift = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
    }  # fmt: skip
    for name in MODELS:
        tensors = {key: tensor.clone() for key, tensor in base.items()}
        if name != "base":
            for key, tensor in tensors.items():  # apart, and away from the base together
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator) + 0.3 * shift[key]
        if half:
            tensors = {key: tensor.bfloat16() for key, tensor in tensors.items()}
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        save_file(tensors, folder / name / "model.safetensors", metadata={"format": "pt"})
