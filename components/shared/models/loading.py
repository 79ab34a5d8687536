"""Models in and out of artifacts."""

from __future__ import annotations

import json
import os
import warnings
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from components.shared.runtime.artifact.model_folder import require_model_folder
from components.shared.runtime.artifact.weights import json_object
from components.shared.runtime.errors import ArtifactError, InputError
from components.shared.runtime.malloc import suit_model

from .build import build, extend, union, union_config
from .encoders import encode_ternary, stored
from .foreign import checked_config, unreadable
from .half import halved
from .original_form import in_linear_form, original_tensors
from .remote_code.coded import Coded, CodedEmbedding
from .remote_code.configuration_cognate import CognateConfig
from .remote_code.modeling_cognate import CognateForCausalLM
from .remote_code.modeling_wrapped import ForgeWrapped, ForgeWrappedConfig, TiedHead
from .remote_code.projections import linear_form
from .remote_code.ternary import BitLinear, to_latent
from .travelling_code import decoder_files, require_known_codes, travelling_code
from .trusted_code import code_of, needs_code

__all__ = ["build", "extend", "load", "save", "trainable_layers", "union", "union_config", "wrap"]

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
AUTO_MAP = {
    "cognate": {
        "AutoConfig": "configuration_cognate.CognateConfig",
        "AutoModelForCausalLM": "modeling_cognate.CognateForCausalLM",
    },
    "forge_wrapped": {
        "AutoConfig": "modeling_wrapped.ForgeWrappedConfig",
        "AutoModelForCausalLM": "modeling_wrapped.ForgeWrapped",
    },
}

for config_class, model_class in ((CognateConfig, CognateForCausalLM), (ForgeWrappedConfig, ForgeWrapped)):
    AutoConfig.register(
        config_class.model_type, config_class
    )  # ours load from here, not from the code inside them
    AutoModelForCausalLM.register(config_class, model_class)
transformers_logging.disable_progress_bar()
if "TRANSFORMERS_VERBOSITY" not in os.environ:
    transformers_logging.set_verbosity_error()  # what matters of a folder is an error here, with what to do
    warnings.filterwarnings("ignore", module=r"transformers\.")


