"""What stands in for suites in a model's own language: a held-out text and easy questions."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from components.shared.evaluation.chat import QUESTIONS, Question, chat_answers, chat_score, is_right, items
from components.shared.evaluation.perplexity import file_score, first_tokens, text_score, windows
from components.shared.evaluation.report_split import stand_ins
from components.shared.evaluation.statistics import wilson
from components.shared.models.loading import load
from components.shared.runtime.errors import InputError
from components.shared.runtime.tracking.progress import Progress
from components.shared.tasks.tokenizer import byte_tokenizer
from tests import shapes
from tests.unit.shared.models.variants import cognate

TEXT = "Question: which of these is larger? Répondez en français, s'il vous plaît.\n" * 6


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load(shapes.make("llama", tmp_path_factory.mktemp("llama")))


def by_hand(model, ids, start):
    """Nats of a text that fits into one window."""
    rows = torch.tensor([[*start, *ids]])
    with torch.no_grad():
        log_p = model(input_ids=rows).logits[0, :-1].double().log_softmax(-1)
    return -float(log_p.gather(-1, rows[0, 1:, None]).sum())


def test_a_text_in_one_window_has_the_likelihood_of_its_tokens():
    model, tokenizer = cognate("standard"), byte_tokenizer()
    found = text_score(model, tokenizer, TEXT, window=1000, stride=1000)
    nats = by_hand(model, list(TEXT.encode()), [257])
    assert found.nll == pytest.approx(nats, rel=1e-5) and found.tokens == found.bytes == len(TEXT.encode())
    assert found.perplexity == pytest.approx(math.exp(nats / found.tokens), rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / len(TEXT.encode()), rel=1e-5)


def test_bits_per_byte_counts_the_bytes_of_what_was_scored(llama):
    model, tokenizer = llama
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert first_tokens(tokenizer) == [], "its <bos> begins a turn of the template, and no text"
    found = text_score(model, tokenizer, TEXT, window=400, stride=400)
    assert found.tokens == len(ids) - 1 and found.bytes == len(TEXT.encode()) - len(
        tokenizer.decode(ids[:1]).encode()
    )
    assert found.nll == pytest.approx(by_hand(model, ids, []), rel=1e-5)


def test_windows_score_every_token_once_with_enough_before_it():
    for begun in (False, True):
        apart = list(windows(range(1000), 64, 64, begun=begun))
        assert all(piece.scored - piece.begin == (0 if begun else 1) for piece in apart)
        assert sum(piece.end - piece.scored for piece in apart) == (1000 if begun else 999)
        pieces = list(windows(range(1000), 64, 16, begun=begun))
        scored = [token for piece in pieces for token in range(piece.scored, piece.end)]
        assert scored == list(range(0 if begun else 1, 1000))
        assert all(piece.scored - piece.begin >= 48 and piece.end - piece.begin <= 64 for piece in pieces[1:])


def test_the_size_of_a_batch_changes_nothing_and_windows_do(llama):
    one, eight = (text_score(*llama, TEXT, window=32, stride=16, batch=batch) for batch in (1, 8))
    assert one.nll == pytest.approx(eight.nll, rel=1e-5)
    assert text_score(*llama, TEXT, window=32, stride=32).nll != pytest.approx(one.nll, rel=1e-5)
    assert text_score(*llama, TEXT, most=50).tokens == 49


def test_a_text_of_several_windows_has_an_interval_over_them(llama):
    found = text_score(*llama, TEXT, window=32, stride=32).as_dict()
    for name in ("perplexity", "bits_per_byte"):
        assert found[f"{name}_low"] < found[name] < found[f"{name}_high"]
    spread = math.log2(found["perplexity_high"] / found["perplexity"])
    bits = found["bits_per_byte_high"] - found["bits_per_byte"]
    assert bits == pytest.approx(spread * found["bits_per_byte"] / math.log2(found["perplexity"]))
    assert "perplexity_low" not in text_score(*llama, "a few words", window=400, stride=400).as_dict()


def test_texts_that_cannot_be_scored_are_refused(llama, tmp_path):
    with pytest.raises(InputError, match="too short"):
        text_score(*llama, "a")
    with pytest.raises(InputError, match="leaves tokens"):
        text_score(*llama, TEXT, window=8, stride=9)
    with pytest.raises(InputError, match="cannot be read"):
        file_score(*llama, tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("The capital of France is Paris.", True),
        ("paris", True),
        ("\n\nThe answer:\nParis", True),
        ("one\ntwo\nParis", False),
        ("Parisian", False),
        ("Lyon, and not Paris", False),
        ("", False),
    ],
)
def test_an_answer_is_right_where_it_says_what_is_accepted_and_nothing_wrong_before(answer, right):
    assert is_right(Question("?", ("Paris",), ("Lyon",)), answer) == right


def test_the_first_accepted_answer_of_every_question_is_right():
    assert len({question.text for question in QUESTIONS}) == len(QUESTIONS) == 24
    assert all(is_right(question, f"It is {question.right[0]}.") for question in QUESTIONS)
    assert not any(
        is_right(question, f"It is {wrong}.") for question in QUESTIONS for wrong in question.wrong
    )


def test_a_model_is_asked_under_its_template_and_one_without_is_shown_where_an_answer_begins(
    llama, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "components.shared.evaluation.chat.sample_answers",
        lambda model, prompts, **how: asked.extend(prompts) or [[] for _ in prompts],
    )
    assert chat_answers(*llama) == [""] * 24
    assert llama[1].decode(asked[0]) == f"<s>user\n{QUESTIONS[0].text}</s>\n<s>assistant\n"
    asked.clear()
    chat_answers(cognate("standard"), byte_tokenizer())
    assert byte_tokenizer().decode(asked[0]) == f"<bos>Question: {QUESTIONS[0].text}\nAnswer:"


def test_stand_ins_are_what_the_settings_ask_for(llama, tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_text(TEXT)

    def asked(**settings):
        evaluation = SimpleNamespace(**{"text": None, "text_tokens": 60, "chat": False} | settings)
        run = SimpleNamespace(config=SimpleNamespace(evaluation=evaluation), progress=Progress("toy"))
        return stand_ins(run, *llama)

    assert asked() == {}
    found = asked(text=str(path), chat=True)
    assert found["tokens"] == 59 and found["perplexity"] > 1 and len(found["text"]) == 64
    assert found["chat"]["n"] == 24 and len(found["chat"]["answers"]) == 24


def test_an_agent_is_asked_as_it_answers():
    answers = [item.answer for item in items()]
    found = chat_score(lambda asked: answers[:20] + [""] * 4, byte_tokenizer())
    assert (found["low"], found["high"]) == wilson(20 / 24, 24)
    assert (found["right"], found["n"]) == (20, 24) and not found["answers"][-1]["right"]
