"""Tokens a second of texts of mixed lengths: one by one, padded together, in slots, and in transformers' own.

    python tests/performance/models/generation.py                       # a random Llama of 25M parameters
    python tests/performance/models/generation.py --shape 135M --count 64
    python tests/performance/models/generation.py --model FOLDER        # any Hugging Face folder

Prompts of 8 to 512 tokens and answers of 8 to 256, both log-uniform and drawn apart; nothing stops an answer before its
length, so that everyone writes the same number of tokens, and reading the prompts counts. `one by one` is transformers'
`generate` on one prompt after another (of the first --alone), `padded` the same on --slots prompts of like length at a
time, padded on the left and cut where an answer ends, `transformers` its continuous batching over a paged cache. One run
each after a warm-up: tokens a second of the clock, and a second of the processors, which other work on the machine changes
less; `equal` is the share of texts that are token for token those written one by one.
"""

from __future__ import annotations

import argparse
import math
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.generation import ContinuousBatchingConfig

from components.shared.generation.batch import generate
from components.shared.generation.requests import Request
from components.shared.models.loading import load

SHAPES = {
    "25M": {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 7, "num_attention_heads": 8,
            "num_key_value_heads": 4, "vocab_size": 4096},
    "135M": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49152},
}  # fmt: skip
Texts = list[list[int]]


def made(shape: str, dtype: torch.dtype, device: str) -> Any:
    """A random Llama."""
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, tie_word_embeddings=True)
    config.pad_token_id, config.eos_token_id = 0, None
    return LlamaForCausalLM(config).to(device=device, dtype=dtype).eval()


def drawn(count: int, vocabulary: int, longest: tuple[int, int]) -> list[Request]:
    """Prompts and limits, log-uniform."""
    rng = random.Random(0)

    def length(most: int) -> int:
        return round(math.exp(rng.uniform(math.log(8), math.log(most))))

    return [
        Request([rng.randrange(3, vocabulary) for _ in range(length(longest[0]))], length(longest[1]))
        for _ in range(count)
    ]


def one_by_one(model: Any, asked: list[Request]) -> Texts:
    """transformers' `generate`, a prompt at a time."""
    return [padded(model, [request], 1)[0] for request in asked]


def padded(model: Any, asked: list[Request], slots: int) -> Texts:
    """transformers' `generate` on prompts of like length, padded on the left; each batch runs to its longest answer."""
    texts: Texts = [[] for _ in asked]
    order = sorted(range(len(asked)), key=lambda index: len(asked[index].prompt))
    for start in range(0, len(order), slots):
        indices = order[start : start + slots]
        width = max(len(asked[index].prompt) for index in indices)
        rows = [[0] * (width - len(asked[index].prompt)) + list(asked[index].prompt) for index in indices]
        mask = [
            [0] * (width - len(asked[index].prompt)) + [1] * len(asked[index].prompt) for index in indices
        ]
        most = max(asked[index].limit for index in indices)
        written = model.generate(
            input_ids=torch.tensor(rows, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            max_new_tokens=most, min_new_tokens=most, do_sample=False, pad_token_id=0,
        )  # fmt: skip
        for index, row in zip(indices, written[:, width:].tolist(), strict=True):
            texts[index] = row[: asked[index].limit]
    return texts


def continuous(model: Any, asked: list[Request], slots: int) -> Texts:
    """transformers' continuous batching, a limit of its own for each prompt."""
    settings = GenerationConfig(do_sample=False, pad_token_id=0, eos_token_id=-1, max_new_tokens=512)
    batching = ContinuousBatchingConfig(max_batch_tokens=2048, num_blocks=512)
    texts: Texts = [[] for _ in asked]
    with model.continuous_batching_context_manager(
        generation_config=settings, continuous_batching_config=batching
    ) as manager:
        numbers = {
            manager.add_request(list(request.prompt), max_new_tokens=request.limit): number
            for number, request in enumerate(asked)
        }
        for _ in asked:
            result = manager.get_result(timeout=600)
            texts[numbers[result.request_id]] = result.generated_tokens
    return texts


def measure(name: str, write: Callable[[], Texts], expected: Texts | None) -> tuple[float, float, Texts]:
    """Print tokens a second, and how many texts are as expected."""
    begun, busy = time.perf_counter(), time.process_time()
    texts = write()
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    tokens = sum(map(len, texts))
    equal = "" if expected is None else f", equal {sum(map(list.__eq__, texts, expected))}/{len(expected)}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:14} {tokens / seconds:9.1f} tokens/s {tokens / busy:9.1f} tokens/CPU-s  {seconds:7.1f} s{equal}"
          f"  (peak so far {peak:.0f} MB)", flush=True)  # fmt: skip
    return tokens / seconds, tokens / busy, texts


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="25M")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--count", type=int, default=128, help="prompts")
    parser.add_argument("--alone", type=int, default=12, help="prompts that are written one by one")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--longest", type=int, nargs=2, default=(512, 256), help="prompt and answer, tokens")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--without", nargs="*", default=[], choices=["padded", "transformers"])
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    if options.model:
        model: Any = load(options.model)[0].to(device=options.device, dtype=dtype)
        model.generation_config.eos_token_id = None
    else:
        model = made(options.shape, dtype, options.device)
    vocabulary = model.config.get_text_config().vocab_size
    asked = drawn(options.count, vocabulary, tuple(options.longest))
    alone, tokens = asked[: options.alone], sum(request.limit for request in asked)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters, {options.dtype}, {options.device}, "
          f"{torch.get_num_threads()} threads; {len(asked)} prompts of {sum(len(r.prompt) for r in asked)} tokens, "
          f"{tokens} to write, {options.slots} slots")  # fmt: skip
    with torch.no_grad():
        generate(model, drawn(2, vocabulary, (16, 16)))
        one_by_one(model, drawn(1, vocabulary, (16, 16)))
        single, single_busy, expected = measure("one by one", lambda: one_by_one(model, alone), None)
        rate, busy, texts = measure("slots", lambda: generate(model, asked, slots=options.slots), None)
        equal = sum(map(list.__eq__, texts, expected))
        print(f"{'':14} {rate / single:.1f} times one by one, {busy / single_busy:.1f} times by CPU-seconds;"
              f" equal {equal}/{len(expected)}")  # fmt: skip
        if "padded" not in options.without:
            measure("padded", lambda: padded(model, asked, options.slots), texts)
        if "transformers" not in options.without:
            measure("transformers", lambda: continuous(model, asked, options.slots), texts)


if __name__ == "__main__":
    main()
