"""Parallel thoughts are exactly the thoughts that each position would have alone."""

from __future__ import annotations

import copy

import pytest
import torch

from components.shared.models.remote_code.thoughts import (
    TalkHead,
    choose,
    continue_thoughts,
    encode_text,
    fork,
    generate_with_thoughts,
    sample_thoughts,
    silence,
    think,
    thought_mask,
)

from .thinkers import END, FOREIGN, START, VOCABULARY


def think_alone(model, after, prefix, length=3):
    """One thought after one prefix, token by token, each by a plain forward pass; without its </think>."""
    tokens = [*prefix, START]
    while len(tokens) < len(prefix) + 1 + length and tokens[-1] != END:
        tokens.append(int(silence(after(model, tokens)[0], (START,)).argmax()))
    return [token for token in tokens[len(prefix) + 1 :] if token != END]


class TestAgainstSequentialGeneration:
    def test_each_position_thinks_what_it_would_think_alone(self, models, after, text):
        lengths = set()
        for kind in (*FOREIGN, "standard", "refinement"):  # a memory is not written while thinking: see below
            model = models[kind]
            predicted = think(model, text, length=6)
            for row in range(2):
                for position in range(7):
                    prefix = text[row, : position + 1].tolist()
                    thought = think_alone(model, after, prefix, length=6)
                    lengths.add(len(thought))
                    assert predicted.tokens[row, position].tolist() == thought + [END] * (6 - len(thought)), (
                        kind
                    )
                    before, hidden_before = after(model, prefix)
                    logits, hidden = after(model, [*prefix, START, *thought, END])
                    weight = model.talk_head(hidden_before, hidden)
                    mixed = before + weight * (logits - before)
                    assert (predicted.logits[row, position] - mixed).abs().max() < 1e-5, kind
                    assert (predicted.before[row, position] - before).abs().max() < 1e-5, kind
        assert 6 in lengths and len(lengths) > 1, (
            "thoughts of full length and shorter ones must have been compared"
        )

    @torch.no_grad()
    def test_all_slots_at_once_are_each_slot_alone(self, model, text):
        """For every variant: the thought of one slot, thought alone from its prefix through the cache."""
        predicted = think(model, text)
        for row in range(2):
            for position in range(7):
                prefix = text[row : row + 1, : position + 1]
                alone = think(model, prefix, positions=torch.tensor([[position]]))
                assert torch.equal(predicted.tokens[row, position], alone.tokens[0, 0])
                assert (predicted.logits[row, position] - alone.logits[0, 0]).abs().max() < 1e-5

    @torch.no_grad()
    def test_feeding_a_thought_at_once_is_feeding_it_token_by_token(self, model, text):
        context = encode_text(model, text)
        positions = torch.tensor([[2, 2, 6], [0, 5, 6]])
        tokens = torch.randint(0, START, (2, 4, 3), generator=torch.Generator().manual_seed(2))
        padding_mask = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(3)) < 0.3
        at_once = continue_thoughts(model, context, fork(context.cache), positions, tokens, padding_mask)
        cache = fork(context.cache)
        for step in range(4):
            one, so_far = tokens[:, step : step + 1], padding_mask[:, : step + 1]
            hidden = continue_thoughts(model, context, cache, positions, one, so_far)
            assert (hidden[:, 0] - at_once[:, step]).abs().max() < 1e-5

    def test_padding_on_either_side_changes_nothing(self, model, text):
        if (
            model.config.model_type == "gemma2"
        ):  # its softmax is in float32, where float64's masks are infinite
            model = copy.deepcopy(model).float()
        alone = think(model, text[:1, :5])
        for left in (0, 2):
            ids = torch.full((1, 7), 9)
            mask = torch.zeros(1, 7, dtype=torch.long)
            ids[:, left : left + 5], mask[:, left : left + 5] = text[:1, :5], 1
            padded = think(model, ids, mask, torch.arange(left, left + 5)[None])
            assert torch.equal(padded.tokens, alone.tokens)
            assert (padded.logits - alone.logits).abs().max() < 1e-5


class TestMask:
    def test_it_is_the_text_and_a_diagonal_for_each_step(self):
        visible = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
        padding_mask = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1)) < 0.3
        mask = thought_mask(visible, padding_mask, steps=2)[:, 0] == 0
        for row in range(2):
            for step in range(2):
                for slot in range(3):
                    expected = visible[row, slot].tolist()
                    for key_step in range(4):
                        expected += [
                            key_step <= step + 2
                            and key_slot == slot
                            and not padding_mask[row, key_step, key_slot]
                            for key_slot in range(3)
                        ]
                    assert mask[row, step * 3 + slot].tolist() == expected

    def test_a_thought_hears_nothing_of_another_and_nothing_of_later_text(self, model, text):
        length = 3
        thoughts = torch.randint(0, START, (2, 7, length), generator=torch.Generator().manual_seed(3))
        first = think(model, text, thoughts=thoughts).logits
        thoughts[:, 4] = (thoughts[:, 4] + 1) % START
        other = think(model, text, thoughts=thoughts).logits
        assert torch.equal(first[:, :4], other[:, :4]) and torch.equal(first[:, 5:], other[:, 5:])
        assert not torch.equal(first[:, 4], other[:, 4])
        text[:, 5:] = (text[:, 5:] + 1) % START
        later = think(model, text, thoughts=thoughts).logits
        assert (other[:, :5] - later[:, :5]).abs().max() < 1e-6

    def test_thinking_leaves_the_text_s_own_cache_as_it_was(self, model, text):
        context = encode_text(model, text)
        before = context.cache.get_seq_length()
        sample_thoughts(model, context, torch.tensor([[6], [6]]), length=3, start=START, end=END)
        assert context.cache.get_seq_length() == before == 7


