"""The network as a causal language model: caches, masks, padding, generation, loss."""

import copy

import pytest
import torch
import torch.nn.functional as F

from ..variants import VARIANTS, assert_close, cognate, some_ids

every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
def test_a_cache_fed_one_token_at_a_time_gives_the_full_forward(variant):
    model, ids = cognate(variant), some_ids(2, 21)
    full = model(ids).logits
    cache, steps = None, []
    for token in ids.split(1, dim=1):
        out = model(token, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        steps.append(out.logits)
    assert_close(torch.cat(steps, 1), full)


@every_variant
def test_a_cache_fed_in_uneven_pieces_gives_the_full_forward(variant):
    model, ids = cognate(variant), some_ids(2, 29)
    full = model(ids).logits
    cache, pieces = None, []
    for piece in ids.split([3, 13, 1, 1, 11], dim=1):
        out = model(piece, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    assert_close(torch.cat(pieces, 1), full)


@every_variant
def test_later_tokens_cannot_influence_earlier_logits(variant):
    model, ids = cognate(variant), some_ids(2, 24)
    changed = ids.clone()
    changed[:, 17:] = (changed[:, 17:] + 91) % 256
    torch.testing.assert_close(model(ids).logits[:, :17], model(changed).logits[:, :17], rtol=0, atol=1e-6)


@every_variant
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(variant, side):
    model, ids = cognate(variant), some_ids(1, 19)
    alone = model(ids).logits
    padding, ones = torch.full((1, 5), 256), torch.ones(1, 19, dtype=torch.long)
    pieces = (
        ((padding, ids), (0 * padding, ones)) if side == "left" else ((ids, padding), (ones, 0 * padding))
    )
    padded, mask = (torch.cat(pair, 1) for pair in pieces)
    other = some_ids(1, 24, seed=5)  # a row without padding beside it
    both = model(torch.cat([padded, other]), attention_mask=torch.cat([mask, torch.ones_like(other)])).logits
    assert_close(both[:1][mask.bool()], alone[0])
    assert_close(both[1:], model(other).logits)


@every_variant
def test_a_gap_of_padding_between_text_and_its_continuation_changes_nothing(variant):
    model, ids, gap = cognate(variant), some_ids(1, 20), torch.full((1, 4), 256)
    mask = torch.ones(1, 24, dtype=torch.long)
    mask[:, 13:17] = 0
    cache = model(
        torch.cat([ids[:, :13], gap], 1), attention_mask=mask[:, :17], use_cache=True
    ).past_key_values
    after = model(ids[:, 13:], attention_mask=mask, past_key_values=cache).logits
    assert_close(after, model(ids).logits[:, 13:])


@every_variant
def test_generation_with_a_cache_and_left_padding_equals_generation_without(variant):
    model = cognate(variant)
    ids, mask = some_ids(2, 13), torch.ones(2, 13, dtype=torch.long)
    mask[0, :5] = 0
    options = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None, "pad_token_id": 256}
    cached = model.generate(ids, attention_mask=mask, use_cache=True, **options)
    assert torch.equal(cached, model.generate(ids, attention_mask=mask, use_cache=False, **options))
    alone = model.generate(ids[:1, 5:], **options)
    assert torch.equal(cached[:1, 13:], alone[:, 8:])


@every_variant
def test_beam_search_reorders_every_slot_of_the_cache(variant):
    model, ids = cognate(variant), some_ids(2, 9)
    options = {
        "max_new_tokens": 12,
        "num_beams": 3,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 256,
    }
    assert torch.equal(model.generate(ids, **options), model.generate(ids, use_cache=False, **options))


@pytest.mark.parametrize("variant", ["standard", "reasoning"])
def test_a_causal_mask_given_in_four_dimensions_is_the_default_mask(variant):
    model, ids = cognate(variant), some_ids(2, 12)
    seen = torch.ones(12, 12, dtype=torch.bool).tril()[None, None]
    additive = torch.zeros(1, 1, 12, 12).masked_fill(~seen, torch.finfo(torch.float32).min)
    for mask in (seen, additive):
        torch.testing.assert_close(
            model(ids, attention_mask=mask).logits, model(ids).logits, rtol=1e-5, atol=1e-5
        )


@every_variant
def test_parallel_thoughts_equal_thoughts_one_at_a_time(variant):
    """Every position of a text thinks two tokens in parallel (a diagonal per step); each must read the text,
    and the memory, exactly as if that text prefix were alone."""
    model, text, thoughts = cognate(variant), some_ids(2, 19), some_ids(2, 38, seed=3).view(2, 2, 19)
    cache, logits = model(text, use_cache=True).past_key_values, []
    causal, diagonal = torch.ones(19, 19, dtype=torch.bool).tril(), torch.eye(19, dtype=torch.bool)
    for step in range(2):
        mask = torch.cat([causal, *[diagonal] * (step + 1)], dim=1)[None, None]
        position_ids = torch.arange(19)[None] + 1 + step
        out = model(thoughts[:, step], attention_mask=mask, position_ids=position_ids, past_key_values=cache)
        logits.append(out.logits)
    for at in (0, 6, 7, 8, 18):
        prefix = model(text[:, : at + 1], use_cache=True).past_key_values
        for step in range(2):
            seen = torch.ones(1, 1, 1, at + 2 + step, dtype=torch.bool)
            alone = model(thoughts[:, step, at : at + 1], attention_mask=seen, past_key_values=prefix).logits
            assert_close(logits[step][:, at], alone[:, 0])


def test_thoughts_do_not_write_the_memory_and_can_be_cropped_away():
    model, text = cognate("memory"), some_ids(2, 19)
    cache = model(text[:, :12], use_cache=True).past_key_values
    model(
        some_ids(2, 3, seed=4),
        attention_mask=torch.ones(1, 1, 3, 15, dtype=torch.bool),
        past_key_values=cache,
    )
    cache.crop(-3)
    after = model(text[:, 12:], past_key_values=cache).logits
    assert_close(after, model(text).logits[:, 12:])
    with pytest.raises(ValueError, match="cannot forget"):
        cache.crop(-1)


def test_a_mask_of_the_wrong_width_is_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 7\); expected \(batch, 9\)"):
        cognate()(some_ids(2, 9), attention_mask=torch.ones(2, 7))


