"""A user's file is a suite: all its report rows, graded as they say, with examples in front where they are asked for."""

from __future__ import annotations

import json

from components.shared.evaluation.suites import evaluate
from components.shared.tasks.tokenizer import byte_tokenizer


def test_a_file_is_scored_on_its_report_rows_with_examples_in_front(tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [{"prompt": f"{n} and 1?", "answer": f"#### {n + 1}", "grader": "number", "level": 1 + n % 2, "family": "sums",
             "split": "train" if n < 12 else "report"} for n in range(20)]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))
    seen = []

    def agent(items):
        seen.extend(items)
        numbers = [int(item.prompt.rpartition("Question: ")[2].split()[0]) for item in items]
        return [f"It is {number + 1 if number < 16 else 0}." for number in numbers]

    for shots in (0, 2):
        seen.clear()
        suite = f"file:{file}"
        score = evaluate(
            agent, byte_tokenizer(), split="report", items=8, seed=0, suites=[suite], shots=shots
        )[suite]
        assert (score.score, score.n) == (0.5, 8) and score.low < 0.5 < score.high
        assert all(item.prompt.count("Question:") == (shots + 1 if shots else 0) for item in seen)
    turns = byte_tokenizer()
    turns.chat_template = "{{ messages }}"
    asked = {"split": "report", "items": 8, "seed": 0, "suites": [suite]}
    others = [evaluate(agent, turns, **asked, shots=number)[suite].asked for number in (2, 1, 0)]
    assert others[0] == score.asked and len({*others}) == 3, "the same items, in whatever form"
    assert set(score.detail) == {f"file:{file} 1", f"file:{file} 2"}
