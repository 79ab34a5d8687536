"""Our model in lm-evaluation-harness against the harness' own Hugging Face model: the same folder, the same local tasks.

    python tests/performance/evaluation/harness_equality.py FOLDER [--dtype float64]

Three tasks are written as JSONL files: multiple choice, the likelihood of a given answer, and answers written up to
the end of a line. What is compared: the scores of the tasks, and each request's log-probability, greediness or text.

And the same questions as a file of this project's own, asked as `forge evaluate --suite file:…` asks it: its share of right
choices against the harness' `hf`, in the tokenizer's chat template and, of a copy of the folder without one, as plain text,
which begins with <bos> here: so it does for `hf` then. `forge evaluate` takes weights as they are stored, and --dtype is
that of the log-probabilities. The harness counts white space at a template's end with each choice, alike for all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import Any

import lm_eval
import numpy as np
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer

from components.shared.assessment.measure import assess
from components.shared.evaluation.answers import choice_scores
from components.shared.evaluation.chat import QUESTIONS
from components.shared.evaluation.suites import suite_items
from components.shared.harness.model import AgentForgeLM
from components.shared.models.loading import load
from components.shared.tasks.prompting import has_chat_template

COMMON = {"dataset_path": "json", "test_split": "test", "doc_to_text": "Question: {{question}}\nAnswer:"}
KINDS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice", "doc_to_choice": "{{choices}}", "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "likelihood": {
        "output_type": "loglikelihood", "doc_to_target": " {{answer}}",
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "written": {
        "output_type": "generate_until", "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "max_gen_toks": 24},
        "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
    },
}  # fmt: skip


def tasks(folder: Path) -> list[dict[str, Any]]:
    """The three tasks, over a file of questions."""
    answers = [question.right[0] for question in QUESTIONS]
    with (folder / "questions.jsonl").open("w") as file:
        for place, question in enumerate(QUESTIONS):
            others = [answers[(place + step) % len(answers)] for step in (3, 7, 11)]
            right = place % 4
            choices = [*others[:right], answers[place], *others[right:]]
            row = {"question": question.text, "answer": answers[place], "choices": choices, "right": right}
            file.write(json.dumps(row) + "\n")
    files = {"data_files": {"test": str(folder / "questions.jsonl")}}
    return [COMMON | own | {"task": name, "dataset_kwargs": dict(files)} for name, own in KINDS.items()]


def evaluated(model: Any, folder: Path) -> tuple[dict[str, float], dict[str, list[Any]], float]:
    """The scores, what came of each request, and the processor seconds."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    found = lm_eval.simple_evaluate(
        model=model, tasks=tasks(folder), task_manager=TaskManager(include_defaults=False), bootstrap_iters=0
    )
    scores = {
        f"{task} {name.partition(',')[0]}": value
        for task, metrics in found["results"].items()
        for name, value in metrics.items()
        if isinstance(value, float) and "stderr" not in name
    }
    answers = {
        task: [answer for sample in samples for (answer,) in sample["resps"]]
        for task, samples in found["samples"].items()
    }
    return scores, answers, resource.getrusage(resource.RUSAGE_SELF).ru_utime - before


