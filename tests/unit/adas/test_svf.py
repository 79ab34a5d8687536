"""Policy gradient of singular-value vectors: against enumeration, finite differences and what it is for."""

import itertools

import pytest
import torch
from torch import nn

from components.adas.svf import (
    ExpertVectors,
    against_base,
    answer_states,
    leave_one_out,
    matrices,
    of_answers,
    reinforce,
    rows,
    stored_expert,
    surrogate,
    svf_optimizer,
)
from components.shared.models.encoders import encode_ternary, stored
from components.shared.models.remote_code.coded import install
from components.shared.models.remote_code.experts import set_expert
from components.shared.models.remote_code.ternary import BitLinear
from components.shared.optim.schedule import warmup_cosine
from components.shared.tasks.item import Item
from components.shared.tasks.tokenizer import byte_tokenizer
from components.shared.training.loop import TrainingLoop
from tests.unit.shared.models.variants import cognate, some_ids

EOS = 0


def every_answer(vocabulary, limit):
    """All answers that sampling up to <eos> or `limit` tokens can yield."""
    for length in range(1, limit + 1):
        for head in itertools.product(range(1, vocabulary), repeat=length - 1):
            yield [*head, EOS]
            if length == limit:
                yield from ([*head, last] for last in range(1, vocabulary))


def test_the_estimators_mean_over_all_pairs_of_answers_is_the_exact_policy_gradient():
    torch.manual_seed(0)
    table = torch.randn(
        4, 4, dtype=torch.float64, requires_grad=True
    )  # logits of the next token after the last
    answers = list(every_answer(4, 2))
    prompt = [2]

    def log_p(answer):
        tokens = prompt + answer
        return sum(table[a].log_softmax(-1)[b] for a, b in itertools.pairwise(tokens))

    each = torch.stack([log_p(answer) for answer in answers])
    assert each.exp().sum().item() == pytest.approx(1.0)
    rewards = torch.tensor([1.0 if sum(answer) % 3 == 1 else -1.0 for answer in answers], dtype=torch.float64)
    (exact,) = torch.autograd.grad((each.exp() * rewards).sum(), table, retain_graph=True)

    mean = torch.zeros_like(table)
    for i, j in itertools.product(range(len(answers)), repeat=2):
        advantages = leave_one_out(rewards[[i, j]][None])[0]
        loss = surrogate(each[[i, j]], advantages)
        (gradient,) = torch.autograd.grad(-loss, table, retain_graph=True)
        mean += (each[i] + each[j]).exp().detach() * gradient
    torch.testing.assert_close(mean, exact)


def test_a_question_that_is_always_or_never_answered_rightly_teaches_nothing():
    rewards = torch.tensor([[1.0, 1, 1], [-1, -1, -1], [1, -1, -1]])
    advantages = leave_one_out(rewards)
    assert torch.equal(advantages[:2], torch.zeros(2, 3))
    assert torch.equal(advantages[2], torch.tensor([2.0, -1.0, -1.0]))


def test_log_probabilities_of_answers_are_those_of_one_row_at_a_time():
    model = cognate()
    prompts, answers = [[7, 8, 9], [5], [6, 7]], [[3, 258], [1, 2, 3, 258], [4]]
    batch = rows(prompts, answers, padding=258)
    hidden, head = answer_states(model, batch)
    log_p, apart = against_base(hidden, head, hidden, batch.targets[batch.predicts])
    together = of_answers(log_p, batch)
    torch.testing.assert_close(apart, torch.zeros(7))
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        logits = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        alone = sum(logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer))
        assert together[row].item() == pytest.approx(alone.item(), abs=1e-3)


def ternary(model):
    """The model with its linear layers as they are stored after phase bitnet: coded, with 8-bit activations."""
    for path in matrices(model):
        layer = model.get_submodule(path)
        bit = BitLinear(layer.in_features, layer.out_features)
        bit.weight = nn.Parameter(layer.weight.detach().clone())
        spec, code = stored("ternary", encode_ternary(bit.weight), bit.weight.shape, activations="int8")
        install(model, path, spec, code)
    return model


def test_gradients_pass_through_the_eight_bit_activations_of_a_ternary_model():
    model, ids = ternary(cognate()), some_ids(4, 9)
    vectors = ExpertVectors(matrices(model))
    set_expert(model, vectors.as_expert())
    model(ids, labels=ids).loss.backward()
    through = {path: z.grad.clone() for path, z in vectors.as_expert().items()}
    for path in matrices(model):
        model.get_submodule(path).spec.pop("activations")
    again = ExpertVectors(matrices(model))
    set_expert(model, again.as_expert())
    model(ids, labels=ids).loss.backward()
    for path, z in again.as_expert().items():  # of the same network without rounding
        assert torch.cosine_similarity(through[path], z.grad, dim=0) > 0.9, path


def test_gates_and_the_output_head_have_no_vectors():
    model = cognate("union", tie_word_embeddings=False)
    sizes = matrices(model)
    assert "lm_head" not in sizes and not any("gate" in path.split(".")[-1:] for path in sizes)
    assert sizes["model.layers.0.self_attn.q_proj"] == 32
    for path, size in sizes.items():
        assert size == min(model.get_submodule(path).weight.shape) >= 16


def trained(model, tokenizer, items, right, *, steps, lr, **more):
    """Expert vectors after some steps on the same questions, and what each step measured."""
    vectors = ExpertVectors(matrices(model))
    optimizer = {"svf": svf_optimizer(vectors, lr)}
    loop = TrainingLoop(vectors, optimizer, clip=1.0, where="adas.svf", fix="lower the rate")

    def loss_of(items):
        generator = torch.Generator().manual_seed(loop.step)
        return reinforce(model, tokenizer, vectors, items, right, generator=generator, **more)

    seen = [
        loop.update([items], loss_of, rate=warmup_cosine(step, steps, warmup=1)).metrics
        for step in range(steps)
    ]
    return vectors, seen


@pytest.mark.parametrize("make", [cognate, lambda: ternary(cognate())])
def test_reinforce_makes_an_answer_common_that_the_base_gives_at_times(make):
    model, tokenizer = make().requires_grad_(False), byte_tokenizer()
    items = [Item("toy", 1, "train", prompt, "") for prompt in ("ab=", "cd=", "ef=", "gh=")]

    def right(items, texts):
        return torch.tensor([bool(text) and ord(text[0]) % 2 == 0 for text in texts])

    vectors, seen = trained(
        model, tokenizer, items, right, steps=25, lr=0.1, samples=16, limit=1, kl_weight=0.0
    )
    success = [metrics["success"] for metrics in seen]
    assert 0.05 < success[0] < 0.8
    assert sum(success[-5:]) / 5 > success[0] + 0.15
    assert all(torch.equal(z, z.half()) or z.dtype == torch.float16 for z in stored_expert(vectors).values())


def test_the_divergence_is_zero_at_the_base_and_its_weight_holds_the_expert_back():
    model, tokenizer = cognate().requires_grad_(False), byte_tokenizer()
    items = [Item("toy", 1, "train", "ab=", "")]

    def after(weight):
        _, seen = trained(
            model,
            tokenizer,
            items,
            lambda items, texts: torch.tensor([len(text.encode()) % 2 == 0 for text in texts]),
            steps=12,
            lr=0.1,
            samples=16,
            limit=2,
            kl_weight=weight,
        )
        assert seen[0]["kl"] == pytest.approx(0, abs=1e-3)
        return seen[-1]["kl"]

    assert after(10.0) < 0.5 * after(0.0)
