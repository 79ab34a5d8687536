"""Folders of models that somebody tampered with: every attempt ends in a model or in an error with words.

    python -m tests.unit.shared.models.hostile --attempts 500 --seed 0

A seed makes an attempt: it picks a small model, changes one of its files, loads it in a process of its own that may take
some more memory and some seconds, and asks it something. The evil code beside every model writes a file when it is run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

GOOD = ("a model", "ArtifactError", "InputError", "ConfigError")
MEMORY = 1 << 30
"""Bytes of address space that an attempt may take beside what the process has."""
SECONDS = 60
EVIL = "from pathlib import Path\nPath({marker!r}).write_text('it ran')\nclass Evil: pass\n"
VALUES: list[Any] = [
    None, True, -1, 0, 1, 3, 10**9, 2**63, 1e308, float("inf"), float("nan"), "", "32", "x" * 1000, "org/kernel",
    [], {}, [1], {"a": 1}, ["x"], {"": "org/kernel"}, [[[[]]]],
]  # fmt: skip
TOKENIZER = ["tokenizer_config.json", "tokenizer.json", "generation_config.json"]
AUTO_MAP = {
    "AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]
}  # fmt: skip
KEYS: dict[str, list[Any]] = {
    "auto_map": [AUTO_MAP, AUTO_MAP, "x", []],
    "model_type": ["llama", "gpt2", "cognate", "forge_wrapped", "bert", "evil", "clip", None, 3],
    "quantization_config": [{}, {"quant_method": "bitnet"}, {"quant_method": "gptq"}, "x", {"load_in_4bit": True}],
    "attn_implementation": ["org/kernel", "flash_attention_2", {"": "org/kernel"}],
    "_attn_implementation": ["org/kernel"],
    "experts_implementation": ["org/kernel"],
    "rope_scaling": [{"type": "evil"}, {"rope_type": "yarn"}, {"rope_type": "linear", "factor": "x"}, 3, []],
    "rope_parameters": [{"rope_type": "llama3"}, {"rope_theta": "x"}, [], 1],
    "dtype": ["evil", "nn", "float64", 3, "uint8", "float8_e4m3fn"],
    "torch_dtype": ["evil", 3],
    "hidden_act": ["evil", 3, None],
    "num_hidden_layers": [10**9, -1, 0, "2", 4000],
    "hidden_size": [10**9, "32", 33, 0, -32],
    "vocab_size": [-1, 10**9, 0, 1, 10**6],
    "num_attention_heads": [0, 3, 10**9],
    "max_position_embeddings": [0, -1, 10**12, 1],
    "tokenizer_class": ["Evil", "BertTokenizer", 3, "LlamaTokenizer", None],
    "architectures": [["Evil"], 3, "x"],
    "storage": [[], {"inner.lm_head": 3}, {"inner.lm_head": {"codec": "ternary", "shape": [10**5, 10**5], "bytes": 4}},
                {"x": {"codec": "scalar", "shape": [4, 4], "bytes": 10**12}}],
    "inner": [None, 3, {}, {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}],
    "eos_token_id": [10**9, -5, "x", [[]]],
    "chat_template": ["{{ evil", 3, "{{ messages.__class__.__mro__ }}"],
    "model_max_length": [-1, "x"],
    "custom_generate": ["evil"],
    "cache_implementation": ["evil"],
    "do_sample": ["x"],
    "max_new_tokens": [-1, "x", 10**12],
}  # fmt: skip


def tampered_json(content: Any, rng: random.Random) -> bytes:
    """A JSON file with one thing wrong."""
    way = rng.randrange(10)
    if way == 0:
        return rng.choice(
            [b"", b"[]", b"null", b'"x"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"{"]
        )
    text = json.dumps(content).encode()
    if way == 1:
        return text[: rng.randrange(len(text))]
    nodes = [content]
    for node in nodes:
        nodes += [
            value
            for value in (node.values() if isinstance(node, dict) else node)
            if isinstance(value, (dict, list)) and value
        ]
    node = rng.choice(nodes) if way < 5 else content
    if way < 7:
        place = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node[place] = rng.choice(VALUES)
    elif way == 7 and isinstance(content, dict):
        content.pop(rng.choice(list(content)))
    else:
        key = rng.choice(list(KEYS))
        content[key] = rng.choice(KEYS[key])
    return json.dumps(content).encode()


def tampered_weights(data: bytes, rng: random.Random) -> bytes:
    """A safetensors file with one thing wrong."""
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    way = rng.randrange(8)
    if way == 0:
        return data[: rng.randrange(len(data))]
    if way == 1:
        return struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 2**40, 2**63])) + data[8:]
    entry = header[rng.choice([name for name in header if name != "__metadata__"])]
    if way == 2:
        entry["data_offsets"] = rng.choice(
            [[0, 2**62], [-1, 4], [8, 4], [0, 0], ["0", "4"], [0], None, [4, 8]]
        )
    elif way == 3:
        entry["shape"] = rng.choice([[2**40, 2**40], [-1], [0], ["4"], None, [2**63], [1] * 100, []])
    elif way == 4:
        entry["dtype"] = rng.choice(["I64", "BOOL", "F8_E4M3", "EVIL", 3, "F16", "U8"])
    elif way == 5:
        header[rng.choice(["evil", "x" * 10000, "model.embed_tokens.weight", "."])] = dict(entry)
    elif way == 6:
        header.pop(rng.choice(list(header)))
    else:
        changed = bytearray(body)
        for _ in range(20):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        body = bytes(changed)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tamper(folder: Path, rng: random.Random) -> str:
    """Change one file of the model; which."""
    name = rng.choice(["config.json"] * 5 + ["model.safetensors"] * 2 + TOKENIZER)
    file = folder / name
    data = file.read_bytes() if file.exists() else b"{}"
    tampered = (
        tampered_weights
        if name.endswith("safetensors")
        else lambda data, rng: tampered_json(json.loads(data), rng)
    )
    file.write_bytes(tampered(data, rng))
    return name


def attempt(models: list[Path], seed: int) -> tuple[str, str]:
    """What became of the attempt of a seed: "a model", the class of an error with words, or else what went wrong.

    :returns: that, and its details.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        folder, marker = Path(place, "model"), Path(place, "marker")
        shutil.copytree(rng.choice(models), folder)
        (folder / "evil.py").write_text(EVIL.format(marker=str(marker)))
        (folder / "custom_generate").mkdir()
        (folder / "custom_generate" / "generate.py").write_text(EVIL.format(marker=str(marker)))
        name = tamper(folder, rng)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            outcome = in_child(folder)
            os.write(write, json.dumps(outcome).encode()[:60_000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        status = os.waitpid(child, 0)[1]
        if marker.exists():
            return "FOREIGN CODE RAN", name
        if os.WIFSIGNALED(status) or not said:
            return f"ended by signal {os.WTERMSIG(status)}", name
        kind, detail = json.loads(said)
        return kind, f"{name}: {detail}"


def in_child(folder: Path) -> tuple[str, str]:
    """Load and ask the model, within limits."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)
    return outcome(folder)


def outcome(folder: Path) -> tuple[str, str]:
    """What comes of loading and asking the model."""
    from components.shared.runtime.errors import ForgeError
    from pipelines.generate import TextModel

    try:
        TextModel.load(folder).complete("12+", tokens=2)
    except ForgeError as error:
        return type(error).__name__, str(error)
    except BaseException:
        return "TRACEBACK", traceback.format_exc()[-1500:]
    return "a model", ""


def small_models(root: Path) -> list[Path]:
    """A Llama, a GPT-2, a Cognate, and a Llama that is stored coded."""
    from transformers import AutoModelForCausalLM, GPT2Config

    from components.shared.models.loading import save, wrap
    from components.shared.tasks.tokenizer import byte_tokenizer

    from .remote_code.test_coded import coded_twin
    from .test_loading import llama
    from .variants import cognate

    gpt2 = AutoModelForCausalLM.from_config(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=272))
    models = {"llama": llama(), "gpt2": gpt2, "cognate": cognate("union"), "coded": coded_twin(wrap(llama()))}
    for name, model in models.items():
        save(model, byte_tokenizer(), root / name, card="")
    return [root / name for name in models]


def main(attempts: int, first: int, models: list[Path]) -> list[str]:
    """Make the attempts; how they ended goes to standard error. What went wrong, one line an attempt."""
    import torch

    import pipelines.generate  # noqa: F401  before forking, once

    torch.set_num_threads(1)
    ends, wrong = Counter(), []
    for seed in range(first, first + attempts):
        kind, detail = attempt(models, seed)
        ends[kind] += 1
        if kind not in GOOD:
            wrong.append(f"seed {seed}: {kind}: {detail}")
    print(dict(ends), file=sys.stderr)
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        problems = main(told.attempts, told.seed, small_models(Path(root)))
    print("\n".join(problems))
    sys.exit(bool(problems))