def test_the_loss_is_the_mean_over_labelled_tokens_shifted_by_one():
    model, ids = cognate(), some_ids(2, 10)
    labels = ids.masked_fill(torch.arange(10) < 6, -100)
    expected = F.cross_entropy(model(ids).logits[:, 5:9].flatten(0, 1), ids[:, 6:].flatten())
    torch.testing.assert_close(model(ids, labels=labels).loss, expected)


def test_hidden_states_end_with_the_normed_state_that_the_head_reads():
    model, ids = cognate("union"), some_ids(1, 6)
    out = model(ids, output_hidden_states=True)
    assert len(out.hidden_states) == 1 + model.config.num_hidden_layers
    torch.testing.assert_close(model.head(out.hidden_states[-1]), out.logits)


def test_only_the_wanted_logits_are_computed():
    model, ids = cognate(), some_ids(2, 9)
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, model(ids).logits[:, -2:])
    columns = torch.tensor([1, 7])
    torch.testing.assert_close(model(ids, logits_to_keep=columns).logits, model(ids).logits[:, columns])


@every_variant
def test_in_half_precision_the_function_stays_near(variant):
    model, ids = cognate(variant), some_ids(2, 21)
    exact, half = model(ids).logits, copy.deepcopy(model).to(torch.bfloat16)(ids).logits
    assert half.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(half.float().flatten(), exact.flatten(), dim=0) > 0.98


def test_gradient_checkpointing_gives_the_same_gradients():
    ids, model = some_ids(2, 9), cognate().train()
    twin = copy.deepcopy(model)
    twin.gradient_checkpointing_enable()
    for each in (model, twin):
        each(ids, labels=ids).loss.backward()
    for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    "wrong", [{"num_attention_heads": 3}, {"memory_heads": 3}, {"num_key_value_heads": 3}]
)
def test_dimensions_that_do_not_divide_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        cognate(**wrong)
