"""Hostile Hugging Face folders: foreign code, links, fifos, giant numbers, broken headers, wrong types."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.shared.models import loading
from components.shared.runtime.artifact import artifact, plain_model
from components.shared.runtime.store.interface import walk
from pipelines.generate import TextModel
from tests import mutations
from tests.attack.attempt import Bench, refusal

COUNT = 190
LIMIT = 20.0
GIANTS = (-1, 0, 1, 3, 10**9, 10**18, 2**63, "32", 33.5, None, True, [], {}, "auto")
CONFIG_KEYS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(
        ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size",
         "intermediate_size", "head_dim", "max_position_embeddings", "bos_token_id", "pad_token_id", "rms_norm_eps",
         "initializer_range"), GIANTS,
    ),
    "model_type": (None, "", "no-such", 3, "bert", "gpt2", "cognate", "forge_wrapped", ["llama"], "t5", "../llama"),
    "hidden_act": (None, "no-such", 3, ["silu"], "os.system"),
    "dtype": ("no-such", 3, None, "float8", "bfloat16", "os"), "torch_dtype": ("no-such", "float16", {}),
    "rope_scaling": ("linear", 3, {"type": "no-such"}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": "x"}),
    "rope_theta": ("x", 0, -1, None), "rope_parameters": (3, {"rope_type": "no-such"}, []),
    "quantization_config": ({}, {"quant_method": "bitsandbytes", "load_in_4bit": True}, {"quant_method": "no-such"}, "gptq",
                            3, {"quant_method": "gptq", "bits": 4}, {"quant_method": "awq"}, {"quant_method": "fp8"}),
    "attn_implementation": ("org/kernel", "no-such", 3), "_attn_implementation": ("org/kernel", "flash_attention_2"),
    "architectures": (None, "x", ["NoSuch"], [3], ["BertModel"]), "tie_word_embeddings": (True, "yes", 3),
    "storage": (3, [], {"lm_head": 3}, {"lm_head": {"codec": "no-such"}},
                {"x": {"codec": "ternary", "shape": [10**9, 10**9]}},
                {"lm_head": {"codec": "ectcq", "shape": [16384, 16384], "path": "/etc/passwd"}}),
    "inner": (3, {"model_type": "no-such"}, {"auto_map": {"AutoConfig": "evil.Config"}}),
    "transformers_version": (3, None, "0.0"), "num_labels": (10**9, -1, "x"), "id2label": (3, {"x": 1}, []),
    "base_model_tp_plan": (3, {"x": 3}), "torchscript": (True,), "layer_types": (3, ["no-such"], []),
}  # fmt: skip
EVIL = """import pathlib
pathlib.Path({marker!r}).write_text("run")
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model, PreTrainedTokenizerFast as Tokenizer
"""


def prepare(bench: Bench) -> str:
    """A tiny Llama, and a Cognate's artifact with the code that travels in it."""
    from components.shared.tasks.tokenizer import byte_tokenizer
    from tests.contract.phases.tiny_ternary import llama
    from tests.unit.shared.models.variants import cognate

    llama(bench.inside / "llama")
    loading.save(cognate(), byte_tokenizer(), bench.inside / "cognate", card="a card")
    artifact.seal(bench.inside / "cognate", kind="model", phase="cognate")
    return "ready"


def attempt(bench: Bench) -> str:
    """What takes a folder from a person: adopting, loading, writing with it. None of it may run its code."""
    rng = bench.rng
    place = bench.copy(rng.choice(("llama", "llama", "cognate")))
    kinds: tuple[Callable[[Path, random.Random, Bench], str], ...]
    kinds = (
        foreign_code,
        foreign_code,
        config,
        config,
        config,
        header,
        header,
        tokenizer,
        index,
        special,
        anything,
    )
    done = [rng.choice(kinds)(place, rng, bench) for _ in range(rng.choice((1, 1, 2)))]
    said = []
    for take in (adopt, load, generate):
        try:
            said.append(take(place))
        except Exception as error:
            if (ours := refusal(error)) is None:
                raise
            said.append(f"{take.__name__}: {ours.what}")
    return f"{done}: {said}"


