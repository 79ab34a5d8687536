"""Forty constructs as published configurations of mergekit have them, each in a minimal version of ours over tiny models.

They were gathered from mergekit's examples and documentation and from model cards that hold their configuration. Three
of them mergekit 0.1.5 refuses itself: methods of its examples that it does not have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

HIDDEN, INNER, LAYERS = 4, 6, 4
WORDS = ["<unk>", *(f"w{number}" for number in range(11))]
MORE = [f"more{number}" for number in range(9)]
MODELS = ("base", "one", "two", "three", "org/four", *MORE)


@dataclass(frozen=True)
class Construct:
    """A configuration.

    :param text: the YAML; models are folders beside it.
    :param compared: how its numbers are held to mergekit's: "equal", "random" (masks of another generator), "refused" (by
        mergekit too).
    """

    text: str
    compared: str = "equal"


def _two(method: str, own: str = "", shared: str = "", rest: str = "base_model: base\n") -> str:
    models = "".join(
        f"  - model: {name}\n" + (f"    parameters: {{{own.replace('W', weight)}}}\n" if own else "")
        for name, weight in (("one", "0.6"), ("two", "0.3"))
    )
    parameters = f"parameters: {{{shared}}}\n" if shared else ""
    return f"models:\n{models}merge_method: {method}\n{rest}{parameters}dtype: float32\n"


def _stack(*slices: tuple[str, int, int], rest: str = "") -> str:
    rows = "".join(
        f"  - sources:\n      - model: {model}\n        layer_range: [{first}, {last}]\n{rest}"
        for model, first, last in slices
    )
    return f"slices:\n{rows}merge_method: passthrough\ndtype: float32\n"


T = (
    "  t:\n    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}\n"
    "    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}\n    - value: 0.5\n"
)

CONSTRUCTS: dict[str, Construct] = {
    "linear of weights": Construct(_two("linear", "weight: W", rest="")),
    "linear, summed, with a name": Construct("name: soup\n" + _two("linear", "weight: W", "normalize: false", "")),
    "linear with its base listed": Construct(
        "models:\n  - {model: base, parameters: {weight: 0.2}}\n  - {model: one, parameters: {weight: 0.8}}\n"
        "merge_method: linear\nbase_model: base\ndtype: float32\n"
    ),
    "slerp by a number": Construct(
        "models: [{model: one}, {model: two}]\nmerge_method: slerp\nbase_model: one\n"
        "parameters: {t: 0.35}\ndtype: float32\n"
    ),
    "slerp along the layers, by filters": Construct(
        "slices:\n  - sources:\n      - {model: one, layer_range: [0, 4]}\n      - {model: two, layer_range: [0, 4]}\n"
        f"merge_method: slerp\nbase_model: one\nparameters:\n{T}dtype: float32\n"
    ),
    "slerp in several slices": Construct(
        "slices:\n  - sources:\n      - {model: one, layer_range: [0, 2]}\n      - {model: two, layer_range: [0, 2]}\n"
        "    parameters: {t: 0.2}\n"
        "  - sources:\n      - {model: one, layer_range: [2, 4]}\n      - {model: three, layer_range: [2, 4]}\n"
        "merge_method: slerp\nbase_model: one\nparameters: {t: [0.4, 0.6]}\ndtype: float32\n"
    ),
    "slerp with parameters that it does not read": Construct(
        "models: [{model: one}, {model: two}]\nmerge_method: slerp\nbase_model: one\n"
        "parameters: {t: 0.5, int8_mask: true, normalize: true}\ndtype: float32\n"
    ),
    "ties along the layers, the base listed": Construct(
        "models:\n  - model: base\n  - model: one\n    parameters: {density: [1, 0.75, 0.5], weight: 1.0}\n"
        "  - model: two\n    parameters:\n      density: 0.5\n      weight:\n"
        "        - {filter: mlp, value: 0.5}\n        - value: 0\n"
        "merge_method: ties\nbase_model: base\nparameters: {normalize: true, int8_mask: true}\ndtype: float32\n"
    ),
    "ties, summed": Construct(_two("ties", "density: 0.5, weight: W", "normalize: false, int8_mask: true")),
    "ties in slices": Construct(
        "slices:\n  - sources:\n      - {model: base, layer_range: [0, 4]}\n"
        "      - {model: one, layer_range: [0, 4], parameters: {density: 0.5, weight: 0.7}}\n"
        "      - {model: two, layer_range: [0, 4], parameters: {density: 0.5, weight: 0.2}}\n"
        "merge_method: ties\nbase_model: base\nparameters: {lambda: 1.1}\ndtype: float32\n"
    ),
    "one task vector on another base, by ties": Construct(
        "models:\n  - model: one\n    parameters: {weight: 1}\nmerge_method: ties\nbase_model: base\n"
        "parameters: {normalize: true, int8_mask: true}\ndtype: float32\ntokenizer_source: one\n"
    ),
    "a task vector taken away": Construct(
        "models:\n  - model: one\n    parameters: {weight: -0.5}\n"
        "merge_method: task_arithmetic\nbase_model: base\ndtype: float32\n"
    ),
    "task arithmetic in slices": Construct(
        "base_model: base\ndtype: float32\nmerge_method: task_arithmetic\nparameters: {normalize: false}\n"
        "slices:\n  - sources:\n      - {layer_range: [0, 4], model: base}\n"
        "      - {layer_range: [0, 4], model: one, parameters: {weight: 0.5}}\n"
        "      - {layer_range: [0, 4], model: two, parameters: {weight: 0.5}}\n"
    ),
    "task arithmetic over layers of other depths": Construct(
        "base_model: base\ndtype: float32\nmerge_method: task_arithmetic\n"
        "slices:\n  - sources:\n      - {layer_range: [0, 2], model: base}\n"
        "      - {layer_range: [2, 4], model: one, parameters: {weight: 0.5}}\n"
        "  - sources:\n      - {layer_range: [1, 4], model: base}\n"
        "      - {layer_range: [0, 3], model: two, parameters: {weight: 0.5}}\n"
    ),
    "dare_ties": Construct(_two("dare_ties", "density: 0.53, weight: W", "int8_mask: true"), "random"),
    "dare_linear": Construct(_two("dare_linear", "density: 0.5, weight: W"), "random"),
    "della": Construct(_two("della", "density: 0.5, weight: W, epsilon: 0.1", "lambda: 1.05"), "random"),
    "della_linear": Construct(_two("della_linear", "density: 0.5, weight: W, epsilon: 0.05"), "random"),
    "breadcrumbs": Construct(_two("breadcrumbs", "density: 0.75, weight: W, gamma: 0.125")),
    "breadcrumbs_ties": Construct(_two("breadcrumbs_ties", "density: 0.5, weight: W, gamma: 0.25")),
    "model_stock with a chat template": Construct(_two("model_stock", rest="base_model: base\nchat_template: auto\n")),
    "model_stock of more than ten": Construct(
        "models:\n" + "".join(f"  - model: {name}\n" for name in ("one", "two", "three", *MORE))
        + "merge_method: model_stock\nbase_model: base\nparameters: {filter_wise: false}\ndtype: float32\n"
    ),
    "sce": Construct(_two("sce", shared="select_topk: 0.5")),
    "karcher": Construct(_two("karcher", shared="max_iter: 50, tol: 1e-9", rest="")),
    "nuslerp": Construct(_two("nuslerp", "weight: W", rest="")),
    "nuslerp of columns and of task vectors": Construct(
        _two("nuslerp", "weight: W", "nuslerp_flatten: false, nuslerp_row_wise: true")
    ),
    "nuslerp of rows": Construct(_two("nuslerp", "weight: W", "nuslerp_flatten: false")),
    "multislerp": Construct(_two("multislerp", "weight: W")),
    "nearswap": Construct(
        "models: [{model: one}]\nmerge_method: nearswap\nbase_model: base\nparameters: {t: 0.1}\ndtype: float32\n"
    ),
    "arcee_fusion": Construct("models: [{model: one}]\nmerge_method: arcee_fusion\nbase_model: base\ndtype: float32\n"),
    "passthrough of two models' layers": Construct(_stack(("one", 0, 4), ("two", 2, 4))),
    "passthrough of one model's layers, some twice": Construct(_stack(("one", 0, 3), ("one", 1, 4))),
    "passthrough with copied layers that do nothing": Construct(
        _stack(("one", 0, 2)).replace("merge_method", "  - sources:\n      - model: one\n        layer_range: [1, 2]\n"
        "        parameters:\n          scale:\n            - {filter: o_proj, value: 0.0}\n"
        "            - {filter: down_proj, value: 0.0}\n"
        "            - value: 1.0\n  - sources:\n      - model: one\n        layer_range: [2, 4]\nmerge_method")
    ),
    "a LoRA put into its model": Construct("models: [{model: one+lora}]\nmerge_method: passthrough\ndtype: float32\n"),
    "a model with a LoRA among others, and a name of the hub": Construct(
        "models:\n  - {model: base+lora, parameters: {weight: 0.7}}\n  - {model: org/four, parameters: {weight: 0.3}}\n"
        "merge_method: linear\ndtype: float32\nout_dtype: bfloat16\n"
    ),
    "a union of vocabularies, with rules and padding": Construct(
        _two("linear", "weight: W", rest="base_model: one\n")
        + "tokenizer:\n  source: union\n  pad_to_multiple_of: 5\n  tokens:\n    <two>: {source: two, force: true}\n"
        "    <new>: {source: {kind: model_token, model: one, token: w3}}\n    <zero>: {source: {kind: zero}}\n"
    ),
    "several documents": Construct(
        "name: first\nmodels: [{model: one}, {model: two}]\nmerge_method: slerp\nbase_model: one\nparameters: {t: 0.5}\n"
        "dtype: float32\n---\nmodels:\n  - {model: first, parameters: {density: 0.5, weight: 1.0}}\n"
        "  - {model: three, parameters: {density: 0.5, weight: 0.5}}\n"
        "merge_method: ties\nbase_model: base\ndtype: float32\n"
    ),
    "cabs": Construct(_two("cabs", "weight: W, n_val: 8, m_val: 32"), "refused"),
    "core_space": Construct(_two("core_space", "weight: W"), "refused"),
    "chipalign": Construct(_two("chipalign", "weight: W"), "refused"),
}  # fmt: skip


def write_models(folder: Path) -> None:
    """Every model that the constructs name, the same on every machine; `two` has two tokens more than the others."""
    generator = torch.Generator().manual_seed(40)
    shapes = {"model.norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        for name, shape in {
            "self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.k_proj": (HIDDEN, HIDDEN),
            "self_attn.v_proj": (HIDDEN, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
            "mlp.gate_proj": (INNER, HIDDEN), "mlp.up_proj": (INNER, HIDDEN), "mlp.down_proj": (HIDDEN, INNER),
            "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,),
        }.items():  # fmt: skip
            shapes[f"model.layers.{layer}.{name}.weight"] = shape
    matrices = ("model.embed_tokens.weight", "lm_head.weight")
    base = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    base |= {name: torch.randn(len(WORDS), HIDDEN, generator=generator) for name in matrices}
    for name in MODELS:
        tensors = {key: tensor.clone() for key, tensor in base.items()}
        if name != "base":
            for tensor in tensors.values():
                tensor += 0.3 * torch.randn(tensor.shape, generator=generator)
        _save(folder / name, tensors, ())
    _adapter(folder / "lora", generator)


def add_tokens(folder: Path) -> None:
    """Gives model `two` tokens that the others do not have."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "two" / "model.safetensors")
    more = torch.randn(2, HIDDEN, generator=torch.Generator().manual_seed(41))
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = torch.cat([tensors[name], more])
    _save(folder / "two", tensors, ("<two>", "<end>"))


def _save(folder: Path, tensors: dict[str, torch.Tensor], special: tuple[str, ...]) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": 2, "num_key_value_heads": 2,
        "vocab_size": len(WORDS) + len(special), "tie_word_embeddings": False,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "chat_template": "{{ messages }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _adapter(folder: Path, generator: torch.Generator) -> None:
    factors = {}
    for layer in range(LAYERS):
        for module, rows in (("self_attn.q_proj", HIDDEN), ("mlp.up_proj", INNER)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            factors[f"{name}.lora_A.weight"] = torch.randn(2, HIDDEN, generator=generator)
            factors[f"{name}.lora_B.weight"] = torch.randn(rows, 2, generator=generator)
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 3, "bias": "none",
              "target_modules": ["q_proj", "up_proj"], "base_model_name_or_path": "one"}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config))
