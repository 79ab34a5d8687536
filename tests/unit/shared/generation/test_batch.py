"""Texts that go on side by side, in slots that are given on, are the texts that each would be alone."""

from __future__ import annotations

import pytest
import torch

from components.bitnet.conversion import convert, linears_to_convert
from components.shared.generation.batch import Batch, Row, generate, groups
from components.shared.generation.cache import why_not
from components.shared.generation.requests import Decoding, Request, choose, penalised
from components.shared.models.grafting import graft, memory_shape, refinement_shape
from components.shared.models.loading import load, wrap
from components.shared.runtime.errors import InputError
from tests import shapes
from tests.unit.shared.models.variants import VARIANTS, cognate

LENGTHS = (3, 21, 1, 9, 40, 9, 17, 2, 33)
FAMILIES = (*shapes.FAMILIES, "gemma2", "gpt_oss")


def requests(stops=(), limits=(5, 9, 30, 1), **how):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 250, (length,), generator=generator).tolist() for length in LENGTHS]
    return [
        Request(prompt, limits[number % len(limits)], frozenset(stops), seed=number, **how)
        for number, prompt in enumerate(prompts)
    ]


def alone(model, asked):
    """Greedy, one text at a time, each token from a fresh read of the whole text: no cache, no padding."""
    texts = []
    for request in asked:
        ids = list(request.prompt)
        for _ in range(request.limit):
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] in request.stops:
                break
        texts.append(ids[len(request.prompt) :])
    return texts


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_every_family_are_what_each_is_alone(family, tmp_path):
    model, _ = load(shapes.make(family, tmp_path))
    asked = requests()
    expected = alone(model, asked)
    assert generate(model, asked, slots=4) == expected
    stop = expected[2][4]
    asked = requests(stops=[stop])
    stopped = generate(model, asked, slots=4)
    assert stopped == [text[: text.index(stop) + 1] if stop in text else text for text in expected]


@pytest.mark.parametrize("variant", VARIANTS)
def test_texts_of_cognates_with_memory_and_refinement_are_what_each_is_alone(variant):
    model = cognate(variant)
    asked = requests()
    assert generate(model, asked, slots=4) == alone(model, asked)


def test_texts_of_ternary_layers_are_what_each_is_alone(tmp_path):
    model, _ = load(shapes.make("llama", tmp_path))
    wrapped = wrap(model)
    convert(wrapped, dict.fromkeys(linears_to_convert(wrapped), 1.0))
    asked = requests()[:5]
    assert generate(wrapped, asked, slots=2) == alone(wrapped, asked)


def test_texts_of_a_model_with_a_grafted_memory_and_refinement_are_what_each_is_alone(tmp_path):
    model, _ = load(shapes.make("mistral", tmp_path))
    grafted = graft(
        model,
        memory=memory_shape(model, layer=None, size=16, heads=2, chunk=4),
        refinement=refinement_shape(width=16, size=24, heads=2, steps=2, prior=0.5, beta=0.01),
        seed=3,
    )
    with torch.no_grad():
        for name, parameter in grafted.named_parameters():
            if name.endswith("gate"):
                parameter.fill_(0.3)
    asked = requests()[:5]
    assert generate(grafted, asked, slots=2) == alone(grafted, asked)


def test_the_cache_holds_no_more_tokens_than_it_may(tmp_path, monkeypatch):
    model, _ = load(shapes.make("llama", tmp_path))
    held, step = [], Batch.step

    def watched(self):
        held.append(len(self.rows) * (self.cache.get_seq_length() + 1))
        return step(self)

    monkeypatch.setattr(Batch, "step", watched)
    asked = requests()
    expected = generate(model, asked)
    unbounded = max(held)
    held.clear()
    assert generate(model, asked, cache_tokens=120) == expected and max(held) <= 120 < unbounded


def test_a_finished_texts_slot_is_given_to_the_next_prompt(monkeypatch):
    model = cognate("standard")
    passes = []
    model.register_forward_pre_hook(
        lambda module, args, more: passes.append(more["input_ids"].shape), with_kwargs=True
    )
    generate(model, [Request([5], 8 if number else 40) for number in range(13)], slots=4)
    steps = [rows for rows, width in passes if width == 1]
    assert max(steps) <= 4 and len(steps) < 60, (
        "twelve texts of 8 tokens go through three slots beside one of 40"
    )


def test_draws_depend_on_the_request_alone():
    model = cognate("union")
    asked = requests(decoding=Decoding(temperature=1.0, top_k=40, top_p=0.9))
    together = generate(model, asked, slots=3)
    assert together == [generate(model, [request])[0] for request in asked]
    assert together != generate(model, requests(), slots=3)


def test_a_prompt_that_is_asked_several_times_is_read_once():
    model = cognate("standard")
    read = []
    model.register_forward_pre_hook(
        lambda module, args, more: read.append(more["input_ids"].shape[0]), with_kwargs=True
    )
    asked = [Request([5, 6, 7], 4, decoding=Decoding(1.0), seed=seed) for seed in range(6)]
    texts = generate(model, asked)
    assert read[0] == 1 and texts == [generate(model, [request])[0] for request in asked]


def test_whoever_waits_is_told_of_each_text_as_it_ends():
    told = []
    asked = requests()
    texts = generate(
        cognate("standard"), asked, slots=2, finished=lambda number, ids: told.append((number, ids))
    )
    assert sorted(told) == list(enumerate(texts)) and [number for number, _ in told] != list(
        range(len(asked))
    )


def test_a_limit_of_nothing_writes_nothing_and_no_requests_are_no_texts():
    model = cognate("standard")
    assert generate(model, [Request([5], 0), Request([5], 2)])[0] == [] and generate(model, []) == []


def test_a_model_that_keeps_another_state_is_refused_by_name(tmp_path):
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=1, state_size=4))
    assert why_not(model)
    with pytest.raises(InputError, match="type mamba cannot write in batches"):
        generate(model, [Request([5], 2)])


def test_prompts_are_read_in_passes_of_like_length(monkeypatch):
    monkeypatch.setattr("components.shared.generation.batch.READ_TOKENS", 50)
    rows = [Row(number, request) for number, request in enumerate(requests())]
    widths = [[len(row.request.prompt) for row in group] for group in groups(rows)]
    assert widths == [[40], [33], [21, 17], [9, 9, 3, 2, 1]]


class TestChoosing:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])

    def drawn(self, decoding):
        return {
            int(choose(self.logits, decoding, torch.tensor([u]))[0]) for u in torch.linspace(0, 0.9999, 400)
        }

    def test_shares_of_the_draws_are_the_probabilities(self):
        uniforms = torch.linspace(0, 0.9999, 4000)
        chosen = choose(self.logits.expand(4000, 4), Decoding(2.0), uniforms)
        shares = torch.bincount(chosen, minlength=4) / 4000
        torch.testing.assert_close(shares, (self.logits[0] / 2).softmax(-1), atol=2e-3, rtol=0)

    def test_the_k_likeliest_and_the_nucleus_are_drawn_alone(self):
        assert self.drawn(Decoding(1.0)) == {0, 1, 2, 3}
        assert self.drawn(Decoding(1.0, top_k=2)) == {1, 3}
        assert self.drawn(Decoding(1.0, top_p=0.7)) == {1, 3}
        assert self.drawn(Decoding(0.0)) == {1}

    def test_a_token_that_the_text_has_is_less_likely(self):
        logits = penalised(torch.tensor([2.0, -1.0, 3.0]), [0, 1, 1], 2.0)
        assert logits.tolist() == [1.0, -2.0, 3.0]