def adopt(place: Path) -> str:
    """As a phase takes what is given by hand."""
    taken = artifact.read(place) if (place / artifact.MANIFEST).exists() else plain_model.adopt(place)
    return taken.digest[:8]


def load(place: Path) -> str:
    """As a phase loads it."""
    model, _ = loading.load(place)
    return type(model).__name__


def generate(place: Path) -> str:
    """As `forge generate` does."""
    model = TextModel.load(place)
    return repr(model.complete("a", tokens=2).text)[:40]


def _edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    try:
        content = json.loads(path.read_text()) if path.is_file() else {}
    except (ValueError, RecursionError):  # another change has been here
        return
    if isinstance(content, dict):
        changed = change(content)
        path.write_bytes(json.dumps(content if changed is None else changed).encode(errors="surrogatepass"))


def foreign_code(place: Path, rng: random.Random, bench: Bench) -> str:
    """auto_map and its kin, towards a module that leaves a marker."""
    name = rng.choice(
        ("evil", "modeling_cognate", "modeling_wrapped", "tokenization_evil", "configuration_cognate")
    )
    (place / f"{name}.py").write_text(EVIL.format(marker=str(bench.marker)))
    remote = rng.choice(
        (f"{name}.Model", f"org/repo--{name}.Model", f"./{name}.Model", f"{place}--{name}.Model")
    )
    maps = {
        "AutoConfig": f"{name}.Config", "AutoModelForCausalLM": remote, "AutoModel": remote,
        "AutoTokenizer": rng.choice(([f"{name}.Tokenizer", None], [None, f"{name}.Tokenizer"], f"{name}.Tokenizer")),
    }  # fmt: skip
    chosen = {key: maps[key] for key in rng.sample(sorted(maps), rng.randint(1, 4))}
    file = rng.choice(
        (
            "config.json",
            "config.json",
            "tokenizer_config.json",
            "generation_config.json",
            "processor_config.json",
        )
    )

    def change(content: dict[str, Any]) -> None:
        content["auto_map"] = chosen
        if rng.random() < 0.6:
            content["model_type"] = rng.choice(("evil", "llama", "cognate", "forge_wrapped", "custom"))
        if file.startswith("tokenizer"):
            content["tokenizer_class"] = rng.choice(
                ("Tokenizer", "EvilTokenizer", "PreTrainedTokenizerFast", None)
            )
        if rng.random() < 0.2:
            content |= {
                "trust_remote_code": True,
                "custom_generate": name,
                "custom_pipelines": {"x": {"impl": f"{name}.Model"}},
            }

    _edit(place / file, change)
    if rng.random() < 0.2:
        (place / "custom_generate").mkdir(exist_ok=True)
        (place / "custom_generate" / "generate.py").write_text(EVIL.format(marker=str(bench.marker)))
    return f"foreign code by {file}: {sorted(chosen)}"


def config(place: Path, rng: random.Random, bench: Bench) -> str:
    """A key of config.json that nobody would write so."""
    key = rng.choice(sorted(CONFIG_KEYS))
    value = rng.choice(CONFIG_KEYS[key])

    def change(content: dict[str, Any]) -> None:
        if rng.random() < 0.1:
            content.pop(key, None)
        else:
            content[key] = value

    _edit(place / "config.json", change)
    return f"{key} = {value}"


def tokenizer(place: Path, rng: random.Random, bench: Bench) -> str:
    """A file of the tokenizer, or of the settings of generation, mutated."""
    name = rng.choice(
        ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")
    )
    if rng.random() < 0.2:
        (place / name).write_text(rng.choice(("[]", "null", "3", "[" * 100_000, '{"a":' * 3000, "")))
    else:
        _edit(place / name, lambda content: mutations.tree(content, rng))
    return f"a mutated {name}"