def load(
    path: Path | str,
    *,
    trainable: bool = False,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer of an artifact or of any Hugging Face causal LM directory, in evaluation mode.

    Every projection is an nn.Linear, whatever the family makes of it (remote_code/projections.py).

    :param trainable: make every weight trainable (`trainable_layers`), and float32 whatever it is stored in: a step's
        change is mostly smaller than what 16 bits can hold. One tensor at a time, so that no second model is in memory.
    :param dtype: of the weights in memory, where they are not trainable; None: as config.json says.
    :raises ArtifactError: not a model directory, or its weights are not safetensors (nothing is ever
        unpickled).
    """
    folder = Path(path)
    require_model_folder(folder)
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
        raise ArtifactError(
            "the model has no safetensors weights",
            where=str(folder),
            why=f"only {', '.join(pickles)}, which would have to be unpickled"
            if pickles
            else "no weights at all",
            fix="convert the weights to safetensors (save_pretrained in transformers does so)",
        )
    config = checked_config(folder, AUTO_MAP)
    own_code = needs_code(config.to_dict()) and config.model_type not in AUTO_MAP
    require_known_codes(getattr(config, "storage", None) or {}, folder)
    loaded: Any
    try:
        loaded = AutoModelForCausalLM.from_pretrained(
            folder, config=config, use_safetensors=True, local_files_only=True,
            trust_remote_code=own_code, output_loading_info=True, dtype=dtype or "auto",
        )  # fmt: skip
    except Exception as error:  # whatever a foreign folder makes transformers raise is a fault of that folder
        raise unreadable("the model cannot be loaded", folder, error) from error
    model, report = loaded
    decoded = (
        prod(each.spec["shape"]) * each.like.element_size()
        for each in model.modules()
        if isinstance(each, Coded)
    )
    suit_model(sum(each.nbytes for each in model.parameters()) + sum(decoded))
    unmatched = sorted(
        map(str, {*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]})
    )
    if unmatched:
        raise ArtifactError(
            "weights and config.json do not fit",
            where=str(folder),
            why=", ".join(unmatched[:5]),
            fix="fetch the model again, or save it with transformers 5",
        )
    tokenizer = load_tokenizer(folder)
    if own_code:
        model.own_code = code_of(folder)
    elif linear_form(model) and isinstance(model, ForgeWrapped):
        model.config.linear = True
    model = model.to(device).eval()
    if trainable:
        decode_all(model, folder)
        trainable_layers(model.float())
    return model, tokenizer


def decode_all(model: PreTrainedModel, folder: Path) -> None:
    """Decode every coded layer now, so that a damaged code is refused here and not where the layer is first used.

    Ternary codes stay as they are: what is wrong with one is seen without decoding it.

    :param folder: of the model, for the error.
    :raises ArtifactError: a code cannot be read; it names the layer.
    """
    for path, module in model.named_modules():
        if isinstance(module, Coded):
            try:
                if module.spec["codec"] != "ternary" or "transform" in module.spec:
                    _ = module.weight
                elif (
                    len(module.code) != 4 + -(-prod(module.spec["shape"]) // 5)
                    or module.code[4:].amax() > 242
                ):
                    raise ValueError(
                        f"{len(module.code)} bytes are no trits of the shape {module.spec['shape']}"
                    )
            except ValueError as error:
                raise ArtifactError(
                    f"the weight of {path} cannot be decoded",
                    where=str(folder),
                    why=str(error),
                    fix="fetch the model again",
                ) from error


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer beside a model.

    :raises ArtifactError: there is none, or none that can be read without code of its own.
    """
    json_object(folder / "tokenizer_config.json", needed=False)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        tokenizer.decode(tokenizer("a").input_ids)
    except Exception as error:  # whatever foreign files make transformers raise is a fault of those files
        fix = "write it beside the model: tokenizer.save_pretrained, in transformers 5"
        raise unreadable("the model has no tokenizer that can be read", folder, error, fix) from error
    return tokenizer


def trainable_layers(model: PreTrainedModel) -> PreTrainedModel:
    """Turn coded layers into layers with weights, in place, without changing the function.

    Layers with int8 activations become BitLinears, whose quantisation is exactly what was stored; all others become
    plain layers with the decoded weights.

    :raises InputError: a layer with int8 activations is not ternary any more, after a lossy code.
    """
    for path, coded in [
        (path, module) for path, module in model.named_modules() if isinstance(module, Coded)
    ]:
        layer: nn.Module
        if isinstance(coded, CodedEmbedding):
            layer = nn.Embedding.from_pretrained(coded.weight.clone(), freeze=False)
        elif coded.spec.get("activations") == "int8":
            scale = coded.weight.abs().max()
            if not torch.isin(coded.weight.abs(), torch.stack([torch.zeros_like(scale), scale])).all():
                raise InputError(
                    "a layer with int8 activations whose weight is not ternary cannot be trained",
                    where=path,
                    why=f"its {coded.spec['codec']} code has lost them",
                    fix="train the model as it was before compression",
                )
            layer = BitLinear(
                coded.in_features,
                coded.out_features,
                bias=coded.bias is not None,
                norm=coded.norm is not None,
            )
            layer.weight = nn.Parameter(to_latent(coded.weight.sign(), scale).to(scale.dtype))
        else:
            rows, columns = coded.weight.shape
            layer = nn.Linear(columns, rows, bias=coded.bias is not None)
            layer.weight = nn.Parameter(coded.weight.clone())
        for name in ("bias", "norm"):
            if getattr(coded, name, None) is not None:
                setattr(layer, name, getattr(coded, name))
        model.set_submodule(path, layer.to(coded.code.device).train(model.training))
    model.config.storage = {}
    if isinstance(model, ForgeWrapped):
        untie_from_code(model)
    return model


def untie_from_code(model: ForgeWrapped) -> None:
    """The head computes with the embedding's own weight again, where a TiedHead stood, and both are tied as they were."""
    head, weight = model.inner.get_output_embeddings(), model.inner.get_input_embeddings().weight
    if isinstance(head, TiedHead):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        linear.weight = weight
        _, flag, keys = head.ties[0]
        model.tie_again((linear, flag, keys))
        model.all_tied_weights_keys = {f"inner.{a}": f"inner.{b}" for a, b in keys.items()}


def wrap(model: PreTrainedModel) -> ForgeWrapped:
    """Any causal LM of transformers in a model that can hold coded and ternary layers, sharing its weights.

    The model comes into linear form, if it was not loaded here.
    :raises InputError: its code is its own, which what it would be wrapped in cannot build.
    """
    if getattr(model, "own_code", None):
        raise InputError(
            "a model with code of its own cannot hold coded, ternary or grafted layers",
            where=type(model).__name__,
            fix="use an architecture that transformers knows for this phase",
        )
    linear_form(model)
    unrelated = (
        "transformers_version",
        "_name_or_path",
    )  # where it was loaded from is no property of a model
    inner = {name: value for name, value in model.config.to_dict().items() if name not in unrelated}
    config = ForgeWrappedConfig(inner=inner, linear=in_linear_form(model))
    wrapped = ForgeWrapped(config, inner=model)
    wrapped.generation_config = model.generation_config
    return wrapped.train(model.training)


def save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    path: Path,
    *,
    card: str,
    half: bool = False,
) -> None:
    """Write a directory that `AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)` loads.

    Safetensors (sharded above 5 GB), config with auto_map, the modelling code that this model needs,
    tokenizer, generation settings and the model card. BitLinears are stored packed. The same model writes the
    same bytes.

    :param half: store float32 tensors in 16 bits where these hold them exactly: round the model first (half.py).
    :raises InputError: an expert is set (its weights are not the model's), or a plain model of transformers
        holds coded or ternary layers.
    """
    if any("_base" in module.__dict__ for module in model.modules()):
        raise InputError("an expert is set", where="save", fix="call set_expert(model, None) first")
    tensors, storage = stored_tensors(model)
    config = model.config.to_diff_dict()
    config["architectures"] = [type(model).__name__]
    config["dtype"] = str(model.dtype).removeprefix("torch.")
    for name in ("_name_or_path", "auto_map", "storage"):
        config.pop(name, None)
    ours = model.config.model_type in AUTO_MAP
    if storage and not ours:
        raise InputError(
            "a plain model cannot hold coded layers", where=next(iter(storage)), fix="use wrap(model)"
        )

    code: dict[str, str] = getattr(model, "own_code", {})
    if not ours and not code:
        tensors = original_tensors(model, tensors)
    path.mkdir(parents=True, exist_ok=True)
    if code:
        config["auto_map"] = model.config.auto_map
        for name, source in code.items():
            (path / name).write_text(source, encoding="utf-8")
    if ours:
        config |= {"auto_map": AUTO_MAP[model.config.model_type], "storage": storage}
        needs = {
            name for name in ("memory", "refinement", "thoughts", "experts", "linear") if config.get(name)
        }
        needs |= {"coded"} if storage else set()
        needs |= {"grafts"} if needs & {"memory", "refinement"} else set()
        needs |= {module for spec in storage.values() for module in decoder_files(spec)}
        entry = config["auto_map"]["AutoModelForCausalLM"].partition(".")[0]
        for name, source in travelling_code(entry, needs).items():
            (path / f"{name}.py").write_text(source)
    lines = [f" {json.dumps(name)}: {json.dumps(config[name], sort_keys=True)}" for name in sorted(config)]
    (path / "config.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    if model.generation_config is not None:
        model.generation_config.save_pretrained(path)
    save_weights(halved(tensors) if half else tensors, path)
    save_tokenizer(tokenizer, path)
    (path / "README.md").write_text(card)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Its own files, without what transformers notes in them about where it was loaded from."""
    tokenizer.save_pretrained(path)
    config = json.loads((path / "tokenizer_config.json").read_text())
    for name in ("is_local", "local_files_only", "name_or_path"):
        config.pop(name, None)
    (path / "tokenizer_config.json").write_text(json.dumps(config, sort_keys=True, indent=1) + "\n")


def stored_tensors(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """What goes into the safetensors file, and how coded modules are stored (config.storage).

    Tied weights are written once.

    :raises InputError: a BitLinear is not at full strength, so that its stored form is another function.
    """
    tensors = dict(model.state_dict())
    storage: dict[str, dict[str, Any]] = {}
    for path, module in model.named_modules():
        if isinstance(module, Coded):
            storage[path] = module.spec
        elif isinstance(module, BitLinear):
            if module.strength != 1.0:
                raise InputError("a BitLinear is still warming up", where=path, fix="set its strength to 1")
            weight = tensors.pop(f"{path}.weight")
            more = {"activations": "int8"} | {
                n: True for n in ("bias", "norm") if getattr(module, n) is not None
            }
            storage[path], tensors[f"{path}.code"] = stored(
                "ternary", encode_ternary(weight), weight.shape, **more
            )
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    return {name: t.contiguous().cpu() for name, t in sorted(tensors.items()) if name not in tied}, storage


def save_weights(tensors: dict[str, Tensor], path: Path) -> None:
    """model.safetensors, or shards of at most 5 GB with their index."""
    plan = split_torch_state_dict_into_shards(
        tensors, max_shard_size="5GB", filename_pattern="model{suffix}.safetensors"
    )
    for file, names in plan.filename_to_tensors.items():
        save_file({name: tensors[name] for name in names}, path / file, metadata={"format": "pt"})
        (path / file).chmod(0o644)  # safetensors writes 0600, which another user in a pod could not read
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (path / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
