"""What is stored is what was trained, in the bytes that five trits a byte take, and it trains on from there."""

import json

import pytest
import torch
from safetensors.torch import load_file

from components.bitnet.conversion import convert, linears_to_convert
from components.bitnet.findings import Losses, against_rounding, mean, sizes
from components.bitnet.placement import unnormed
from components.shared.models.half import halved, round_to_half
from components.shared.models.loading import load, save
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.tasks.tokenizer import byte_tokenizer

from .networks import IDS, cognate, llama

THOUGHTS = {"length": 4, "start": 259, "end": 260, "mixing": True}


def converted(model):
    torch.manual_seed(1)
    for parameter in model.parameters():  # as training leaves them: no ones, no zeros
        parameter.data += 0.01 * torch.randn_like(parameter)
    convert(model, dict.fromkeys(unnormed(model, linears_to_convert(model)), 0.7))
    return model


@pytest.fixture(params=["cognate", "llama"])
def model(request):
    if request.param == "llama":
        return converted(llama())
    return converted(cognate(memory=True, refinement=True, thoughts=THOUGHTS))


def test_the_stored_model_gives_exactly_the_logits_of_the_trained_one(model, tmp_path):
    round_to_half(model)
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    assert torch.equal(load(tmp_path / "m")[0](IDS).logits, model(IDS).logits)


def test_rounding_to_half_moves_the_logits_by_less_than_a_thousandth_of_their_power(model):
    before = model(IDS).logits
    round_to_half(model)
    after = model(IDS).logits
    assert not torch.equal(before, after)
    assert (after - before).square().mean() < 1e-3 * before.square().mean()


def test_rounding_to_half_leaves_the_trits_and_scales_alone(model):
    latents = {path: m.weight.clone() for path, m in model.named_modules() if isinstance(m, BitLinear)}
    round_to_half(model)
    assert all(torch.equal(model.get_submodule(path).weight, w) for path, w in latents.items())


def test_a_ternary_layer_takes_four_bytes_and_a_byte_for_every_five_weights(model, tmp_path):
    round_to_half(model)
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    stored = load_file(tmp_path / "m" / "model.safetensors")
    for path, layer in model.named_modules():
        if isinstance(layer, BitLinear):
            assert stored[f"{path}.code"].numel() == 4 + -(-layer.weight.numel() // 5)
            assert f"{path}.weight" not in stored
    assert {t.dtype for t in stored.values()} == {torch.uint8, torch.float16}


def test_the_sizes_are_those_of_the_files(model, tmp_path):
    plain = cognate()
    save(plain, byte_tokenizer(), tmp_path / "before", card="")
    round_to_half(model)
    save(model, byte_tokenizer(), tmp_path / "after", card="", half=True)
    measured = sizes(tmp_path / "before", tmp_path / "after")
    assert measured["before"] == {"F32": 4 * plain.num_parameters()}
    codes = [m.weight.numel() for m in model.modules() if isinstance(m, BitLinear)]
    assert measured["stored"]["ternary"] == sum(4 + -(-count // 5) for count in codes)
    rest = sum(p.numel() for p in model.parameters()) - sum(codes)
    assert measured["stored"]["F16"] == 2 * rest and set(measured["stored"]) == {"ternary", "F16"}
    assert sum(row["bytes"] for row in measured["per_tensor"]) == sum(measured["stored"].values())


def test_what_was_stored_in_half_trains_on_in_full_precision(model, tmp_path):
    round_to_half(model)
    save(model, byte_tokenizer(), tmp_path / "m", card="", half=True)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] == "float32"
    trainable, _ = load(tmp_path / "m", trainable=True)
    assert {p.dtype for p in trainable.parameters()} == {torch.float32}
    assert torch.equal(trainable(IDS).logits, model(IDS).logits)
    trainable.train()(IDS, labels=IDS).loss.backward()
    assert all(m.weight.grad.abs().sum() > 0 for m in trainable.modules() if isinstance(m, BitLinear))


@pytest.mark.parametrize("other", [[0.1], [1e5]], ids=["fine", "large"])
def test_a_file_is_in_sixteen_bits_only_where_they_hold_all_of_it_exactly(other):
    exact, whole = torch.tensor([0.5, -3.0]), torch.tensor([1])
    assert [t.dtype for t in halved({"exact": exact, "whole": whole}).values()] == [
        torch.float16,
        torch.int64,
    ]
    stored_tensors = halved({"exact": exact, "other": torch.tensor(other)})
    assert {t.dtype for t in stored_tensors.values()} == {torch.float32}


def test_a_tensor_beyond_the_range_of_sixteen_bits_stays_as_it_is():
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1e5, 0.1]]))
        layer.bias.fill_(0.1)
    round_to_half(layer)
    assert layer.weight.tolist() == [[1e5, torch.tensor(0.1).item()]]
    assert layer.bias.item() == torch.tensor(0.1).half().item()


def losses(*nats):
    return Losses(torch.tensor(nats, dtype=torch.float64).numpy(), torch.tensor([2] * len(nats)).numpy())


def test_the_mean_loss_is_over_tokens_and_not_over_items():
    assert mean(Losses(losses(2.0, 9.0).nats, torch.tensor([1, 9]).numpy())) == pytest.approx(1.1)


def test_the_claim_holds_only_where_the_interval_says_so():
    clear = against_rounding(losses(*[1.0, 1.2] * 20), losses(*[3.0, 3.1] * 20), seed=0)
    assert clear["holds"] and clear["value"] == pytest.approx(0.55) and clear["high"] < clear["control_value"]
    noise = against_rounding(losses(*[1.0, 3.0] * 20), losses(*[3.0, 1.1] * 20), seed=0)
    assert not noise["holds"]
