"""A model on worked problems from a file (GSM8K): its score with an interval, and what the answers cost.

    python -m tests.performance.evaluation.word_problems MODEL gsm8k.jsonl --items 200
    python -m tests.performance.evaluation.word_problems MODEL gsm8k.jsonl --items 200 --shots 5 --form text

MODEL is a Hugging Face folder or an artifact; the file is one of questions (docs/tasks.md), of which the report split is
asked. Items go in groups of --group; with --results every group's answers are written down, a later call goes on behind
them, and --seconds stops between two groups. Seconds of the clock are those of this machine with whatever else it does;
CPU-seconds are its own. `strict` counts answers whose number is marked (#### or boxed) alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch

from components.shared.evaluation.answers import evaluating
from components.shared.evaluation.statistics import wilson
from components.shared.evaluation.suites import draw
from components.shared.evaluation.writing import LIMIT, written_answers
from components.shared.models.loading import load
from components.shared.tasks.examples import with_examples
from components.shared.tasks.graders import grade


def main() -> None:
    """Ask, write down, and print the score."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shots", type=int, default=0)
    parser.add_argument("--form", choices=["turns", "text"], default="turns")
    parser.add_argument("--limit", type=int, default=LIMIT, help="tokens of an answer")
    parser.add_argument("--group", type=int, default=64)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    begun = time.perf_counter()
    items = draw(f"file:{options.file}", "report", 1, options.items, options.seed)
    asked = with_examples(items, options.shots, form=options.form, seed=options.seed)
    known = options.results is not None and options.results.exists()
    records = [json.loads(line) for line in options.results.read_text().splitlines()] if known else []
    model, tokenizer = load(options.model)
    while len(records) < len(items) and time.perf_counter() - begun < options.seconds:
        group = asked[len(records) : len(records) + options.group]
        clock, busy = time.perf_counter(), time.process_time()
        with evaluating(model):
            texts = written_answers(model, tokenizer, group, limit=options.limit)
        clock, busy = time.perf_counter() - clock, time.process_time() - busy
        for item, text in zip(group, texts, strict=True):
            strict = dataclasses.replace(item, reference=json.dumps({"extract": "strict"}))
            records.append({
                "question": item.prompt[-200:], "answer": item.answer, "text": text, "right": grade(item, text),
                "strict": grade(strict, text), "tokens": len(tokenizer(text, add_special_tokens=False)["input_ids"]),
                "clock": clock / len(group), "cpu": busy / len(group),
            })  # fmt: skip
        if options.results:
            options.results.write_text("".join(json.dumps(record) + "\n" for record in records))
        print(f"{len(records)} of {len(items)}: {clock:.0f} s, {busy:.0f} CPU-seconds", flush=True)
    if not records:
        return
    total = {
        key: sum(record[key] for record in records) for key in ("right", "strict", "tokens", "clock", "cpu")
    }
    for key in ("right", "strict"):
        low, high = wilson(total[key] / len(records), len(records))
        print(
            f"{key:7} {total[key]:.0f} of {len(records)}: {total[key] / len(records):.1%} [{low:.1%}, {high:.1%}]"
        )
    print(f"{total['tokens']} tokens in {total['clock']:.0f} s, {total['cpu']:.0f} CPU-seconds, "
          f"{total['tokens'] / total['cpu']:.1f} tokens a CPU-second; {torch.get_num_threads()} threads")  # fmt: skip


if __name__ == "__main__":
    main()
