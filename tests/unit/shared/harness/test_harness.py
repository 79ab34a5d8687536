"""lm-evaluation-harness, both ways: our model as its `LM`, our suites and users' files as its tasks.

One file, so that one worker imports lm_eval.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from components.shared.agent.agent import Agent
from components.shared.agent.architecture import Architecture, Route
from components.shared.evaluation.answers import correct
from components.shared.evaluation.suites import suite_items
from components.shared.harness.__main__ import arguments
from components.shared.harness.model import AgentForgeLM
from components.shared.harness.tasks import SuiteTask
from components.shared.models.loading import save
from components.shared.models.remote_code.thoughts import think
from components.shared.runtime.errors import ConfigError
from components.shared.tasks.batches import encode
from components.shared.tasks.examples import with_examples
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import shapes

from ..models.variants import cognate

PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is ", "Oslo, and that of Norway"),
    ("", "Question: which of these is larger"),
    ("sort dax=", "adx"),
    ("sort dax=", "adxy"),
    ("sort dax=a", "d"),
    ("add the numbers: 47+3=50, " * 30, "12-5=7"),
]
TEXTS = ["Remember the key, recall the value.", "abc=1, dax=2; " * 60]
WRITING = [
    ("The capital of", {"until": ["\n"], "max_gen_toks": 12}),
    ("Put the words in order, copy", {"until": ["e ", "."], "max_gen_toks": 20}),
    ("sort", {"max_gen_toks": 5}),
]


def asked(kind: str, rows: list[tuple]) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=row, idx=0) for row in rows]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    shapes.make("llama", path)
    return path


def test_it_says_what_the_harness_own_model_says(folder: Path) -> None:
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=3, dtype="float32", max_length=96)
    ours = AgentForgeLM(str(folder), batch_size=3, max_length=96)
    for kind, rows in (("loglikelihood", PAIRS), ("loglikelihood_rolling", [(text,) for text in TEXTS])):
        a = getattr(theirs, kind)(asked(kind, rows), disable_tqdm=True)
        b = getattr(ours, kind)(asked(kind, rows), disable_tqdm=True)
        values = [(x[0], y[0]) if kind == "loglikelihood" else (x, y) for x, y in zip(a, b, strict=True)]
        assert all(y == pytest.approx(x, abs=1e-4) for x, y in values)
        if kind == "loglikelihood":
            assert [x[1] for x in a] == [y[1] for y in b]
    rows = asked("generate_until", WRITING)
    assert ours.generate_until(rows) == theirs.generate_until(rows, disable_tqdm=True)
    for context, continuation in PAIRS[:2]:
        assert ours._encode_pair(context, continuation) == theirs._encode_pair(context, continuation)
    chat = [{"role": "user", "content": "Which?"}]
    assert ours.apply_chat_template(chat) == theirs.apply_chat_template(chat)


def test_generation_settings_that_are_not_known_are_refused(folder: Path) -> None:
    ours = AgentForgeLM(str(folder))
    with pytest.raises(ConfigError, match="num_beams"):
        ours.generate_until(asked("generate_until", [("a", {"num_beams": 4})]))
    with pytest.raises(ConfigError, match="no room"):
        ours.generate_until(asked("generate_until", [("a", {"max_gen_toks": 4096})]))


def test_a_model_that_was_taught_to_think_thinks(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    model = cognate(thoughts={"length": 3, "start": 259, "end": 260, "mixing": True})
    with torch.no_grad():
        model.talk_head.outward.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    save(model, tokenizer, tmp_path, card="")
    # float64: in a batch, rows are rounded in another order than alone
    thinking = AgentForgeLM(str(tmp_path), dtype="float64")
    plain = AgentForgeLM(str(tmp_path), dtype="float64", thoughts=False)
    pairs = asked("loglikelihood", [("ab=", "xy"), ("47+3=", "0"), ("sort dax=", "adx")])
    logs = [log for log, _ in thinking.loglikelihood(pairs, disable_tqdm=True)]
    ids = torch.tensor([[tokenizer.bos_token_id, *b"ab=x"]])
    expected = think(model.double(), ids, positions=torch.tensor([[3, 4]])).logits[0].log_softmax(-1)
    assert logs[0] == pytest.approx(float(expected[0, ord("x")] + expected[1, ord("y")]), abs=1e-4)
    assert logs != pytest.approx([log for log, _ in plain.loglikelihood(pairs, disable_tqdm=True)], abs=1e-3)
    rows = asked("generate_until", [("ab=", {"max_gen_toks": 6})])
    assert thinking.generate_until(rows) != plain.generate_until(rows)


def test_an_agent_is_its_mixture_of_experts_for_scoring_and_for_writing(tmp_path: Path) -> None:
    tokenizer, model = byte_tokenizer(), cognate()
    path = "model.layers.0.self_attn.q_proj"
    z = (1 + 2 * torch.randn(32, generator=torch.Generator().manual_seed(0))).half()
    save(model, tokenizer, tmp_path, card="")
    base = AgentForgeLM(str(tmp_path))
    route = Route(experts={"one": 1.0})
    Agent(model, tokenizer, Architecture(default=route), experts={"one": {path: z}}).save(tmp_path)
    agent = AgentForgeLM(str(tmp_path))
    pairs = asked("loglikelihood", [("ab=", "xy"), ("47+3=", "0")])
    with_expert = [log for log, _ in agent.loglikelihood(pairs, disable_tqdm=True)]
    assert with_expert != pytest.approx([log for log, _ in base.loglikelihood(pairs, disable_tqdm=True)])
    with agent.agent.with_experts(route):
        inside = [log for log, _ in base_of(agent).loglikelihood(pairs, disable_tqdm=True)]
    assert with_expert == pytest.approx(inside)
    written = agent.generate_until(asked("generate_until", [("ab=", {"max_gen_toks": 8})]))
    assert written != base.generate_until(asked("generate_until", [("ab=", {"max_gen_toks": 8})]))


def base_of(agent: AgentForgeLM) -> AgentForgeLM:
    """The same model without the agent around it."""
    other = AgentForgeLM.__new__(AgentForgeLM)
    other.__dict__ |= agent.__dict__ | {"agent": None}
    return other


def test_a_suite_and_a_file_are_tasks_with_the_report_items_and_their_grades(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Which of {number}? ", "answer": "no" if number % 3 else "yes", "split": "report"}
        for number in range(9)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mine = f"file:{tmp_path / 'mine.jsonl'}"
    model, tokenizer = cognate(), byte_tokenizer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    asked_items = suite_items(mine, split="report", items=9, seed=0)
    batch = encode([dataclasses.replace(item, answer="yes") for item in asked_items], tokenizer)
    for _ in range(40):  # it says yes to everything
        model(**batch._asdict()).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(model, tokenizer, tmp_path / "model", card="")
    # the command line asks for a GPU, where nobody has said anything
    ours = AgentForgeLM(str(tmp_path / "model"), device=None if torch.cuda.is_available() else "cuda:0")
    (tmp_path / "tasks").mkdir()
    line = arguments(["run", "--tasks", f"forge:reasoning,{mine}"], tmp_path / "tasks")
    configs = [
        load_yaml(Path(file), resolve_func=True) | {"items": 12, "seed": 3} for file in line[-1].split(",")
    ]
    found = lm_eval.simple_evaluate(
        model=ours, tasks=configs, task_manager=TaskManager(include_defaults=False), bootstrap_iters=0
    )
    for name, suite in (("forge_reasoning", "reasoning"), ("file_mine", mine)):
        items = suite_items(suite, split="report", items=12, seed=3)
        samples = found["samples"][name]
        assert [sample["doc"]["prompt"] for sample in samples] == [item.prompt for item in items]
        assert [sample["score"] for sample in samples] == correct(ours.model, tokenizer, items).tolist()
    assert found["results"]["file_mine"]["score,none"] == pytest.approx(1 / 3)


def test_choices_are_scored_by_likelihood() -> None:
    task = SuiteTask({"task": "x", "suite": "reasoning", "items": 2})
    doc = task.test_docs()[0] | {"answer": " b", "choices": (" a", " b"), "grader": "choice"}
    requests = task.construct_requests(doc, "Which?")
    assert [request.args for request in requests] == [("Which?", " a"), ("Which?", " b")]
    assert task.process_results(doc, [(-2.0, False), (-1.0, False)]) == {"score": 1.0, "score_norm": 1.0}
    chat = task.fewshot_context(doc, apply_chat_template=True, chat_template=lambda turns: repr(turns))
    assert "'role': 'user'" in chat and doc["prompt"] in eval(chat)[-1]["content"]


def test_choices_of_other_lengths_are_compared_by_the_character_and_as_the_item_says() -> None:
    task = SuiteTask({"task": "x", "suite": "reasoning", "items": 2})
    doc = task.test_docs()[0] | {
        "answer": "\u00e9\u00e9\u00e9",
        "choices": ("ab", "\u00e9\u00e9\u00e9"),
        "grader": "choice",
    }
    logs = [(-4.0, False), (-5.0, False)]  # 2 and 1.67 nats a character; 2 and 0.83 a byte
    assert task.process_results(doc, logs) == {"score": 0.0, "score_norm": 1.0}
    assert task.process_results(doc | {"reference": '{"normalise": true}'}, logs)["score"] == 1.0
    bytes_alone = [(-2.0, False), (-5.0, False)]  # a byte of the second is likelier, a character is not
    assert task.process_results(doc, bytes_alone)["score_norm"] == 0.0


def test_examples_stand_in_front_of_a_files_questions_and_are_refused_where_there_are_none(
    tmp_path: Path,
) -> None:
    rows = [
        {"prompt": f"{n} and one?", "answer": f"{n + 1}", "split": "train" if n < 4 else "report"}
        for n in range(8)
    ]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = f"file:{tmp_path / 'q.jsonl'}"
    task = SuiteTask({"task": "x", "suite": suite, "items": 4, "num_fewshot": 2})
    [expected] = with_examples(task.items[:1], 2, form="text", seed=0)
    task.build_all_requests(limit=1, rank=0, world_size=1)
    [request] = task.instances
    assert request.args[0] == expected.prompt and request.args[0].count("Question:") == 3
    assert request.args[1]["until"] == ["Question:", "\n"]
    assert task.process_results(task.test_docs()[0], [expected.answer]) == {"score": 1.0}
    chat = task.fewshot_context(
        task.test_docs()[0], 2, apply_chat_template=True, chat_template=lambda turns: repr(turns)
    )
    assert [turn["role"] for turn in eval(chat)] == ["user", "assistant"] * 2 + ["user"]
    with pytest.raises(ConfigError, match="only a file of questions has examples"):
        plain = SuiteTask({"task": "x", "suite": "reasoning", "items": 2})
        plain.fewshot_context(plain.test_docs()[0], 5)


def test_a_puzzle_of_arc_has_two_attempts(tmp_path: Path) -> None:
    pair = {"input": [[1, 2], [3, 4]], "output": [[5, 6], [7, 8]]}
    for name in ("training", "evaluation"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps({"train": [pair], "test": [pair]}))
    task = SuiteTask({"task": "x", "suite": f"arc:{tmp_path}", "items": 2})
    doc = task.test_docs()[0]
    requests = task.construct_requests(doc, f"<|user|>2024\n{doc['prompt']}")
    assert [request.args[0] for request in requests] == [
        "<|user|>2024\n12/34>56/78;12/34>", "<|user|>2024\n13/24>57/68;13/24>",
    ]  # fmt: skip
    assert task.process_results(doc, ["", "57/68"]) == {"score": 1.0}
    assert task.process_results(doc, ["56/78", ""]) == {"score": 1.0}
    assert task.process_results(doc, ["57/68", "56/78"]) == {"score": 0.0}