def evaluate_itself(folder: Path, files: Path, batch: int, dtype: str, *, chats: bool) -> None:
    """What `forge evaluate` says of the questions as a file, and what the harness' own model says of the same file."""
    normalised, plain = files / "normalised.jsonl", files / "plain.jsonl"
    rows = [json.loads(line) for line in (files / "questions.jsonl").read_text().splitlines()]
    for path, grader in ((plain, {"name": "choice"}), (normalised, {"name": "choice", "normalise": True})):
        with path.open("w") as file:
            for row in rows:
                choices = list(
                    dict.fromkeys(f" {choice}" for choice in row["choices"])
                )  # two are asked twice
                item = {
                    "prompt": f"Question: {row['question']}\nAnswer:",
                    "choices": choices,
                    "grader": grader,
                }
                file.write(json.dumps(item | {"answer": f" {row['answer']}", "split": "report"}) + "\n")
    suites = [f"file:{path}" for path in (plain, normalised)]
    scores = assess(folder, suites, items=len(rows), seed=0, batch=batch).scores
    model, tokenizer = load(folder, dtype=getattr(torch, dtype))
    start = "" if chats else tokenizer.bos_token or ""
    items = suite_items(suites[0], split="report", items=len(rows), seed=0)
    logs = dict(
        zip((item.prompt for item in items), choice_scores(model, tokenizer, items).logs, strict=True)
    )
    del model
    task = {
        "task": "own", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(plain)}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": start + "{{prompt}}",
        "doc_to_choice": "{{choices}}", "doc_to_target": "{{choices.index(answer)}}", "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }  # fmt: skip
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", dtype=dtype, batch_size=batch),
        tasks=[task], task_manager=TaskManager(include_defaults=False), bootstrap_iters=0, apply_chat_template=chats,
    )  # fmt: skip
    asked = "in the chat template" if chats else "as plain text"
    for metric, suite in zip(("acc", "acc_norm"), suites, strict=True):
        theirs, own = found["results"]["own"][f"{metric},none"], scores[suite]["score"]
        print(
            f"file, {asked}: {metric:8} hf {theirs:.9f}   forge evaluate {own:.9f}   difference {own - theirs:+.1e}"
        )
    apart = [
        np.array([theirs for ((theirs, _),) in sample["resps"]]) - logs[sample["doc"]["prompt"]]
        for sample in found["samples"]["own"]
    ]
    print(
        f"file, {asked}: largest difference of {sum(map(len, apart))} log-probabilities "
        f"{max(abs(each).max() for each in apart):.1e}, but for what a question's choices share "
        f"{max(abs(each - each[0]).max() for each in apart):.1e}"
    )


def without_template(folder: Path, copy: Path) -> Path:
    """The same model, whose tokenizer has no chat template."""
    copy.mkdir()
    for path in folder.resolve().iterdir():
        if path.name == "tokenizer_config.json":
            config = json.loads(path.read_text())
            config.pop("chat_template", None)
            (copy / path.name).write_text(json.dumps(config))
        elif path.is_file() and not path.name.startswith("chat_template"):
            shutil.copy(path, copy)
    return copy


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("model", type=Path)
    asked.add_argument("--dtype", default="float32")
    asked.add_argument("--batch", type=int, default=16)
    options = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ["HF_DATASETS_CACHE"] = f"{name}/cache"
        folder = Path(name)
        theirs = HFLM(
            pretrained=str(options.model), device="cpu", dtype=options.dtype, batch_size=options.batch
        )
        scores, answers, seconds = evaluated(theirs, folder)
        del theirs
        ours = AgentForgeLM(str(options.model), dtype=options.dtype, batch_size=options.batch)
        own_scores, own_answers, own_seconds = evaluated(ours, folder)
        del ours
        copy = without_template(options.model, folder / "copy")
        evaluate_itself(copy, folder, options.batch, options.dtype, chats=False)
        if has_chat_template(AutoTokenizer.from_pretrained(options.model)):
            evaluate_itself(options.model, folder, options.batch, options.dtype, chats=True)
    print(
        f"{options.dtype}, batches of {options.batch}; CPU-s: hf {seconds:.1f}, agent_forge {own_seconds:.1f}"
    )
    for name, value in scores.items():
        print(
            f"{name:28} hf {value:.9f}   agent_forge {own_scores[name]:.9f}   difference {own_scores[name] - value:+.1e}"
        )
    for task, rows in answers.items():
        pairs = list(zip(rows, own_answers[task], strict=True))
        if task == "written":
            print(f"{task:28} {sum(a == b for a, b in pairs)} of {len(pairs)} texts are the same")
            continue
        largest = max(abs(a[0] - b[0]) for a, b in pairs)
        greedy = sum(a[1] == b[1] for a, b in pairs)
        print(
            f"{task:28} largest difference of {len(pairs)} log-probabilities {largest:.1e}; greedy alike {greedy}"
        )


if __name__ == "__main__":
    main()