def header(place: Path, rng: random.Random, bench: Bench) -> str:
    """A header of the weights that lies: lengths, shapes, types, offsets, duplicates."""
    path = next(iter(sorted(place.glob("*.safetensors"))), place / "model.safetensors")
    data = path.read_bytes() if path.is_file() else struct.pack("<Q", 2) + b"{}"
    (length,) = struct.unpack("<Q", data[:8])
    try:
        content = json.loads(data[8 : 8 + length])
    except ValueError:
        content = {}
    kind = rng.randrange(5)
    if kind == 0:
        lie = rng.choice((0, 1, 2**31, 2**63 - 1, 2**64 - 1, len(data), length - 1, length + 1))
        path.write_bytes(struct.pack("<Q", lie % 2**64) + data[8:])
        return f"a header of {lie} bytes"
    if kind == 1:
        path.write_bytes(mutations.damaged(data, rng))
        return "damaged weights"
    name = rng.choice([key for key in content if key != "__metadata__"] or ["x"])
    tensor = content.setdefault(name, {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]})
    if kind == 2 and isinstance(tensor, dict):
        field = rng.choice(sorted(tensor) or ["dtype"])
        tensor[field] = rng.choice(
            ("F16", "X", 3, [-1], [10**18, 10**18], [[1]], None, [0, 10**18], [5, 1], [])
        )
    elif kind == 3:
        content = mutations.tree(content, rng)
    else:
        content = {rng.choice(("other.weight", "\0", "a" * 300, "../x")): content.pop(name), **content}
    text = json.dumps(content).encode(errors="surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
    return f"a header with another {name}"


def index(place: Path, rng: random.Random, bench: Bench) -> str:
    """An index of shards that leads elsewhere."""
    file = rng.choice(
        ("../outside/sentinel", "/etc/passwd", "model.safetensors", "no-such.safetensors", 3, None, "", "a/b")
    )
    weight_map = rng.choice(({"lm_head.weight": file}, [], 3, {"x": file}, {}))
    (place / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )
    if rng.random() < 0.6:
        (place / "model.safetensors").rename(
            place / rng.choice(("model-00001-of-00001.safetensors", "shard.safetensors"))
        )
    return f"an index to {file!r}"


def special(place: Path, rng: random.Random, bench: Bench) -> str:
    """What is no file: fifos, sockets of sorts, links to nowhere, in circles and to secrets; names; depth."""
    name = rng.choice(("extra.txt", "config.json", "model.safetensors", "tokenizer.json", "sub", "README.md"))
    path = place / name
    kind = rng.choice(
        ("fifo", "dangling", "loop", "secret", "folder loop", "directory", "deep", "many", "device", "pickle")
    )
    if path.exists() and kind not in ("deep", "many", "pickle"):
        path.unlink()
    secret = bench.outside / "sentinel"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "deep":
        (place / "/".join("d" * 100)).mkdir(parents=True)
    elif kind == "many":
        for number in range(300):
            (place / f"file{number}.txt").write_text("")
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path.symlink_to(rng.choice(("/dev/zero", "/dev/random", "/proc/self/mem", "/dev/tty")))
    elif kind == "pickle":
        (place / rng.choice(("pytorch_model.bin", "x.PT", "a.pkl"))).write_bytes(
            b"cos\nsystem\n(S'touch marker'\ntR."
        )
    else:
        path.symlink_to(
            {"dangling": Path("nowhere"), "loop": Path(name), "secret": secret, "folder loop": place}[kind]
        )
    return f"{kind} for {name}"


def anything(place: Path, rng: random.Random, bench: Bench) -> str:
    """As artifacts are damaged."""
    try:
        return mutations.folder(place, rng) if list(walk(place)) else "nothing"
    except OSError as error:  # what another mutation has put there cannot be read
        return os.strerror(error.errno or errno.EIO)