class TestTalkHead:
    def test_an_untrained_head_leaves_every_logit_bit_for_bit(self, model, text):
        trained = model.talk_head.outward.weight.detach().clone()
        model.talk_head.start_closed()
        try:
            predicted = think(model, text)
            assert torch.equal(predicted.logits, predicted.before)
            assert not predicted.weight.any()
        finally:
            with torch.no_grad():
                model.talk_head.outward.weight.copy_(trained)

    def test_mixing_logits_is_mixing_hidden_states(self, models, after, text):
        """The reference mixes hidden states and applies the output layer once."""
        model = models["llama"]
        predicted = think(model, text[:1], positions=torch.tensor([[6]]))
        with torch.no_grad():
            _, without = after(model, text[0].tolist())
            _, with_ = after(model, [*text[0].tolist(), START, *predicted.tokens[0, 0].tolist(), END])
            mixed = model.lm_head(without + model.talk_head(without, with_) * (with_ - without))
        assert (predicted.logits[0, 0] - mixed).abs().max() < 1e-5

    def test_it_is_the_reference_s_mlp(self):
        head = TalkHead(6)
        torch.nn.init.normal_(head.outward.weight)
        before, after = torch.randn(2, 4, 6).unbind(0)
        layers = (head.inward, torch.nn.ReLU(), head.middle, torch.nn.ReLU(), head.outward)
        assert torch.allclose(
            head(before, after), torch.nn.Sequential(*layers)(torch.cat([before, after], -1))
        )
        assert [tuple(p.shape) for p in head.parameters()] == [(6, 12), (6,), (6, 6), (6,), (1, 6)]


class TestSampling:
    def test_tokens_come_as_often_as_softmax_says(self):
        logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
        drawn = choose(logits.expand(40_000, -1), 2.0, torch.Generator().manual_seed(0))
        shares = torch.bincount(drawn, minlength=4) / 40_000
        assert (shares - torch.softmax(logits / 2.0, -1)).abs().max() < 0.01

    def test_a_thought_never_holds_the_word_that_opens_it_and_nothing_follows_its_end(self, models, text):
        model = models["llama"]
        context = encode_text(model, text.repeat(20, 1))
        positions = torch.arange(7).expand(40, -1)
        drawn = sample_thoughts(model, context, positions, length=5, start=START, end=END, temperature=50.0)
        assert set(drawn.unique().tolist()) == set(range(VOCABULARY)) - {START}
        ended = (drawn == END).int().cummax(-1).values.bool()
        assert torch.equal(ended, drawn == END) and ended.any()

    def test_the_same_seed_thinks_the_same(self, model, text):
        options = {"positions": torch.tensor([[3, 3], [6, 6]]), "temperature": 1.5}
        first, same, other = (
            think(model, text, **options, generator=torch.Generator().manual_seed(seed)).tokens
            for seed in (5, 5, 6)
        )
        assert torch.equal(first, same) and not torch.equal(first, other)


class TestSpeaking:
    def test_every_token_is_what_thinking_over_the_whole_text_says(self, model, text):
        """Ragged prompts in one batch, one cache for all tokens, against a fresh read of each row's text."""
        ids = text.clone()
        mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
        generated = generate_with_thoughts(model, ids, mask, limit=4, stops=())
        for row, length in ((0, 7), (1, 4)):
            tokens = text[row, :length].tolist()
            for step in range(4):
                predicted = think(model, torch.tensor([tokens]), positions=torch.tensor([[len(tokens) - 1]]))
                expected = int(silence(predicted.logits[0, 0], (START, END)).argmax())
                assert int(generated[row, step]) == expected
                tokens.append(expected)

    def test_a_row_that_has_ended_says_nothing_more(self, models, text):
        model = models["standard"]
        free = generate_with_thoughts(model, text, limit=6, stops=())
        stop = int(free[0, 1])
        generated = generate_with_thoughts(model, text, limit=6, stops=(stop,))
        first = free[0].tolist().index(stop)
        assert generated[0, : first + 1].tolist() == free[0, : first + 1].tolist()
        assert (generated[0, first:] == stop).all()

    def test_a_model_that_was_not_taught_to_think_says_so(self, models, text):
        model = models["llama"]
        settings, model.config.thoughts = model.config.thoughts, None
        try:
            with pytest.raises(ValueError, match="no talk head"):
                think(model, text)
        finally:
            model.config.thoughts = settings
