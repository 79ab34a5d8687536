"""llama.cpp on a GGUF file. Runs where llama-cpp-python is installed, without the rest; other scripts here start it.

    PEER_PYTHON llama_peer.py texts MODEL.gguf TEXTS.npz NEW OUT.npz
    PEER_PYTHON llama_peer.py speed MODEL.gguf NEW PROMPT                → JSON {"version", "generated", "read"}

TEXTS: by name (tokens,) int32, and by "name prompt" how many of them are the prompt. OUT: by name the logits after each
token (tokens, vocabulary) float32; by "name greedy" the NEW likeliest tokens after the prompt, one after the other; by
"name float32" the logits with keys and values kept in float32, where llama.cpp's own choice is float16; `version`. One
thread. Speeds are tokens a second, the best of six seconds, for NEW greedy tokens and for a prompt of PROMPT tokens.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from typing import Any

import llama_cpp
import numpy as np

VERSION = importlib.metadata.version("llama-cpp-python")


def context_of(model: Any, tokens: int, *, exact: bool) -> Any:
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = tokens
    options.n_threads = options.n_threads_batch = 1
    if exact:
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return llama_cpp.llama_init_from_model(model, options)


def logits(context: Any, tokens: list[int], first: int, size: int) -> np.ndarray:
    """(len(tokens), size), of tokens that stand at the place `first` and behind it; at 0 a new text begins."""
    if first == 0:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for place, token in enumerate(tokens):
        batch.token[place], batch.pos[place] = token, first + place
        batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama.cpp could not compute")
    found = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (len(tokens), size)).copy()
    llama_cpp.llama_batch_free(batch)
    return found


def loaded(path: str) -> tuple[Any, int]:
    """The model, and the size of its vocabulary."""
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp refuses {path}")
    return model, llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))


def written(context: Any, ids: list[int], new: int, size: int) -> list[int]:
    """The likeliest tokens after `ids`."""
    greedy = [int(logits(context, ids, 0, size)[-1].argmax())]
    while len(greedy) < new:
        place = len(ids) + len(greedy) - 1
        greedy.append(int(logits(context, greedy[-1:], place, size)[0].argmax()))
    return greedy


def of_texts(path: str, texts: dict[str, np.ndarray], new: int) -> dict[str, Any]:
    model, size = loaded(path)
    longest = max(text.size for text in texts.values()) + new
    usual, exact = (context_of(model, longest, exact=exact) for exact in (False, True))
    found: dict[str, Any] = {"version": VERSION}
    for name in [name for name in texts if f"{name} prompt" in texts]:
        ids, prompt = texts[name].tolist(), int(texts[f"{name} prompt"])
        found[name] = logits(usual, ids, 0, size)
        found[f"{name} float32"] = logits(exact, ids, 0, size)
        found[f"{name} greedy"] = np.array(written(usual, ids[:prompt], new, size), np.int32)
    return found


def speeds(path: str, new: int, prompt: int) -> dict[str, Any]:
    model, size = loaded(path)
    context = context_of(model, max(prompt, 4 + new), exact=False)

    def best(run: Any) -> float:
        run()
        times, end = [], time.perf_counter() + 6
        while time.perf_counter() < end:
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
        return min(times)

    text = [place % 256 for place in range(prompt)]
    generated, read = (
        best(lambda: written(context, [1, 2, 3, 4], new, size)),
        best(lambda: logits(context, text, 0, size)),
    )
    return {"version": VERSION, "generated": new / generated, "read": prompt / read}


if __name__ == "__main__":
    task, model_path, *arguments = sys.argv[1:]
    if task == "speed":
        print(json.dumps(speeds(model_path, *map(int, arguments))))
    else:
        given, count, out = arguments
        np.savez(out, **of_texts(model_path, dict(np.load(given)), int(count)))
