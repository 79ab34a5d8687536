"""llama.cpp on a GGUF file. Runs where llama-cpp-python is installed, beside gguf_in_llama_cpp.py, without the rest.

    PEER_PYTHON tests/performance/llama_peer.py MODEL.gguf TEXTS.npz NEW OUT.npz

TEXTS: by name (tokens,) int32, and by "name prompt" how many of them are the prompt. OUT: by name the logits after each
token (tokens, vocabulary) float32; by "name greedy" the NEW likeliest tokens after the prompt, one after the other; by
"name float32" the logits with keys and values kept in float32, where llama.cpp's own choice is float16; `version`. One
thread.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Any

import llama_cpp
import numpy as np


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


def main(path: str, texts: dict[str, np.ndarray], new: int) -> dict[str, Any]:
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp refuses {path}")
    size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    longest = max(text.size for text in texts.values()) + new
    usual, exact = (context_of(model, longest, exact=exact) for exact in (False, True))
    found: dict[str, Any] = {"version": importlib.metadata.version("llama-cpp-python")}
    for name in [name for name in texts if f"{name} prompt" in texts]:
        ids = texts[name].tolist()
        found[name] = logits(usual, ids, 0, size)
        found[f"{name} float32"] = logits(exact, ids, 0, size)
        place = int(texts[f"{name} prompt"])
        greedy = [int(logits(usual, ids[:place], 0, size)[-1].argmax())]
        while len(greedy) < new:
            greedy.append(int(logits(usual, greedy[-1:], place, size)[0].argmax()))
            place += 1
        found[f"{name} greedy"] = np.array(greedy, np.int32)
    return found


if __name__ == "__main__":
    given, count = dict(np.load(sys.argv[2])), int(sys.argv[3])
    np.savez(sys.argv[4], **main(sys.argv[1], given, count))
