"""What every phase ends with: its output scored on the report split, a suite at a time."""

from __future__ import annotations

from types import SimpleNamespace

from components.shared.evaluation.report_split import score
from components.shared.evaluation.suites import SUITES, all_items, evaluate
from components.shared.runtime.config.settings import EvaluationSettings
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.tokenizer import byte_tokenizer


def test_the_scores_are_those_of_the_report_split_with_a_step_of_progress_a_suite(tmp_path, capsys):
    asked: list[str] = []

    def agent(items):
        asked.extend(item.prompt for item in items)
        return [item.answer if len(item.prompt) % 2 else "" for item in items]

    evaluation = EvaluationSettings(items=24, batch=8)
    run = SimpleNamespace(
        config=SimpleNamespace(evaluation=evaluation),
        seed=3,
        progress=Progress("toy"),
        scores={},
        extra={},
        inputs={},
    )
    scores = score(run, agent, byte_tokenizer())
    assert run.scores == scores and tuple(scores) == SUITES
    assert set(asked) == {item.prompt for item in all_items(split="report", items=24, seed=3)}
    assert scores == evaluate(agent, byte_tokenizer(), split="report", items=24, seed=3)
    assert 0 < scores["reasoning"].score < 1
    assert f"score {len(SUITES)}/{len(SUITES)}" in capsys.readouterr().err
